"""The sequence of ``random`` is the user's: whoever seeds it gets what they would get without us."""

from __future__ import annotations

import ast
import random
import threading
from pathlib import Path

import genai_cache_magic
from genai_cache_magic import create_cache
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.disk.locks import FileLock

PACKAGE = Path(genai_cache_magic.__file__).parent
OWN = {"Random", "SystemRandom"}


def uses_of_the_shared_sequence(path):
    """Return the lines of a file that use the module's own functions, which draw from one sequence."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from (f"{path.name}:{node.lineno}" for name in node.names if name.name not in OWN)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            yield from [] if node.attr in OWN else [f"{path.name}:{node.lineno}"]


def is_parameter(path):
    return path.parent.name == "crypto" or path.parent.parent.name == "crypto"  # ``random`` is os.urandom there


def test_no_module_draws_from_it():
    files = [path for path in PACKAGE.rglob("*.py") if "testing" not in path.parts and not is_parameter(path)]
    assert len(files) > 100
    assert [use for path in files for use in uses_of_the_shared_sequence(path)] == []


def test_using_a_cache_leaves_it_alone(tmp_path):
    """Failures, waits for locks and writers that meet included: those are where pauses are drawn."""
    before = random.getstate()
    with create_cache(dir=tmp_path / "cache", key_file=tmp_path / "key") as cache:

        def invalidate():
            for number in range(20):
                cache.set(str(number), number, tags=("tag",))
                cache.invalidate_tag("tag")

        threads = [threading.Thread(target=invalidate) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        breaker = Breaker("tier")
        for _ in range(10):
            breaker.trip(StoreUnavailable("away"))
        held, other = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
        assert held.try_acquire()
        assert not other.acquire(timeout_s=0.05)
        held.release()
    assert random.getstate() == before
