"""Loading and unloading: twice is once, nothing stays behind, and only bad syntax stops it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.service

STATE = """
def state():
    shell = get_ipython()
    import threading, concurrent.futures
    hung = (shell.input_transformers_cleanup, shell.Completer.custom_matchers, *shell.events.callbacks.values())
    kept = [len(things) for things in hung]
    magics = {kind: sorted(names) for kind, names in shell.magics_manager.magics.items()}
    patched = [threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit]
    try:
        import httpx2
        patched += [httpx2.Client.send, httpx2.AsyncClient.send, httpx2.Client._send_single_request]
    except ImportError:
        pass
    registered = 'CacheMagics' in shell.magics_manager.registry
    targets = sorted(shell.kernel.comm_manager.targets)
    names = [f.__module__ + f.__qualname__ + str(hasattr(f, '__wrapped__')) for f in patched]
    return kept, magics, targets, names, registered
"""


@pytest.fixture(scope="module")
def fresh(make_kernel):
    """A kernel without the extension."""
    return make_kernel()


def test_unloading_leaves_nothing_behind(fresh, preamble):
    """Magics, transforms, events, completions and patches are as before the first load, and it can be loaded again."""
    fresh.run(preamble)
    fresh.run(STATE + "\nimport httpx2\nbefore = state()")
    fresh.run("%load_ext genai_cache_magic")
    assert fresh.run("%%llm_cache\nask('loaded')").counts == (0, 1)
    assert fresh.run("state() == before").result == "False"
    fresh.run("%unload_ext genai_cache_magic")
    assert fresh.run("state() == before").result == "True"
    assert fresh.run("%%llm_cache\nask('unloaded')").badges == []
    fresh.run("%load_ext genai_cache_magic")
    assert fresh.run("%%llm_cache\nask('loaded')").counts == (1, 0)


def test_loading_twice_is_loading_once(fresh):
    """One badge, one transform, however often it is loaded or reloaded."""
    fresh.run("%load_ext genai_cache_magic\n%load_ext genai_cache_magic\n%reload_ext genai_cache_magic")
    fresh.run("import genai_cache_magic\ngenai_cache_magic.load_ipython_extension(get_ipython())")
    assert len(fresh.run("%%llm_cache\nask('twice')").badges) == 1


def test_unloading_ends_what_was_on(fresh, server):
    """A notebook-wide scope doesn't outlive the extension."""
    fresh.run("%load_ext genai_cache_magic")
    fresh.run("%llm_cache on")
    assert fresh.run("ask('on until unloaded')").counts == (0, 1)
    before = server.count
    fresh.run("%unload_ext genai_cache_magic\nask('on until unloaded')")
    fresh.run("ask('on until unloaded')")
    assert server.count == before + 2
    fresh.run("%load_ext genai_cache_magic")
    assert fresh.run("ask('on until unloaded')").badges == []


def test_on_in_the_loading_cell_holds_at_once(make_kernel, preamble):
    """The cell that loads and turns it on is itself covered."""
    kernel = make_kernel()
    kernel.run(preamble)
    ran = kernel.run("%load_ext genai_cache_magic\n%llm_cache on\nask('same cell')")
    assert ran.status == "ok", ran.error
    assert ran.counts == (0, 1)
    assert kernel.run("ask('same cell')").counts == (1, 0)


def test_a_file_that_is_not_toml_stops_the_load(make_kernel):
    """The message names the file; nothing is half loaded."""
    kernel = make_kernel(files={"genai-cache.toml": "ttl = = 3"})
    ran = kernel.run("%load_ext genai_cache_magic")
    assert ran.reply["ename"] == "ConfigurationError"
    assert "genai-cache.toml" in ran.error
    assert kernel.run("'llm_cache' in get_ipython().magics_manager.magics['cell']").result == "False"


def test_a_wrong_setting_is_said_when_it_is_used(make_kernel, preamble):
    """Loading reads no values; the first cell that needs them says what is wrong, in one line."""
    kernel = make_kernel(files={"genai-cache.toml": "ttl = 'soon'"})
    assert kernel.run("%load_ext genai_cache_magic").status == "ok"
    ran = kernel.run("%%llm_cache\n1")
    assert ran.reply["ename"] == "ConfigurationError"
    assert "ttl" in ran.error


def test_a_cache_that_cannot_be_opened_costs_no_call(make_kernel, preamble):
    """Calls go on to the model, and the badge says what is the matter."""
    kernel = make_kernel(files={"blocked": "a file where a directory should be"}, GENAI_CACHE_DIR="blocked")
    kernel.run(f"%load_ext genai_cache_magic\n{preamble}")
    ran = kernel.run("%%llm_cache --quiet\nask('blocked')")
    assert (ran.status, ran.result) == ("ok", "'[simulated]'")
    (badge,) = ran.badges
    assert (badge["bypassed"], badge["hits"], badge["misses"]) == (1, 0, 0)
    assert badge["troubles"]


@pytest.mark.parametrize(("status", "badges"), [("static", 1), ("off", 0), ("auto", 1)])
def test_the_status_setting_is_obeyed(make_kernel, preamble, status, badges):
    """``off`` shows nothing; the others show the badge."""
    kernel = make_kernel(GENAI_CACHE_STATUS=status)
    kernel.run(f"%load_ext genai_cache_magic\n{preamble}")
    assert len(kernel.run("%%llm_cache\nask('status')").badges) == badges


def test_a_status_that_is_not_there_is_refused(make_kernel):
    """It is named, not ignored."""
    kernel = make_kernel(GENAI_CACHE_STATUS="widgets")
    kernel.run("%load_ext genai_cache_magic")
    ran = kernel.run("%%llm_cache\n1")
    assert ran.reply["ename"] == "ConfigurationError"
    assert "status" in ran.error


def test_a_process_that_only_replays_needs_no_key_from_the_start(make_kernel):
    """With GENAI_CACHE_MODE=replay a client can be made in any cell; unloading takes the placeholder back."""
    kernel = make_kernel(GENAI_CACHE_MODE="replay", OPENAI_API_KEY="")
    kernel.run("import os, openai\nos.environ.pop('OPENAI_API_KEY', None)")
    kernel.run("%load_ext genai_cache_magic")
    assert "OpenAI" in kernel.run("openai.OpenAI()").result
    kernel.run("%unload_ext genai_cache_magic")
    assert kernel.run("'OPENAI_API_KEY' in os.environ").result == "False"


def test_reloading_keeps_what_is_on(make_kernel, preamble):
    """``%reload_ext`` leaves ``%llm_cache on`` in force, options and all, for the rest of its cell too."""
    kernel = make_kernel()
    kernel.run(f"%load_ext genai_cache_magic\n{preamble}\n%llm_cache on --tag kept")
    ran = kernel.run("%reload_ext genai_cache_magic\nask('reloaded')")
    assert [badge["tags"] for badge in ran.badges] == [["kept"]]
    assert kernel.run("ask('reloaded')").counts == (1, 0)
    kernel.run("%llm_cache off\n%reload_ext genai_cache_magic")
    assert kernel.run("ask('reloaded')").badges == []


def test_autoreload_does_no_harm(make_kernel, preamble):
    """``%autoreload`` leaves our files alone, whatever was loaded first: they hold what a process has one of."""
    kernel = make_kernel()
    kernel.run(f"%load_ext autoreload\n%autoreload 2\n%load_ext genai_cache_magic\n{preamble}")
    kernel.run("%%llm_cache\nask('autoreload')")
    kernel.run("%llm_cache on --tag kept")
    changed = (
        "import sys\nfrom genai_cache_magic.jupyter.cell import CellScopes as before\n"
        "reloader = get_ipython().find_line_magic('autoreload').__self__._reloader\n"
        "for name in list(sys.modules):\n"
        "    if name.startswith('genai_cache_magic'):\n"
        "        reloader.modules_mtimes[name] = 0"
    )
    assert kernel.run(changed).status == "ok"
    for source in ("ask('autoreload')", "%%llm_cache\nask('autoreload')", "%reload_ext genai_cache_magic"):
        ran = kernel.run(source)
        assert (ran.status, "rror" in ran.text) == ("ok", False), ran.error + ran.text
    assert kernel.run("ask('autoreload')").counts == (1, 0)
    assert kernel.run("from genai_cache_magic.jupyter import cell\ncell.CellScopes is before").result == "True"
    ran = kernel.run("%unload_ext genai_cache_magic\n1")
    assert (ran.status, ran.result, ran.text) == ("ok", "1", ""), ran.error
