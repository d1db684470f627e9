"""What the processor worked for a cache that keeps things in Redis: in this process, and in the server."""

from __future__ import annotations

import os
import time
from typing import Any

import redis

URL = os.environ["BENCH_REDIS"]
_server = redis.Redis.from_url(URL)


def clock() -> float:
    """Return the processor's time of this process and of the server's since each began [s]."""
    used: Any = _server.info("cpu")
    return time.process_time() + float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
