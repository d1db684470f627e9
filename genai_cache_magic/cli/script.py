"""Executes a script in force: ``python -P -m genai_cache_magic.cli.script FILE [ARG ...]``, as ``python FILE`` would.

The package is imported before the script's first line, so that what the environment says of it holds for a script
that doesn't import it, or only after it has made its clients.
"""

from __future__ import annotations

import os
import runpy
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> None:
    """Execute the script that `arguments` begin with; the others are its own."""
    file = os.path.abspath(arguments[0])  # noqa: PTH100 - as python does, links stay
    sys.argv = [*arguments]
    if zipfile.is_zipfile(file):
        runpy.run_path(file, run_name="__main__")
        return
    sys.path.insert(0, os.path.dirname(os.path.realpath(file)))  # noqa: PTH120 - likewise, but here they don't
    script = ModuleType("__main__")
    loader = SourceFileLoader("__main__", file)
    script.__file__, script.__loader__ = file, loader
    sys.modules["__main__"] = script  # for good: threads that outlive it, and pools, look there
    sys.excepthook = _Hook(file)
    code = compile(loader.get_data(file), file, "exec", dont_inherit=True)
    exec(code, script.__dict__)  # noqa: S102 - what the user named


class _Hook:
    """Shows what ended the script as ``python FILE`` would: without what stands above it."""

    def __init__(self, file: str) -> None:
        self._file = file

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        while trace is not None and trace.tb_frame.f_code.co_filename != self._file:
            trace = trace.tb_next
        sys.__excepthook__(kind, error.with_traceback(trace), trace)


if __name__ == "__main__":
    main(sys.argv[1:])
