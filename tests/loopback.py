"""Servers on loopback whose answers a test's own handler gives."""

from __future__ import annotations

import contextlib
import http.server
import threading


@contextlib.contextmanager
def serving(handler, kind=http.server.ThreadingHTTPServer, address=("127.0.0.1", 0), **attributes):
    """Serve by `handler`, which finds `attributes` on its server, and where it has a port its `netloc` and `url`."""
    with kind(address, handler) as running:
        if not isinstance(address, str):
            running.netloc = "{}:{}".format(*running.server_address)
            running.url = f"http://{running.netloc}"
        vars(running).update(attributes)
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
