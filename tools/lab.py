"""Open the quickstart notebook in JupyterLab, with simulated models behind it: `make lab`.

The notebook is a copy, so that running it leaves the repository as it is. It shares the cache of `make demo`: after
that its first run finds every answer.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from genai_cache_magic.cli.demos.demo import (
    fresh_directory,
    kernel_environment,
    notebook_path,
    private_places,
    simulated_models,
)

OUTPUT = Path("demo-output")


def main(arguments: list[str]) -> int:
    """Run JupyterLab with `arguments` until it ends, and return its exit code."""
    home = OUTPUT / "home"
    if not home.is_dir():
        fresh_directory(OUTPUT)
    notebook = OUTPUT / "quickstart.ipynb"
    if not notebook.exists():
        shutil.copyfile(notebook_path(), notebook)
    with ExitStack() as stack:
        _, variables = simulated_models(stack, {})
        environment = kernel_environment({**variables, **private_places(home)})
        sys.stdout.write(f"JupyterLab on {notebook}. The models behind it are simulated: every answer is made up.\n")
        sys.stdout.write(
            "Choose Run > Run All Cells, twice; the icon of three discs on the right opens what the cache holds.\n"
        )
        sys.stdout.flush()
        command = [sys.executable, "-m", "jupyterlab", str(notebook), *arguments]
        try:
            return subprocess.run(command, env=environment, check=False).returncode
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
