"""Machines of one team set the same new keys in the same moments, by threads: in the end all have one value of each.

In every other round keys are set and read alone: then none may be lost, and what was set clearly after all others is
what counts. In the rest they are deleted and invalidated as well.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from machines import Team

from genai_cache_magic.entries.link import Link
from genai_cache_magic.entries.team import tier as teams

_KEYS = 6
_OPERATIONS = 12
_THREADS = 2
_TAGS = ("a", "b")
_REMOVALS = ("delete", "delete", "tag", "entry", "clear", "expire")
_SHORT_S = 1
_PATIENCE_S = 90
_APART_S = 5.0
"""How exactly the tier's time is told by machines that hear it late."""


@dataclass
class Figures:
    """What a series showed, and what was wrong."""

    rounds: int = 0
    sets: int = 0
    removals: int = 0
    contested: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.rounds:,} rounds of new keys set at once: {self.sets:,} sets, {self.removals:,} removals, "
            f"{self.contested:,} keys contested; {len(self.faults)} wrong"
        )


@dataclass(frozen=True)
class Set:
    """That a value was set under a key, and from when to when that took [s, monotonic]."""

    key: str
    value: str
    began_s: float
    ended_s: float


class Round:
    """One round: what its threads have done to its keys, of which nobody had heard before."""

    def __init__(self, name: str, machines: list, rng: random.Random, *, only_sets: bool, may_expire: bool) -> None:
        self._keys = [f"{name} key {number}" for number in range(_KEYS)]
        self._machines = machines
        self._only_sets = only_sets
        self._removals = _REMOVALS if may_expire else _REMOVALS[:-1]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._barrier = threading.Barrier(len(machines) * _THREADS)
        self._seeds = [rng.random() for _ in range(len(machines) * _THREADS)]
        self._held_up = rng.sample(machines, rng.randint(0, len(machines)))
        self.sets: list[Set] = []
        self.removals = 0
        self.faults: list[str] = []

    def run(self) -> None:
        """Let all threads do theirs, tell the team all of it, and compare what each machine has then."""
        works = zip(self._seeds, self._machines * _THREADS, strict=True)
        threads = [threading.Thread(target=self._work, args=work) for work in works]
        with pytest.MonkeyPatch.context() as patch:
            for machine in self._held_up:
                patch.setattr(machine.cache._team._drain, "poke", lambda: None)
            _at_once(threads)
        _at_once([threading.Thread(target=machine.told) for machine in self._machines])

    def compare(self, machines: list) -> None:
        """Note where they do not have the same, or not what they should."""
        for again in range(2):  # what was brought by the first look-up lies here by the second
            for machine in machines:
                machine.goes_stale()
            found = [dict(zip(self._keys, machine.cache.mget(self._keys), strict=True)) for machine in machines]
            for machine in machines:
                machine.cache._entries.settle()
            for key in self._keys:
                self._compare(key, [one[key] for one in found], again)

    def contested(self) -> int:
        """Return how many keys were set by more than one machine."""
        setters = {key: {one.value.split()[0] for one in self.sets if one.key == key} for key in self._keys}
        return sum(len(names) > 1 for names in setters.values())

    def _compare(self, key: str, found: list, again: int) -> None:
        sets = [one for one in self.sets if one.key == key]
        said = f"{key}, look-up {again}: {found} of {sorted(sets, key=lambda one: one.ended_s)}"
        if len(set(found)) > 1:
            self.faults.append(f"machines differ: {said}")
        elif found[0] is not None and found[0] not in {one.value for one in sets}:
            self.faults.append(f"nobody set it: {said}")
        elif self._only_sets and sets and found[0] is None:
            self.faults.append(f"lost: {said}")
        elif self._only_sets and sets:
            (counts,) = [one for one in sets if one.value == found[0]]
            if any(one.began_s > counts.ended_s + _APART_S for one in sets):
                self.faults.append(f"not the last: {said}")

    def _work(self, seed: float, machine) -> None:
        rng = random.Random(seed)
        self._barrier.wait(60)
        for _ in range(_OPERATIONS):
            try:
                self._do(rng, machine)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
                with self._lock:
                    self.faults.append(repr(error))

    def _do(self, rng: random.Random, machine) -> None:
        keys = rng.sample(self._keys, 3)
        if not self._only_sets and rng.random() < 0.3:
            with self._lock:
                self.removals += 1
            self._remove(rng, machine, keys)
            return
        kind, cache = rng.choice(("set", "set", "mset", "pipeline", "get", "stale")), machine.cache
        if kind == "set":
            self._set(machine, keys[:1], lambda items: cache.set(*next(iter(items.items())), tags=[rng.choice(_TAGS)]))
        elif kind == "mset":
            self._set(machine, keys, cache.mset)
        elif kind == "pipeline":
            self._set(machine, keys, lambda items: self._in_one(cache, items))
        elif kind == "get":
            cache.mget(keys)
        else:
            machine.goes_stale()

    def _remove(self, rng: random.Random, machine, keys: list[str]) -> None:
        kind, cache = rng.choice(self._removals), machine.cache
        if kind == "delete":
            cache.delete(keys[0])
        elif kind == "tag":
            cache.invalidate_tag(rng.choice(_TAGS))
        elif kind == "entry":
            cache.invalidate(keys[0])
        elif kind == "clear":
            cache.clear()
        else:
            self._set(machine, keys, lambda items: cache.mset(items, ttl=_SHORT_S))

    def _in_one(self, cache, items: dict[str, str]) -> None:
        batch = cache.pipeline()
        for key, value in items.items():
            batch.set(key, value)
        batch.execute()

    def _set(self, machine, keys: list[str], how) -> None:
        items = {key: f"{self._machines.index(machine)} {next(self._numbers)}" for key in keys}
        began_s = time.monotonic()
        how(items)
        ended_s = time.monotonic()
        with self._lock:
            self.sets += [Set(key, value, began_s, ended_s) for key, value in items.items()]


def _at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_at_once(
    chosen: str, *, rounds: int = 0, seconds: float = 0.0, machines: int = 3, way=None, may_expire: bool = True
) -> Figures:
    """Let as many rounds be, or for so long [s], over the tier to which `way` makes each machine's way."""
    figures, rng = Figures(), random.Random(f"{chosen}/at once")
    give_up_at = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        # It is waited for the tier, however loaded this machine is.
        patch.setitem(Link.__init__.__kwdefaults__, "deadline_s", _PATIENCE_S)
        patch.setattr(teams, "DEADLINE_S", _PATIENCE_S)
        team = Team(Path(place), patch, way=way)
        try:
            working = [team.machine(f"m{number}") for number in range(machines)]
            while figures.rounds < rounds or time.monotonic() < give_up_at:
                only_sets = figures.rounds % 2 == 0
                one = Round(f"round {figures.rounds}", working, rng, only_sets=only_sets, may_expire=may_expire)
                one.run()
                fresh = team.machine(f"fresh {figures.rounds}")
                if may_expire and not only_sets:
                    time.sleep(_SHORT_S + 0.1)
                one.compare([*working, fresh])
                team.machines.remove(fresh)
                fresh.cache.close()
                figures.rounds += 1
                figures.sets += len(one.sets)
                figures.removals += one.removals
                figures.contested += one.contested()
                figures.faults += [f"seed {chosen}, round {figures.rounds - 1}: {fault}" for fault in one.faults]
        finally:
            team.close()
    return figures
