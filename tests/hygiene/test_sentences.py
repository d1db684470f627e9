"""What is told in a sentence is right for one as well as for many."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "genai_cache_magic"
PLURALS = re.compile(
    r" (\w+ ){0,2}(answers|batches|calls|characters|entries|files|invalidations|keys|machines|misses|models|pages"
    r"|questions|requests|runs|tags|texts|times|tokens|values)\b"
)


def counted_as_many(path: Path) -> list[str]:
    """Return the places where a number that may be 1 stands before a plural, outside of a choice between the two."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    chosen = {id(part) for node in ast.walk(tree) if isinstance(node, ast.IfExp) for part in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr) or id(node) in chosen:
            continue
        for number, word in zip(node.values, node.values[1:], strict=False):
            is_number = isinstance(number, ast.FormattedValue) and number.format_spec is not None
            if not is_number or ast.unparse(number.format_spec) not in {"f','", "f',d'", "f'd'"}:
                continue
            is_constant = isinstance(number.value, ast.Name) and number.value.id.isupper()
            if isinstance(word, ast.Constant) and PLURALS.match(word.value) and not is_constant:
                found.append(f"{path.name}:{node.lineno}: {{{ast.unparse(number.value)}}}{word.value}")
    return found


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir()))
def test_one_is_never_told_as_many(room):
    """A sentence with a count in it says "1 answer", and "1 differs"."""
    files = [path for path in (PACKAGE / room).rglob("*.py") if "demos" not in path.parts]
    assert [place for path in files for place in counted_as_many(path)] == []


def test_such_a_sentence_would_be_found(tmp_path):
    """Else the test above would hold of everything."""
    path = tmp_path / "said.py"
    path.write_text('f"{n:,} stored answers are old"\nf"{MOST:,} answers"\n"1 call" if n == 1 else f"{n:,} calls"\n')
    assert counted_as_many(path) == ["said.py:1: {n} stored answers are old"]
