"""Build the extension of JupyterLab and Notebook 7: `make labextension`, after a change of what it is built from.

What is built is committed, so that installing needs no node. A digest of the sources lies beside it; a test compares.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "labextension"
BUILT = ROOT / "genai_cache_magic" / "jupyter" / "labextension"
DIGEST = BUILT / "sources.sha256"
HOW = (
    "run `make labextension` (python tools/labextension.py, with Node 20 and jupyter-builder) and commit what it writes"
)


def sources() -> list[Path]:
    """Return every file that what is built depends on."""
    inside = [PROJECT / name for name in ("package.json", "package-lock.json", "tsconfig.json")]
    for folder in ("schema", "src", "style"):
        inside += sorted(path for path in (PROJECT / folder).iterdir() if path.is_file())
    return [*inside, ROOT / "genai_cache_magic" / "jupyter" / "static" / "cell_status.js"]


def digest() -> str:
    """Return what tells these sources from any others; how a checkout ends its lines makes no difference."""
    seen = hashlib.sha256()
    for path in sources():
        content = path.read_bytes().replace(b"\r\n", b"\n")
        seen.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return seen.hexdigest()


def is_current() -> bool:
    """Return whether what is committed was built from the sources as they are."""
    return DIGEST.is_file() and DIGEST.read_text(encoding="ascii").strip() == digest()


def main(arguments: list[str]) -> int:
    """Build, or only say whether that is needed (``--check``)."""
    if "--check" in arguments:
        if is_current():
            return 0
        sys.stderr.write(f"labextension: what is built is older than its sources: {HOW}\n")
        return 1
    npm = shutil.which("npm")
    if npm is None:
        sys.stderr.write("labextension: npm is not on PATH; install Node 20\n")
        return 2
    # The builder of the environment that this runs in comes first.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    installed = PROJECT / "node_modules" / ".package-lock.json"
    lock = PROJECT / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=PROJECT, check=True)
    shutil.rmtree(PROJECT / "lib", ignore_errors=True)
    shutil.rmtree(BUILT, ignore_errors=True)
    subprocess.run([npm, "run", "build"], cwd=PROJECT, env=environment, check=True)
    DIGEST.write_text(f"{digest()}\n", encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
