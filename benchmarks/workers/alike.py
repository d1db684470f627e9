"""How a worker of the row `semantic` is spoken to: JSON lines over its standard streams. Standard library and numpy.

Texts and their vectors are the same for all: they lie in ``texts.json`` and ``vectors.npy`` of the directory that is
the first argument. A worker knows how to add a text, whose value it is itself, and how to find one.

    {"do": "add", "texts": T}              ->  {"seconds": of the processor for each, on average}
    {"do": "find", "texts": T, "bar": B}   ->  {"seconds": the same, "found": for each the value, or null}

B is the least similarity (the cosine), or null for the cache's own bar. What fails is answered with {"error": why}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACE = Path(sys.argv[1])
_VECTORS: dict[str, Any] = dict(
    zip(json.loads((_PLACE / "texts.json").read_text(encoding="utf-8")), np.load(_PLACE / "vectors.npy"), strict=True)
)
DIMENSION = 384


def vector_of(text: str) -> Any:
    """Return the vector of a text, shape (384,), float32, of length 1."""
    return _VECTORS[text]


def serve(
    add: Callable[[str], object],
    find: Callable[[str, float | None], str | None],
    *packages: str,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Answer commands until the input ends; `clock` tells what the processor worked for this cache until now [s]."""
    # Libraries print what they like: they get standard error, the protocol a descriptor of its own.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _say(out, {"packages": {name: version(name) for name in packages}})
    for line in sys.stdin:
        command = json.loads(line)
        texts = command["texts"]
        try:
            start = clock()
            if command["do"] == "add":
                found = [add(text) for text in texts]
            else:
                found = [find(text, command["bar"]) for text in texts]
            said = {"seconds": (clock() - start) / len(texts)}
            if command["do"] == "find":
                said["found"] = found
        except Exception as exc:  # noqa: BLE001 - whatever a peer fails of is what is reported
            said = {"error": f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}"}
        _say(out, said)


def _say(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()
