"""Random damage to the files of a store, closed and open, and what must be true of its answers.

A wrong answer is a value that was never put under its key, or that had expired. An *earlier* value of the key is
none here: a log cut short is a consistent earlier state, which no store can tell from the present.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from contextlib import closing
from dataclasses import dataclass, field

from torture.values import KEYS, value_of, version_of

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.disk.store import DiskConfig, DiskStore

_DATABASE_FILES = ("cache.db", "cache.db-wal", "cache.db-shm")
_is_key = re.compile(r"[0-9a-f]{64}").fullmatch
_EXPIRED = 1_000  # versions from here on were put with a life that is over


@dataclass
class CorruptionReport:
    """What a series of corruptions showed."""

    corruptions: int = 0
    answers: int = 0
    misses: int = 0
    unavailable: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    rebuilds: int = 0


def make_templates(directory):
    """Return three stores of the same entries: all in the log, all in the database, some in each."""
    live = directory / "live"
    with closing(DiskStore(live)) as store:
        _fill(store, range(1, 3))
        shutil.copytree(live, directory / "log")
    shutil.copytree(live, directory / "database")
    with closing(DiskStore(live)) as store:
        _fill(store, range(3, 5))
        shutil.copytree(live, directory / "mixed")
    return [directory / name for name in ("log", "database", "mixed")]


def _fill(store, versions):
    for version in versions:
        for key in KEYS[: -4 * version]:
            store.put(key, value_of(key, version), ttl_s=3600)
    for key in KEYS[-4:]:
        store.put(key, value_of(key, _EXPIRED), ttl_s=0.000_001)
    store.delete(KEYS[0])


def _flip(data, rng):
    for _ in range(rng.choice((1, 3, 40))):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)


def _flip_header(data, rng):
    for _ in range(4):
        data[rng.randrange(min(100, len(data)))] ^= rng.randrange(1, 256)


def _zero(data, rng):
    start = rng.randrange(len(data))
    length = min(rng.choice((16, 512, 4096, 50_000)), len(data) - start)
    data[start : start + length] = bytes(length)


def _noise(data, rng):
    start = rng.randrange(len(data))
    length = min(rng.choice((16, 512, 4096, 50_000)), len(data) - start)
    data[start : start + length] = rng.randbytes(length)


def _swap_pages(data, rng):
    pages = max(2, len(data) // 4096)
    left, right = (rng.randrange(pages) * 4096 for _ in range(2))
    data[left : left + 4096], data[right : right + 4096] = data[right : right + 4096], data[left : left + 4096]


def _truncate(data, rng):
    del data[rng.randrange(len(data)) :]


def _append(data, rng):
    data += rng.randbytes(rng.choice((1, 4096)))


_IN_PLACE = (_flip, _flip_header, _zero, _noise)
_ANY = (*_IN_PLACE, _swap_pages, _truncate, _append)


def corrupt(directory, rng, *, is_open):
    """Damage one random file of the store, and return what was done."""
    values = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.val"))
    name = rng.choice((*_DATABASE_FILES, "cache.db", rng.choice(values) if values else "cache.db"))
    path = directory / name
    if not path.exists():
        return f"no {name}"
    if rng.random() < 0.08:
        path.unlink()
        return f"unlink {name}"
    # The shared-memory file is mapped by SQLite: cutting it short under an open database kills any process by SIGBUS.
    way = rng.choice(_IN_PLACE if is_open and name.endswith("-shm") else _ANY)
    data = bytearray(path.read_bytes())
    if data:
        way(data, rng)
        with path.open("r+b") as file:
            file.write(data)
            if len(data) < path.stat().st_size:
                file.truncate(len(data))
    return f"{way.__name__} {name}"


def _corrupt_elsewhere(directory, seed):
    """Damage from another process: closing a file in ours would drop the locks that SQLite holds on it."""
    pid = os.fork()
    if pid == 0:
        try:
            corrupt(directory, random.Random(seed), is_open=True)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return f"open, seed {seed}"


def run_corruptions(directory, corruptions, seed):
    """Damage copies of a store `corruptions` times, every second one while it is open, and use each."""
    templates = make_templates(directory)
    report = CorruptionReport()
    for number in range(corruptions):
        victim = directory / "victim"
        shutil.copytree(templates[number % 3], victim)
        _one(victim, f"{seed}:{number}", report, is_open=number % 2 == 1)
        shutil.rmtree(victim)
    return report


def _one(directory, seed, report, *, is_open):
    rebuilds = []
    config = DiskConfig(busy_timeout_s=0.2, open_timeout_s=1.0)
    with closing(DiskStore(directory, config, on_loss=rebuilds.append)) as store:
        rng = random.Random(seed)
        if is_open:
            store.get(KEYS[1])
            store.put(KEYS[2], value_of(KEYS[2], 4), ttl_s=3600)
            _corrupt_elsewhere(directory, seed)
        else:
            corrupt(directory, rng, is_open=False)
        report.corruptions += 1
        _use(store, rng, seed, report)
    # And the next process finds a store that works.
    with closing(DiskStore(directory, config, on_loss=rebuilds.append)) as store:
        _use(store, rng, seed, report)
    report.rebuilds += len(rebuilds)


def _use(store, rng, seed, report):
    """Call everything in random order; whatever else than StoreUnavailable is raised ends the series."""
    moves = [(move, key) for move in (_get, _get, _put_get, _delete_get) for key in KEYS]
    moves += [(_get_many, None), (_scan, None), (_size, None)]
    rng.shuffle(moves)
    moves += [(_check, None)] + [(_get, key) for key in KEYS]
    for move, key in moves:
        try:
            move(store, key, rng, lambda text: report.wrong.append(f"{seed}: {text}"), report)
        except StoreUnavailable as error:
            report.unavailable.append(f"{seed}: {error}")


def _judge(key, blob, wrong, report):
    report.answers += 1
    if blob is None:
        report.misses += 1
        return None
    version = version_of(key, blob)
    if version is None or version == _EXPIRED:
        wrong("an answer that was never put, or had expired")
    return version


def _get(store, key, _rng, wrong, report):
    _judge(key, store.get(key), wrong, report)


def _put_get(store, key, rng, wrong, report):
    version = rng.randrange(5, 100)
    store.put(key, value_of(key, version), ttl_s=3600)
    if _judge(key, store.get(key), wrong, report) not in (version, None):
        wrong("another version than was just put")


def _delete_get(store, key, _rng, wrong, _report):
    store.delete(key)
    if store.get(key) is not None:
        wrong("an answer for what was just deleted")


def _get_many(store, _key, _rng, wrong, report):
    for key, blob in store.get_many(KEYS).items():
        _judge(key, blob, wrong, report)


def _scan(store, _key, _rng, wrong, _report):
    if not all(_is_key(key) for key in store.scan()):
        wrong("a scan yielded what is no key")


def _size(store, _key, _rng, wrong, _report):
    if store.count() < 0 or store.size_bytes() < 0:
        wrong("a size below zero")


def _check(store, _key, _rng, wrong, _report):
    if store.check().removed_rows < 0:
        wrong("a report below zero")
