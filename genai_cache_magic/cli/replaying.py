"""Executing a notebook, or a script, with the answers of a run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT: Final = "genai_cache_magic.cli.script"
_UNFIT: Final = re.compile(r"[^\w.-]+")
_LONGEST_NAME: Final = 80


def bundle_in(folder: str, name: str) -> Path:
    """Return where in `folder` the answers of the run `name` are put.

    Under the run's name: it stands in the executed notebook, where no place of this machine belongs.
    """
    return Path(folder, f"{_UNFIT.sub('-', name)[:_LONGEST_NAME]}.run")


def replay(  # noqa: PLR0913 - what, with what, and where to
    bundle: Path,
    file: Path,
    arguments: Sequence[str],
    output: Path | None,
    *,
    namespace: str,
    prints_to: int | None = None,
) -> int:
    """Execute `file` with the answers in `bundle`, those of a run, and what else the cache holds; no model is called.

    Nor is one by a file that knows nothing of this package. Returns its exit code. A script gets the `arguments`, and
    prints where we do, or to the descriptor `prints_to`.

    Raises
    ------
    ConfigurationError
        There is no such file, nothing that executes notebooks, or a notebook was given arguments.
    """
    if not file.is_file():
        raise ConfigurationError(f"there is no file {file}: name the notebook, or the script, of the run")
    force = {
        "GENAI_CACHE_MODE": "replay",
        "GENAI_CACHE_RUN_FILE": str(bundle),
        "GENAI_CACHE_NAMESPACE": namespace,
    }
    environment = {**os.environ, **force}
    if file.suffix != ".ipynb":
        command = [sys.executable, "-P", "-m", _SCRIPT, str(file), *arguments]
        return subprocess.run(command, env=environment, stdout=prints_to, check=False).returncode  # noqa: S603 - what the user named
    if arguments:
        raise ConfigurationError(f"{file.name} is a notebook, which takes no arguments: leave {arguments[0]!r} out")
    return _notebook(file, output, environment)


def _notebook(file: Path, output: Path | None, environment: dict[str, str]) -> int:
    try:
        import nbformat
        from nbclient.exceptions import CellExecutionError

        from genai_cache_magic.cli.kernels import InForce
    except ImportError as exc:
        raise ConfigurationError("a notebook is executed by nbclient: pip install nbclient ipykernel") from exc
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    client = InForce(notebook, timeout=None, resources={"metadata": {"path": str(file.absolute().parent)}})
    try:
        client.execute(env=environment)
    except CellExecutionError as exc:
        sys.stderr.write(f"genai-cache: {file.name} failed: {exc.ename}: {exc.evalue}\n")
        return 1
    finally:
        if output is not None:
            nbformat.write(notebook, output)  # type: ignore[no-untyped-call]
    return 0
