"""All parsers under atheris, which follows what its inputs reach: `guided.py CORPUS [options of libFuzzer]`.

The first byte of an input says which parser it is for. A raise that a parser does not promise ends the run with another
exit code, says which it was, and leaves the input in the working directory.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["genai_cache_magic"]):
    import parsers


def main() -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    corpus, *options = sys.argv[1:]
    every = parsers.parsers()
    for kind, parser in enumerate(every):
        for number, seed in enumerate(parser.seeds):
            Path(corpus, f"seed-{kind}-{number}").write_bytes(bytes([kind]) + seed)

    def one(data: bytes) -> None:
        if data:
            parser = every[data[0] % len(every)]
            with contextlib.suppress(*parser.refusals):
                parser.parse(data[1:])

    atheris.Setup([sys.argv[0], corpus, *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
