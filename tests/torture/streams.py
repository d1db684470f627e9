"""A stream of 5 GB through each HTTP client of this environment, read in a process of its own whose memory is watched.

Run as a script this is that process: `streams.py CLIENT URL BYTES` reads and prints what it took.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from faults.scripted_server import READERS, ScriptedServer, chunked, head  # noqa: E402 - found by the line above

STREAM_BYTES = 5 * 1000**3
MAX_GROWTH_BYTES = 2 * 8 * 1024**2
"""Twice the largest answer that is stored by default."""

TIMEOUT_S = 600.0
_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"' + b"x" * 1000 + b'"}}]}\n\n'
_KIB = 1024


@dataclass
class StreamReport:
    """What a series of streams showed: a line for each client, and what was wrong."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class EnoughError(Exception):
    """The reader leaves."""


def run_streams(stream_bytes=STREAM_BYTES):
    """Stream through every client that is installed here."""
    report = StreamReport()
    for client in READERS:
        if importlib.util.find_spec(client.partition(" ")[0]) is None:
            report.lines.append(f"{client}: not installed")
            continue
        with ScriptedServer(_endless) as server, tempfile.TemporaryDirectory(prefix="genai-cache-stream-") as home:
            own = {"GENAI_CACHE_DIR": f"{home}/cache", "GENAI_CACHE_KEY_FILE": f"{home}/keys/default.key"}
            command = [sys.executable, __file__, client, server.url, str(stream_bytes)]
            ran = subprocess.run(
                command, env={**os.environ, **own}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
        _judge(client, ran, report)
    return report


def _judge(client, ran, report):
    if ran.returncode:
        report.faults.append(f"{client}: {ran.stderr[-500:]}")
        return
    took = json.loads(ran.stdout)
    report.lines.append(
        f"{client}: {took['read_bytes']:,} bytes, {took['growth_bytes']:,} of memory, {took['reasons']}"
    )
    if took["growth_bytes"] > MAX_GROWTH_BYTES:
        report.faults.append(f"{client}: memory grew by {took['growth_bytes']:,} bytes")
    if took["reasons"] != ["too large (status 200)"] or took["troubles"]:
        report.faults.append(f"{client}: {took['reasons']}, {took['troubles']}")


def _endless():
    yield head("content-type: text/event-stream", "transfer-encoding: chunked")
    piece = chunked(_EVENT * 60) * 4
    while True:
        yield piece


async def _read(client, url, enough):
    """Read `enough` bytes and leave; return how many it were."""
    read_bytes = 0

    def take(chunk):
        nonlocal read_bytes
        read_bytes += len(chunk)
        if read_bytes >= enough:
            raise EnoughError

    with suppress(EnoughError):
        await READERS[client](url, take)
    return read_bytes


def _peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def main(client, url, enough):
    """Be the process that reads."""
    from genai_cache_magic import llm_cache

    with llm_cache():
        asyncio.run(_read(client, url, 1))  # what is loaded at first use is no part of it
    with llm_cache() as cell:
        before = _peak_bytes()
        read_bytes = asyncio.run(_read(client, url, enough))
        growth = _peak_bytes() - before
    told = {
        "read_bytes": read_bytes,
        "growth_bytes": growth,
        "reasons": [call.reason for call in cell.calls],
        "troubles": [trouble.message for trouble in cell.troubles],
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
