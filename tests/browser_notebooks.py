"""JupyterLab and Notebook 7 in a real browser, on notebooks that are prepared: nobody types code into an editor."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_servers import JupyterServer

MIME = "application/vnd.genai-cache.cell+json"
APPS = {"lab": "lab/tree/{}?reset", "notebook": "notebooks/{}"}
"""Front end -> the page of a notebook in it."""

SETUP = """
%load_ext genai_cache_magic
import openai
client = openai.OpenAI(base_url={url!r}, api_key="k", max_retries=0)
def ask(text, **more):
    answer = client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{{"role": "user", "content": text}}], **more)
    return answer.choices[0].message.content[:11]
"""


def notebook(*sources: str, outputs: dict[int, list[Any]] | None = None) -> nbformat.NotebookNode:
    """Return a notebook of code cells."""
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    for n, found in (outputs or {}).items():
        cells[n].outputs = found
        cells[n].execution_count = 1
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def with_report(*reports: dict[str, Any]) -> nbformat.NotebookNode:
    """Return a notebook that was run elsewhere and holds a report under each of its cells, as it is saved."""
    static = {"text/html": "<p>the static one</p>", "text/plain": "the static one"}
    shown = [nbformat.v4.new_output("display_data", data={MIME: one, **static}, metadata={}) for one in reports]
    return notebook(*["%%llm_cache\npass"] * len(reports), outputs={n: [one] for n, one in enumerate(shown)})


IDLE = "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"


class Opened:
    """A notebook in a front end."""

    def __init__(self, page: Any, server: JupyterServer) -> None:
        self.page = page
        self.server = server
        self.executed: list[str] = []
        page.on("dialog", lambda dialog: (self.executed.append("dialog"), dialog.dismiss()))

    def command(self, name: str) -> None:
        """Do what a menu's item or a key does; not waited for."""
        self.page.evaluate("name => { void jupyterapp.commands.execute(name); }", name)

    def report(self, cell: int) -> Any:
        """The view under a cell, by its number among those that were opened."""
        return self.page.locator(".jp-CodeCell").nth(cell).locator(".gcm")

    def summary(self, cell: int) -> Any:
        return self.report(cell).locator(".gcm-summary").last

    def press(self, cell: int, name: str) -> None:
        """Press a button of the view under a cell."""
        self.report(cell).get_by_role("button", name=name).last.click()

    def select(self, cell: int) -> None:
        """Make a cell the active one."""
        self.page.locator(".jp-CodeCell").nth(cell).locator(".jp-InputPrompt").click()

    def expect(self, locator: Any, text: str) -> None:
        """Wait until a text stands there."""
        from playwright.sync_api import expect

        expect(locator).to_contain_text(text)


@contextlib.contextmanager
def opened(browser: Any, server: JupyterServer, app: str, name: str, **how: Any) -> Iterator[Opened]:
    """Open a notebook of the server, logged in by the token, with XSRF checks on."""
    from browsers import TIMEOUT_MS
    from playwright.sync_api import expect

    expect.set_options(timeout=TIMEOUT_MS)
    context = browser.new_context(viewport={"width": 1280, "height": 820}, **how)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(f"{server.url}login")
    page.fill("#password_input", server.token)
    page.click("#login_submit")
    page.wait_for_load_state()
    page.goto(server.url + APPS[app].format(name))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context?.isReady")
    page.wait_for_function(IDLE)
    try:
        yield Opened(page, server)
    finally:
        context.close()
