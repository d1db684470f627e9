"""What loading costs: no model SDK, no service's client and nothing heavy is imported before it is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {
    "openai", "anthropic", "httpx", "httpx2", "redis", "azure", "numpy", "ipywidgets", "anywidget", "pydantic",
    "requests", "aiohttp", "diskcache", "cryptography", "zstandard", "orjson",
}  # fmt: skip

IMPORT = "import genai_cache_magic; genai_cache_magic.__all__"
LOAD = """
from IPython.core.interactiveshell import InteractiveShell
import sys
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "genai_cache_magic")
shell.run_cell("%%llm_cache?")
assert "llm_cache" in shell.magics_manager.magics["cell"]
"""


def modules_after(code: str, home: str) -> set[str]:
    report = "\nimport json, sys; print(json.dumps([m for m in sys.modules if m not in globals().get('before', ())]))"
    environment = {**os.environ, "HOME": home, "IPYTHONDIR": home, "XDG_CONFIG_HOME": home}
    done = subprocess.run(
        [sys.executable, "-c", code + report],
        capture_output=True, text=True, check=True, timeout=60, env=environment, cwd=home,
    )  # fmt: skip
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("code", [IMPORT, LOAD], ids=["import", "load_ext"])
def test_nothing_heavy_is_imported(code, tmp_path):
    """``import genai_cache_magic`` and ``%load_ext`` leave every SDK and every service's client alone."""
    loaded = modules_after(code, str(tmp_path))
    assert "genai_cache_magic" in loaded
    assert loaded & HEAVY == set()


def test_every_public_name_can_be_imported():
    """What ``__all__`` promises is there, and a name that is not promised is an AttributeError."""
    import genai_cache_magic

    for name in genai_cache_magic.__all__:
        assert getattr(genai_cache_magic, name) is not None
    with pytest.raises(AttributeError):
        genai_cache_magic.no_such_name  # noqa: B018 - the access is the test
    assert set(genai_cache_magic.__all__) == set(dir(genai_cache_magic))


def test_the_version_is_the_packages():
    """``__version__`` is what pip installed."""
    from importlib.metadata import version

    import genai_cache_magic

    assert genai_cache_magic.__version__ == version("genai-cache-magic")
