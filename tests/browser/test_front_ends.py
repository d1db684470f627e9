"""JupyterLab and Notebook 7 as they come, with the extension: the view under cells, commands, status bar, sidebar."""

from __future__ import annotations

import json
import re
from typing import Any

import nbformat
import pytest
import requests
from browser_notebooks import IDLE, SETUP, notebook, opened, with_report
from browsers import serious
from jupyter_servers import API, JupyterServer

from genai_cache_magic.jupyter.shown.report import Report
from genai_cache_magic.testing.model_server import SimulatedModelServer

pytestmark = pytest.mark.service

ONE = '%%llm_cache --tag first\n_ = [ask(f"question {n}") for n in range(3)]'
OTHER = '%%llm_cache\n_ = [ask(f"other {n}") for n in range(2)]'
MIXED = '%%llm_cache\n_ = [ask(f"other {n}") for n in range(4)]'
SLOW = '%%llm_cache --mode refresh\n_ = ask("slow")'
STREAMED = """%%llm_cache
for piece in client.chat.completions.create(
    model="gpt-4.1-mini", messages=[{"role": "user", "content": "in pieces"}], stream=True):
    pass"""
ENABLE = "jupyter server extension enable genai_cache_magic"
LOOKED_AT = "() => document.dispatchEvent(new Event('visibilitychange'))"
SAVED_ENTRY = "0123456789abcdef"
LONG_KEY = " ".join(f"word {n}" for n in range(300))


@pytest.fixture(scope="module")
def model():
    with SimulatedModelServer() as running:
        yield running


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory, model):
    """One server for both front ends; the model's tokens have prices."""
    origins = {model.openai_url: {"provider": "openai", "alias": "https://simulated.invalid"}}
    running = JupyterServer(
        tmp_path_factory.mktemp("jupyter"),
        "jupyterlab",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--LabApp.news_url=",
        also=("notebook",),
        GENAI_CACHE_ORIGINS=json.dumps(origins),
    )
    yield running
    running.close()


@pytest.fixture
def front_end(chromium, jupyter):
    """Open a notebook that holds the given cells, in a front end."""

    def open_it(app: str, made: nbformat.NotebookNode, name: str, **how: Any):
        nbformat.write(made, jupyter.notebooks / name)
        return opened(chromium, jupyter, app, name, **how)

    return open_it


def report(**more: Any) -> dict[str, Any]:
    """Return a report as a saved notebook holds it."""
    calls = [f"{SAVED_ENTRY} 10 20 0.001"]
    return {
        "version": 3, "headline": "1 hit", "mode": "use", "run": "", "tags": [], "hits": 1, "misses": 0, "bypassed": 0,
        "refused": 0, "errors": 0, "open": 0, "unrecognised": {}, "troubles": [], "hints": [],
        "totals": {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": 2, "spent_usd": "0", "saved_usd": "1"},  # noqa: E501
        "kinds": [{"outcome": "hit", "tier": "L1", "provider": "openai.chat", "model": "gpt-4.1-mini", "calls": calls}],
        "store": "00000000000000ff", **more,
    }  # fmt: skip


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_miss_then_hits_then_fresh_again(front_end, jupyter, model, app):
    """Run all twice, press buttons while another cell keeps the kernel busy, and find nothing of that in the file."""
    cells = (
        SETUP.format(url=model.openai_url),
        f"salt = {app!r}\n" + "print(salt)",
        ONE.replace("question", app),
        SLOW,
    )
    with front_end(app, notebook(*cells), f"run-{app}.ipynb") as page:
        page.command("notebook:run-all-cells")
        page.expect(page.summary(2), "3 misses")
        page.expect(page.summary(3), "1 miss")
        page.command("notebook:run-all-cells")
        page.expect(page.summary(2), "3 hits")
        page.expect(page.summary(3), "1 miss")
        asked = model.count
        model.hold()
        try:
            page.select(3)
            page.command("notebook:run-cell")
            assert model.wait_for(asked + 1, 60)
            # The kernel is in the middle of a call now, and stays there.
            page.press(2, "Invalidate this cell")
            page.expect(page.report(2).locator(".gcm-asking"), "3 of ")
            page.press(2, "Invalidate 3 answers")
            page.expect(page.report(2).locator(".gcm-said"), "made invalid, on this machine alone")
            assert model.count == asked + 1
        finally:
            model.release()
        page.press(2, "Re-run fresh")
        page.expect(page.summary(2), "3 misses")
        page.press(2, "Show 3 calls")
        refused = []
        page.page.route(f"**/{API}explain*", lambda route: (refused.append(route), route.abort()))
        # Calls stand in no order of time: that which was asked first of the three has nothing to be compared with.
        for number in (1, 2, 3):
            before = -1
            while before != len(refused):  # a kernel that is busy just then is not asked, but the server
                if before >= 0:
                    page.press(2, f"Explain call {number}")  # away again
                page.page.wait_for_function(IDLE)
                before = len(refused)
                page.press(2, f"Explain call {number}")
                page.expect(page.report(2).locator(".gcm-explained").nth(number - 1), "invalidated by cell")
        explained = page.report(2).locator(".gcm-explained")
        told = sorted(text.strip() for text in explained.all_inner_texts())
        compared = [text for text in told if "body.messages[0]" in text]
        assert sorted(re.findall(rf"\n\+ ?{app} (\d)$", "\n".join(compared), re.MULTILINE)) == ["1", "2"]
        (alone,) = [text for text in told if text not in compared]
        assert alone.endswith("nothing like it is stored")
        page.command("genai-cache:show-sidebar")
        page.expect(page.page.locator(".gcl-sidebar"), "Namespace default")
        page.page.locator(".gcl-sidebar svg.gcl-chart").wait_for()
        page.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    saved = json.loads((jupyter.notebooks / f"run-{app}.ipynb").read_text())
    assert "latency" not in json.dumps(saved["cells"][2]["outputs"])
    assert str(jupyter.home) not in json.dumps(saved)
    assert "widgets" not in saved["metadata"]


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_sums_of_money_are_not_typeset(front_end, app):
    """What stands between two `$` of any other output is mathematics there; a report of ours is words."""
    said = "spent at least $0.10 (price of 2 calls unknown), saved $0.20"
    forms = [Report(said, notes=(r"\(x\)",)).bundle(), {"text/html": "<p>between $x$ and $y$</p>"}]
    outputs = [nbformat.v4.new_output("display_data", data=form) for form in forms]
    with front_end(app, notebook("pass", outputs={0: outputs}), f"money-{app}.ipynb") as page:
        page.page.locator(".jp-OutputArea mjx-container").nth(1).wait_for()  # of the other one
        assert page.page.locator(".genai-cache mjx-container").count() == 0
        page.expect(page.page.locator(".genai-cache"), said)


def test_the_toolbar_of_a_cell_and_another_kernel(front_end, model):
    """Its buttons stand on cells with a report alone; what one notebook fetched is a hit in the next."""
    with front_end("lab", notebook(SETUP.format(url=model.openai_url), OTHER), "toolbar.ipynb") as page:
        for words in ("2 misses", "2 hits"):
            page.command("notebook:run-all-cells")
            page.expect(page.summary(1), words)
        invalidate = page.page.locator('.jp-cell-toolbar [data-command="genai-cache:invalidate-cell"]')
        page.select(0)
        invalidate.wait_for(state="hidden")
        page.select(1)
        invalidate.wait_for()
        invalidate.click()
        dialog = page.page.locator(".jp-Dialog")
        page.expect(dialog, "Invalidate 2 answers?")
        dialog.get_by_role("button", name="Cancel").click()
        invalidate.click()
        dialog.get_by_role("button", name="Invalidate").click()
        page.expect(page.page.locator(".Toastify"), "2 of ")
        page.page.locator('.jp-cell-toolbar [data-command="genai-cache:rerun-fresh"]').click()
        page.expect(page.summary(1), "2 misses")
    with front_end("lab", notebook(SETUP.format(url=model.openai_url), MIXED), "second.ipynb") as page:
        page.command("notebook:run-all-cells")
        page.expect(page.summary(1), "2 hits, 2 misses")


def test_the_sidebar_and_the_status_bar(front_end, model, axe):
    """What is stored, by tag and model, what it cost; a tag is invalidated once it is counted."""
    cells = (SETUP.format(url=model.openai_url), ONE.replace("question", "sidebar").replace("first", "side"))
    with front_end("lab", notebook(*cells), "sidebar.ipynb") as page:
        page.command("notebook:run-all-cells")
        page.expect(page.summary(1), "3 misses")
        status = page.page.locator(".gcl-status button")
        page.expect(status, "saved")
        status.click()
        bar = page.page.locator(".gcl-sidebar")
        page.expect(bar, "Namespace default")
        page.expect(bar, "Today: $")
        page.expect(bar.locator(".gcl-models"), "gpt-4.1-mini")
        bar.locator("svg.gcl-chart").wait_for()
        bar.get_by_role("button", name="side", exact=True).click()
        page.expect(bar, "3 answers")
        line = bar.locator(".gcl-entries li").first
        line.get_by_role("button", name="Show").click()
        page.expect(line.locator("pre").last, "chat.completion")
        page.expect(line, "sidebar 2")
        bar.get_by_role("button", name="Invalidate tag side").click()
        bar.locator(".gcl-asking:visible").wait_for()
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            page.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
            page.page.locator(f"body[data-jp-theme-name='{theme}']").wait_for(state="attached")
            assert serious(page.page, axe, (".gcl-sidebar", ".gcl-status", ".gcm")) == []
        page.expect(bar.locator(".gcl-asking:visible"), "3 of ")
        bar.get_by_role("button", name="Invalidate 3 answers").click()
        page.expect(bar.locator(".gcl-said"), "made invalid")
        page.expect(bar, "No answer fits")
        bar.get_by_label("Search names").fill("gpt-4.1-mini:ffff")
        page.expect(bar, "No answer fits")


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_saved_notebook_without_a_kernel(front_end, jupyter, app):
    """Untrusted, never run here: the view is drawn, not the static one; buttons refuse another cache by a sentence."""
    with front_end(app, with_report(report()), f"saved-{app}.ipynb", color_scheme="dark") as page:
        page.expect(page.summary(0), "1 hit")
        assert page.page.get_by_text("the static one").count() == 0
        page.press(0, "Invalidate this cell")
        page.expect(page.report(0).locator(".gcm-said"), "another cache")
        theme = "JupyterLab Dark"
        page.page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", theme)
        page.page.locator('.gcm[data-theme="dark"]').wait_for()
        color = page.summary(0).evaluate("node => getComputedStyle(node).color")
        assert min(map(int, re.findall(r"\d+", color)[:3])) > 150  # bright on dark


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_a_similar_answer_of_a_saved_notebook_is_invalidated_where_it_lies(front_end, jupyter, app):
    """By the command and by the view, if the report says under which id; without that there is nothing to be found."""
    from genai_cache_magic import create_cache

    places = {"dir": jupyter.environment["GENAI_CACHE_DIR"], "key_file": jupyter.environment["GENAI_CACHE_KEY_FILE"]}
    with create_cache(**places) as cache:
        cache.mset({f"{app} {n}": n for n in range(2)})
        found = requests.get(f"{jupyter.url}{API}entries?search={app} ", headers=jupyter.with_token, timeout=60).json()
        given = {item["name"]: item["id"] for item in found["entries"]}
        kind = {"outcome": "similar", "provider": "openai.chat", "model": "gpt-4.1-mini", "reason": "similar 0.97"}
        made = [report(hits=0, similar=1, store=found["store"]) for _ in range(3)]
        for one, words in zip(made, ("", f" 0 0 {given[f'{app} 0']}", f" 0 0 {given[f'{app} 1']}"), strict=True):
            one["kinds"] = [{**kind, "calls": [f"{SAVED_ENTRY} 10 20 0.001{words}"]}]
        saved = with_report(*made)
        for cell in saved.cells:
            cell.id = f"similar-{app}-{cell.id}"  # what cells of the same id stored would be taken with it
        with front_end(app, saved, f"similar-{app}.ipynb") as page:
            page.select(0)
            page.command("genai-cache:invalidate-cell")
            page.expect(page.page.locator(".Toastify"), "no valid answer of this cell is stored any more")
            page.select(1)
            page.command("genai-cache:invalidate-cell")
            dialog = page.page.locator(".jp-Dialog")
            page.expect(dialog, "Invalidate 1 answer?")
            dialog.get_by_role("button", name="Invalidate").click()
            page.expect(page.page.locator(".Toastify"), "1 of ")
            assert cache.mget([f"{app} 0", f"{app} 1"]) == [None, 1]
            page.press(2, "Show 1 call")
            page.expect(page.report(2).locator("thead"), "age")
            assert "absent" not in page.report(2).inner_text()
            page.press(2, "Invalidate this cell")
            page.press(2, "Invalidate 1 answer")
            page.expect(page.report(2).locator(".gcm-said"), "made invalid")
            assert cache.mget([f"{app} 0", f"{app} 1"]) == [None, None]


def test_a_server_without_its_part_or_without_its_team(front_end, jupyter):
    """Buttons, status bar and sidebar say what to do; a thousand calls are drawn, and opened, all the same."""
    calls = [f"{n:016x} 100 {n} 0.00012" for n in range(1_000)]
    kind = {"outcome": "hit", "tier": "L1", "provider": "openai.chat", "model": "gpt-4.1-mini", "calls": calls}
    health = requests.get(jupyter.url + API + "health", headers=jupyter.with_token, timeout=60).json()
    health["l2"] = {"state": "unreachable", "sentence": "redis at 10.0.0.1 does not answer in time"}
    with front_end("lab", with_report(report(hits=1_000, kinds=[kind])), "states.ipynb") as page:
        status, bar = page.page.locator(".gcl-status"), page.page.locator(".gcl-sidebar")
        page.page.route(f"**/{API}health*", lambda route: route.fulfill(json=health))
        status.get_by_role("button").click()
        page.expect(bar, "offline. redis at 10.0.0.1 does not answer in time")
        page.page.evaluate(LOOKED_AT)
        page.expect(status, "L2 offline")
        page.page.route(f"**/{API}**", lambda route: route.fulfill(status=404, body='{"message": "Not Found"}'))
        page.press(0, "Invalidate this cell")
        page.expect(page.report(0).locator(".gcm-said"), ENABLE)
        bar.get_by_role("button", name="Refresh").click()
        page.expect(bar, ENABLE)
        page.page.evaluate(LOOKED_AT)
        page.expect(status, "not enabled")
        page.expect(page.summary(0), "1,000 hits")
        page.press(0, "Show 1,000 calls")
        page.report(0).locator("tbody tr").first.wait_for()
        assert 10 < page.report(0).locator("tbody tr").count() <= 100


def test_a_cell_that_streams_then_one_that_is_refused_then_five_hundred_calls(front_end, model):
    """With the team away: how far it is while it runs, what was not stored and why, and no more rows than are read."""
    cells = (
        "import os\nos.environ['GENAI_CACHE_L2'] = 'redis://127.0.0.1:1/0'" + SETUP.format(url=model.openai_url),
        STREAMED,
        '%%llm_cache\nask("cut off", extra_headers={"x-simulate-fault": "truncated"});',
        '%%llm_cache\n_ = [ask(f"of five hundred {n % 5}") for n in range(500)]',
    )
    model.hold()
    try:
        with front_end("lab", notebook(*cells), "running.ipynb") as page:
            page.command("notebook:run-all-cells")
            running = page.report(1).locator(".gcm-progress")
            page.expect(running, "0 done, 1 in flight, spent $0 so far")
            assert running.locator("progress").count() == 1
            model.release()
            page.expect(page.summary(1), "spent unknown, saved $0 · 0 hits, 1 miss")
            assert running.is_hidden()
            page.expect(page.report(1).locator(".gcm-trouble"), "L2")
            page.expect(page.summary(2), " · 0 hits, 1 miss, 1 not stored · ")
            page.press(2, "Show 1 call")
            page.expect(page.report(2).locator("tbody"), "refused")
            page.expect(page.report(2).locator("tbody"), "truncated")
            page.press(2, "Explain call 1")
            page.expect(page.report(2).locator(".gcm-explained"), "truncated")
            page.expect(page.summary(3), "495 hits, 5 misses")
            page.press(3, "Show 500 calls")
            page.expect(page.report(3).locator(".gcm-pager"), "1 to 50 of 500 calls")
            assert page.report(3).locator("tbody tr").count() == 50
            page.press(3, "Next")
            page.expect(page.report(3).locator(".gcm-pager"), "51 to 100 of 500 calls")
            page.report(3).get_by_label("Outcome").select_option("miss")
            page.expect(page.report(3).locator(".gcm-pager"), "1 to 5 of 5 calls")
            assert page.executed == []
    finally:
        model.release()


PAYLOADS = [
    "<img src=x onerror=window.executed=1>",
    "<script>window.executed=1</script>",
    "<svg/onload=window.executed=1>",
    "javascript:window.executed=1",
    "\"'><iframe srcdoc='<script>parent.executed=1</script>'>",
    "[x](javascript:window.executed=1)",
    "{{constructor.constructor('window.executed=1')()}}",
    "</pre></style></title></textarea><img src=x onerror=window.executed=1>",
]


def test_what_others_named_is_text(front_end, jupyter):
    """Payloads in names, tags, answers, troubles and models are read, and run nowhere; of a long name, its start."""
    from genai_cache_magic import create_cache

    places = {"dir": jupyter.environment["GENAI_CACHE_DIR"], "key_file": jupyter.environment["GENAI_CACHE_KEY_FILE"]}
    with create_cache(**places) as cache:
        for n, payload in enumerate(PAYLOADS):
            cache.set(f"{payload} {n}", payload, tags=[payload])
        cache.set(LONG_KEY, "what lies under it")
    kinds = [
        {"outcome": p, "tier": p, "provider": p, "model": p, "reason": p, "calls": [f"{p} 1 1 1"]} for p in PAYLOADS
    ]
    bad = report(headline=PAYLOADS[0], run=PAYLOADS[0], tags=PAYLOADS, troubles=PAYLOADS, hints=PAYLOADS, kinds=kinds)
    bad["unrecognised"] = dict.fromkeys(PAYLOADS, 1)
    with front_end("lab", with_report(bad), "payloads.ipynb") as page:
        page.page.evaluate("() => { window.executed = 0; }")
        page.press(0, "Show ")
        page.command("genai-cache:show-sidebar")
        bar = page.page.locator(".gcl-sidebar")
        bar.get_by_label("Search names").fill("window")
        for n, payload in enumerate(PAYLOADS):
            if "window" not in payload:
                continue
            line = bar.locator(".gcl-entries li").filter(has_text=f"{payload} {n}").first
            line.get_by_role("button", name="Show").click()
            page.expect(line.locator("pre").last, payload)
        bar.get_by_label("Search names").fill(LONG_KEY[:100])
        page.expect(bar, "1 answer")
        line = bar.locator(".gcl-entries li")
        assert line.locator(".gcl-name").inner_text() == f"{LONG_KEY[:79]}…"
        line.get_by_role("button", name="Show").click()
        page.expect(line.locator("pre").last, "what lies under it")
        for place in (".gcm", ".gcl-sidebar"):
            assert page.page.locator(f"{place} :is(img, script, iframe, a)").count() == 0
        assert page.page.evaluate("() => window.executed") == 0
        assert page.executed == []


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_the_widget_and_the_panel(front_end, model, app):
    """Live under the cell, with the kernel behind its buttons; the panel shows the same and what the cache holds."""
    setup = f"%env GENAI_CACHE_STATUS=widget\n{SETUP.format(url=model.openai_url)}"
    cells = (setup, ONE.replace("question", f"widget {app}").replace("first", f"widget-{app}"), "%llm_cache panel")
    with front_end(app, notebook(*cells), f"widget-{app}.ipynb") as page:
        page.command("notebook:run-all-cells")
        page.expect(page.summary(1), "3 misses")
        panel = page.page.locator(".gcm-panel")
        page.expect(panel, "1 to ")
        page.press(1, "Show 3 calls")
        page.expect(page.report(1).locator("thead"), "latency")
        page.press(1, "Invalidate this cell")
        page.expect(page.report(1).locator(".gcm-asking"), "3 of ")
        page.press(1, "Invalidate 3 answers")
        page.expect(page.report(1).locator(".gcm-said"), "made invalid")
        page.press(1, "Re-run fresh")
        page.expect(page.report(1).locator(".gcm-said"), "run it now")
        page.select(1)
        page.command("notebook:run-cell")
        page.expect(page.summary(1), "mode refresh")
        page.page.wait_for_function(IDLE)  # it may have said so while it ran
        panel.get_by_role("button", name="Refresh").click()
        page.expect(panel, " answers")
        panel.get_by_role("button", name=f"Invalidate tag widget-{app}").click()
        page.expect(panel.locator("> .gcm-asking"), "3 of ")
        panel.get_by_role("button", name="Invalidate 3 answers").click()
        page.expect(panel, "made invalid")
        assert page.executed == []
