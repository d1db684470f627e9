"""Model calls of a notebook cell, answered from a sealed, tiered cache.

Every name is imported when it is first used: ``import genai_cache_magic`` costs next to nothing.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from genai_cache_magic.api.asking.placeholders import replay_credential
    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.api.factory import create_cache
    from genai_cache_magic.api.memo import cached
    from genai_cache_magic.api.scopes.cells import last_cell, llm_cache
    from genai_cache_magic.api.vector_cache import VectorCache, create_vector_cache

    __version__: str

__all__ = [
    "Cache",
    "VectorCache",
    "__version__",
    "cached",
    "create_cache",
    "create_vector_cache",
    "last_cell",
    "llm_cache",
    "load_ipython_extension",
    "replay_credential",
    "unload_ipython_extension",
]

_WHERE = {
    "Cache": "api.cache",
    "VectorCache": "api.vector_cache",
    "cached": "api.memo",
    "create_cache": "api.factory",
    "create_vector_cache": "api.vector_cache",
    "last_cell": "api.scopes.cells",
    "llm_cache": "api.scopes.cells",
    "replay_credential": "api.asking.placeholders",
}


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Add ``%%llm_cache`` to a shell: ``%load_ext genai_cache_magic``."""
    from genai_cache_magic.jupyter.extension import load

    load(ipython)


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Take it out again: ``%unload_ext genai_cache_magic``."""
    from genai_cache_magic.jupyter.extension import unload

    unload(ipython)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Say which module the Jupyter server loads."""
    return [{"module": "genai_cache_magic.jupyter.server.extension"}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Say where the built extension of JupyterLab and Notebook 7 lies."""
    return [{"src": "jupyter/labextension", "dest": "genai-cache-magic"}]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("genai-cache-magic")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "llm_cache" and "marimo" in sys.modules:
        import_module(f"{__name__}.jupyter.marimo").show_blocks()
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if os.environ.get("GENAI_CACHE_MODE") == "replay":
    # The whole process is put in force, which can't wait for the first name that is used.
    from genai_cache_magic.api.scopes.process import process

    process.put_in_force()
