"""Take the README's pictures: a real cell, executed twice against a simulated model, in light and dark.

`make pictures`. Needs Chromium; the badge's table of calls is folded open for the picture.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from genai_cache_magic.cli.demos.demo import fresh_directory, kernel_environment, private_places, simulated_models

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH, HEIGHT, SCALE = 840, 600, 2
"""What the page fills [CSS pixels], and device pixels for each: look at the picture after a change of the cell."""

SETUP = """
%load_ext genai_cache_magic
from openai import OpenAI
client = OpenAI()
"""
CELL = """
%%llm_cache --tag reviews --ttl 30d
for review in ["It lasts two days.", "It broke within a week.", "Good lamp, wrong box."]:
    answer = client.chat.completions.create(
        model="gpt-4.1-mini",
        messages=[{"role": "user", "content": f"Positive or negative? {review}"}],
    )
    print(answer.choices[0].message.content[:76])
"""
STYLE = """
<style>
  .jp-Notebook, body { padding: 16px 20px 8px 0 !important; margin: 0; }
  .jp-InputPrompt, .jp-OutputPrompt { min-width: 58px; }
</style>
"""


def main() -> int:
    """Write one picture per theme."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.stderr.write("pictures: no Chromium on PATH; install the package `chromium`\n")
        return 2
    IMAGES.mkdir(parents=True, exist_ok=True)
    notebook = executed()
    for theme in ("light", "dark"):
        page, _ = HTMLExporter(template_name="lab", theme=theme).from_notebook_node(notebook)
        # The last table of calls is open, as a click would open it.
        page = "<details open>".join(page.replace("</head>", f"{STYLE}</head>").rsplit("<details>", 1))
        shoot(browser, page, IMAGES / f"badge-{theme}.png")
    return 0


def executed() -> nbformat.NotebookNode:
    """Return the notebook with the cell executed twice, without the cell that sets it up."""
    code = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(cells=[code(SETUP.strip()), code(CELL.strip()), code(CELL.strip())])
    with ExitStack() as stack:
        output = fresh_directory(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "pictures")
        _, variables = simulated_models(stack, {})
        environment = kernel_environment({**variables, **private_places(output / "home")})
        NotebookClient(notebook, coalesce_streams=True).execute(env=environment)
    del notebook.cells[0]
    return notebook


def shoot(browser: str, page: str, target: Path) -> None:
    """Save `page` as Chromium shows it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "page.html")
        source.write_text(page, encoding="utf-8")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}",
            f"--force-device-scale-factor={SCALE}", f"--screenshot={target}", source.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
