"""What the Jupyter server calls when it loads the extension. Nothing of the cache is read or opened here."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp


def load(server: ServerApp) -> None:
    """Add the routes to `server`."""
    from genai_cache_magic.jupyter.server.caches import Caches
    from genai_cache_magic.jupyter.server.handlers import routes
    from genai_cache_magic.jupyter.server.workers import Workers

    caches, workers = Caches(), Workers()
    server.web_app.add_handlers(".*$", list(routes(server.web_app.settings["base_url"], caches, workers)))  # type: ignore[no-untyped-call]  # tornado has no types
    atexit.register(caches.close)
    atexit.register(workers.close)  # first: whoever registers last is called first


_load_jupyter_server_extension = load
