"""A notebook under ``GENAI_CACHE_MODE=replay``: no cell reaches a model, with or without a magic."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def replaying(make_kernel, preamble):
    """A kernel of a process that only replays."""
    kernel = make_kernel(GENAI_CACHE_MODE="replay")
    loaded = kernel.run(f"%load_ext genai_cache_magic\n{preamble}")
    assert loaded.status == "ok", loaded.error
    return kernel


@pytest.mark.parametrize(
    "source",
    [
        "ask('plain')",
        "%%llm_cache --tag t\nask('with a magic')",
        "thread = threading.Thread(target=ask, args=('thread',))\nthread.start()\nthread.join()",
        "await asyncio.gather(aask('a'), aask('b'), return_exceptions=True)",
    ],
)
def test_every_cell_replays(replaying, server, source):
    """A cell in which a call is missing ends with that, says so below, and calls no model."""
    before = server.count
    ran = replaying.run(source)
    assert (ran.status, ran.reply.get("ename")) == ("error", "ReplayMiss")
    assert ran.badges[-1]["mode"] == "replay"
    assert server.count == before


def test_between_the_cells(replaying, server):
    """What runs when no cell does, such as a timer or a callback of the loop, replays too."""
    before = server.count
    replaying.run(
        "found = []\n"
        "def later():\n"
        "    try:\n        found.append(ask('later'))\n"
        "    except BaseException as error:\n        found.append(type(error).__name__)\n"
        "import contextvars\n"
        "_ = contextvars.Context().run(asyncio.get_running_loop().call_later, 0.2, later)",
    )
    ran = replaying.run("for _ in range(100):\n    await asyncio.sleep(0.05)\n    if found: break\nfound")
    assert ran.result == "['ReplayMiss']"
    assert server.count == before


def test_silent_cells(replaying, server, tmp_path):
    """What ``%run`` runs silently replays."""
    script = tmp_path / "x.ipy"
    script.write_text("ask('from a script')\n")
    before = server.count
    ran = replaying.run(f"%run {script}")
    assert "ReplayMiss" in ran.error + ran.text
    assert server.count == before


def test_unloading_ends_it(make_kernel, preamble, server):
    """Without the extension the process is as any other."""
    kernel = make_kernel(GENAI_CACHE_MODE="replay")
    kernel.run(f"%load_ext genai_cache_magic\n{preamble}\n%unload_ext genai_cache_magic")
    before = server.count
    assert kernel.run("ask('unloaded')").status == "ok"
    assert server.count == before + 1
