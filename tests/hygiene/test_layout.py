"""The major version of how names are made at rest stands in one place: whoever raises it moves all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import genai_cache_magic

PACKAGE = Path(genai_cache_magic.__file__).parent
NAME = re.compile(r"genai-cache[:/]\d")
DIRECTORY = re.compile(r"v\d+")


def versions_spelled_out(text):
    """Return the lines of a program that say a version of the layout themselves; docstrings may."""
    tree = ast.parse(text)
    sentences = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in sentences:
            yield from [node.lineno] if NAME.search(node.value) else []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield from [node.lineno] if DIRECTORY.fullmatch(str(node.right.value)) else []


def test_no_module_spells_it_out():
    """Neither in names of Redis and Blob nor in directories."""
    files = [path for path in PACKAGE.rglob("*.py") if "testing" not in path.parts]
    found = {str(path.relative_to(PACKAGE)): [*versions_spelled_out(path.read_text("utf-8"))] for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_it_would_be_seen():
    """In a text, in an f-string and in a path."""
    text = '"""genai-cache:1"""\na = "genai-cache:1:x"\nb = f"genai-cache/2/{a}"\nc = p / "v1"'
    assert sorted(versions_spelled_out(text)) == [2, 3, 4]
