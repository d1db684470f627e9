"""Writers that are killed at random moments, and what must be true of the store they leave."""

from __future__ import annotations

import itertools
import os
import random
import signal
from contextlib import closing
from dataclasses import dataclass, field

from torture.values import KEYS, value_of, version_of

from genai_cache_magic.stores.disk.store import DiskStore

_LINE_BYTES = 16


@dataclass
class KillReport:
    """What a series of kills showed."""

    kills: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    rebuilds: int = 0


def _write_for_ever(directory, keys, first_version, pipe):
    """Put and delete without end, and tell each finished put through the pipe; runs until it is killed."""
    store = DiskStore(directory)
    for version in itertools.count(first_version):
        for index in keys:
            store.put(KEYS[index], value_of(KEYS[index], version), ttl_s=3600)
            os.write(pipe, f"{index:4d} {version:10d}\n".encode())


def _start(directory, keys, first_version):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _write_for_ever(directory, keys, first_version, writer)
        finally:
            os._exit(1)  # only reached by an exception, which the parent counts as wrong
    os.close(writer)
    return pid, reader


def _acknowledged(reader):
    """Return the highest version per key index that a killed writer told of."""
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    lines = [told[i : i + _LINE_BYTES] for i in range(0, len(told) - _LINE_BYTES + 1, _LINE_BYTES)]
    return {int(line[:4]): int(line[4:]) for line in lines}, len(lines)


def run_kills(directory, kills, seed, writers=2):
    """Kill `writers` processes at a time until `kills` died, and look at the store after each time."""
    rng = random.Random(seed)
    report = KillReport()
    floor = {}  # key index -> the version that must be there, at least
    version = 1
    while report.kills < kills:
        shares = [range(number, len(KEYS), writers) for number in range(writers)]
        running = [_start(directory, share, version) for share in shares]
        for pid, reader in running:
            # Waits for an event, some finished puts, then for a moment that no event marks.
            for _ in range(rng.randrange(1, 12)):
                line = os.read(reader, _LINE_BYTES)
                if line:
                    index, said = int(line[:4]), int(line[4:])
                    floor[index] = max(said, floor.get(index, 0))
                    report.acknowledged += 1
            for _ in range(rng.randrange(20_000)):
                pass
            os.kill(pid, signal.SIGKILL)
        for pid, reader in running:
            _, status = os.waitpid(pid, 0)
            if not os.WIFSIGNALED(status):
                report.wrong.append(f"writer ended by itself with {status}")
            told, count = _acknowledged(reader)
            report.acknowledged += count
            report.kills += 1
            for index, said in told.items():
                floor[index] = max(said, floor.get(index, 0))
        version = max(floor.values(), default=version) + 1
        _look(directory, floor, report)
    return report


def _look(directory, floor, report):
    rebuilds = []
    with closing(DiskStore(directory, on_loss=rebuilds.append)) as store:
        for index, key in enumerate(KEYS):
            blob = store.get(key)
            if blob is None:
                if index in floor:
                    report.lost.append(f"{index}: version {floor[index]} was acknowledged")
                continue
            found = version_of(key, blob)
            if found is None:
                report.wrong.append(f"{index}: not a value of this key")
            elif found < floor.get(index, 0):
                report.lost.append(f"{index}: version {found}, but {floor[index]} was acknowledged")
    report.rebuilds += len(rebuilds)
