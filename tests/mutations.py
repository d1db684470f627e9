"""Changes of bytes, the same every time, that find what a parser does not expect."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

Edit = tuple[int, int, int]

HOSTILE_JSON: list[Any] = [
    None, True, 0, -1, 2**63, 2**200, 1e308, -0.0, float("nan"), float("inf"),
    "", "\0", "\ud800", "x" * 300, "9" * 400, [], {}, [[]], [None], {"": None}, [{}] * 3, {"a": {"a": {"a": []}}},
    functools.reduce(lambda inner, _: [inner], range(60), []),
]  # fmt: skip


def mutated(seed: bytes, edits: list[Edit]) -> bytes:
    """Return `seed` changed by each edit (kind, place, value) in turn: the same every time."""
    data = seed
    for kind, place, value in edits:
        at = place % (len(data) + 1)
        length = value % 17
        extreme = (0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, value)[value % 7] & 0xFFFFFFFF
        match kind % 7:
            case 0 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << value % 8]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:at] + value.to_bytes(8) + data[at:]
            case 3:
                data = data[:at] + data[at + length :]
            case 4:
                data = data[:at] + data[at : at + length] * 2 + data[at + length :]
            case 5:
                data = data[:at] + extreme.to_bytes(4) + data[at + 4 :]
            case 6:
                data = _grafted(data, place, value)
    return data


def _grafted(data: bytes, place: int, value: int) -> bytes:
    """Put something hostile in the place of some value of a JSON text, or of a line of them."""
    lines = data.split(b"\n")
    line = lines[place % len(lines)]
    prefix, text = (line[:6], line[6:]) if line.startswith(b"data: ") else (b"", line)
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return data
    nodes: list[tuple[Any, Any]] = [([tree], 0)]
    holder = nodes[0][0]
    for container, key in nodes:
        inner = container[key]
        if isinstance(inner, (dict, list)) and len(nodes) < 500:
            nodes += [(inner, name) for name in (inner if isinstance(inner, dict) else range(len(inner)))]
    container, key = nodes[place // len(lines) % len(nodes)]
    container[key] = HOSTILE_JSON[value % len(HOSTILE_JSON)]
    lines[place % len(lines)] = prefix + json.dumps(holder[0]).encode()
    return b"\n".join(lines)


def random_edits(chance: random.Random) -> list[Edit]:
    """Return a few edits."""
    return [
        (chance.randrange(7), chance.randrange(1 << 16), chance.randrange(1 << 32)) for _ in range(chance.randint(1, 6))
    ]
