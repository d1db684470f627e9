"""Take the pictures of JupyterLab with the extension: a notebook run twice against a simulated model, and the sidebar.

`make pictures`, after `tools/pictures.py`. Needs Chromium and Playwright; it starts a Jupyter server of its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from browser_notebooks import IDLE, notebook, opened
from browsers import ARGUMENTS, find_chromium
from jupyter_servers import JupyterServer
from playwright.sync_api import sync_playwright

from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from browser_notebooks import Opened

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SETUP = "%load_ext genai_cache_magic\nfrom openai import OpenAI\n\nclient = OpenAI()"
REVIEWS = """%%llm_cache --tag reviews
REVIEWS = ["It lasts two days.", "It broke within a week.", "Good lamp, wrong box."]
for review in REVIEWS:
    answer = client.chat.completions.create(
        model="gpt-4.1-mini",
        messages=[{"role": "user", "content": f"Positive or negative? {review}"}],
    )"""
SUMMARY = """%%llm_cache --tag summary
answer = client.chat.completions.create(
    model="gpt-4.1", messages=[{"role": "user", "content": f"Sum up: {REVIEWS}"}]
)"""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


def main() -> int:
    """Write one picture per theme, and one of Notebook 7."""
    cells = notebook(SETUP, REVIEWS, SUMMARY)
    with tempfile.TemporaryDirectory() as home, SimulatedModelServer() as model, sync_playwright() as driver:
        origins = {model.openai_url: {"provider": "openai", "alias": "https://simulated-openai.invalid"}}
        variables = {"OPENAI_BASE_URL": model.openai_url, "OPENAI_API_KEY": "simulated"}
        server = JupyterServer(
            Path(home),
            "jupyterlab",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
            also=("notebook",),
            GENAI_CACHE_ORIGINS=json.dumps(origins),
            **variables,
        )
        nbformat.write(cells, server.notebooks / "reviews.ipynb")
        browser = driver.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        try:
            with opened(browser, server, "lab", "reviews.ipynb", device_scale_factor=1.5) as page:
                run(page, "notebook:run-all-cells", "3 misses")
                page.select(1)
                run(page, "notebook:run-all-below", "3 hits")
                look(page)
                for theme, name in THEMES.items():
                    choose(page, name)
                    page.page.screenshot(path=IMAGES / f"lab-{theme}.png")
                page.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
            with opened(browser, server, "notebook", "reviews.ipynb", device_scale_factor=1.5) as page:
                choose(page, THEMES["light"])
                page.expect(page.summary(1), "3 hits")
                page.page.screenshot(path=IMAGES / "notebook-light.png")
        finally:
            browser.close()
            server.close()
    return 0


def run(page: Opened, command: str, words: str) -> None:
    """Run cells, and wait for what they say."""
    page.command(command)
    page.expect(page.summary(1), words)
    page.page.wait_for_function(IDLE)


def look(page: Opened) -> None:
    """Open the sidebar and the table of calls, and let the file browser go."""
    page.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    page.expect(page.page.locator(".gcl-status"), "50% hits")
    page.command("genai-cache:show-sidebar")
    bar = page.page.locator(".gcl-sidebar")
    bar.locator("svg.gcl-chart").wait_for()
    page.press(1, "Show 3 calls")
    page.report(1).locator("tbody tr").first.wait_for()
    page.select(1)


def choose(page: Opened, theme: str) -> None:
    """Choose a theme, and wait until it is there."""
    page.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    is_light = str("Light" in theme).lower()
    page.page.wait_for_selector(f"body[data-jp-theme-light={is_light}]", state="attached")
    page.page.wait_for_selector("#jupyterlab-splash", state="detached")
    page.page.wait_for_load_state("networkidle")


if __name__ == "__main__":
    sys.exit(main())
