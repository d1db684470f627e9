"""``Cache.map`` in a real kernel that is interrupted: what was finished is kept, and the next run computes the rest."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.service

MAPS = """
import asyncio, os, signal
from genai_cache_magic import create_cache
cache, asked = create_cache("memory"), []
def interrupt():
    if asked.count(3) == 1:
        os.kill(os.getpid(), signal.SIGINT)
def work(item):
    asked.append(item)
    if item == 3:
        interrupt()
    return item
async def work_async(item):
    asked.append(item)
    if item == 3 and asked.count(3) == 1:
        interrupt()
        await asyncio.Event().wait()
    return item
"""


@pytest.mark.parametrize(
    ("cell", "begun"),
    [
        ("cache.map(work, range(6), max_workers=1)", {0, 1, 2}),
        ("await cache.map(work_async, range(6), max_workers=1)", {0, 1, 2}),
    ],
    ids=["threads", "tasks"],
)
def test_the_stop_button_keeps_what_was_finished(kernel, cell, begun):
    """In a cell with await, too; the cell ends as an interrupted one, and says how far it came."""
    kernel.run(MAPS)
    ran = kernel.run(cell)
    assert ran.status == "error"
    assert "KeyboardInterrupt" in ran.error or "CancelledError" in ran.error
    assert "llm_cache map: stopped at" in str(ran.outputs)
    again = kernel.run(cell)
    assert again.result == "[0, 1, 2, 3, 4, 5]", again.error
    assert kernel.run(f"[asked.count(item) for item in {sorted(begun)}]").result == "[1, 1, 1]"
