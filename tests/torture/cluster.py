"""A team over a cluster whose slots move and whose nodes are killed, on and on: no exception, and nothing stale."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from faults.test_team_cluster import masters
from machines import Machine, Origin

from genai_cache_magic import create_cache
from genai_cache_magic.calls.steps import Follow
from genai_cache_magic.testing.servers import RedisNodes

_MACHINES = 3
_QUESTIONS = 20
_TAGS = 4
_MAX_STALE_S = 1.0
_SLOTS = 200
_WAITED_S = 120.0
_SETTLES_S = 90.0
"""How long the team may take, once the cluster is whole again, until all that waited is told [s]."""


class CountedOrigin(Origin):
    """A model that threads ask."""

    def __init__(self):
        super().__init__()
        self._lock = threading.Lock()

    def __call__(self):
        with self._lock:
            return super().__call__()


class Patient(Machine):
    """A machine whose callers wait as long as others are waited for: a lease may be left behind by a node's death."""

    def waited(self, step):
        while isinstance(step, Follow):
            landing = step.future.result(_WAITED_S)
            step = step.lead.desk.resume(step, landing)
        return step


@dataclass
class Figures:
    """What a run showed."""

    asks: int = 0
    invalidations: int = 0
    moves: int = 0
    kills: int = 0
    longest_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def __str__(self):
        return (
            f"cluster: {self.asks:,} calls of {_MACHINES} machines, {self.invalidations:,} invalidations, "
            f"{self.moves} times slots moved, {self.kills} nodes killed: {len(self.faults)} wrong; "
            f"the longest call took {self.longest_s:.1f} s"
        )


class Living:
    """One machine that asks and invalidates in a thread, and checks what it is served."""

    def __init__(self, machine, origin, figures, rng):
        self.machine = machine
        self._origin = origin
        self._figures = figures
        self._rng = rng
        self.invalid = dict.fromkeys(
            range(_TAGS), 0
        )  # of each tag: how many answers there were when it was invalidated
        self.is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self):
        self._thread.start()

    def join(self):
        self.is_over.set()
        self._thread.join(60)

    def ask(self, question, least):
        tag = question % _TAGS
        started = time.monotonic()
        text, _ = self.machine.ask(self._origin, f"question {question}", tags=[f"t{tag}"])
        self._figures.longest_s = max(self._figures.longest_s, time.monotonic() - started)
        self._figures.asks += 1
        number = int(text.removeprefix("answer "))
        if number <= least:
            self._figures.faults.append(f"question {question}: answer {number}, invalidated after {least}")

    def _run(self):
        try:
            while not self.is_over.is_set():
                if self._rng.random() < 0.03:
                    tag = self._rng.randrange(_TAGS)
                    before = self._origin.answers
                    self.machine.cache.invalidate_tag(f"t{tag}")
                    self.invalid[tag] = before
                    self._figures.invalidations += 1
                question = self._rng.randrange(_QUESTIONS)
                self.ask(question, self.invalid[question % _TAGS])
                self.is_over.wait(0.002)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
            self._figures.faults.append(f"{type(error).__name__}: {error}")


def run_cluster(seconds, chosen):
    """Let a team live for `seconds` [s] while its cluster is disturbed; return what that showed."""
    rng, figures, origin = random.Random(f"{chosen}/cluster"), Figures(), CountedOrigin()
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(RedisNodes())
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="genai-cache-cluster-")))
        nodes.give_up_after(2_000)
        living = []
        for number in range(_MACHINES):
            cache = create_cache(
                "redis",
                l2=nodes.url,
                namespace="torture",
                dir=os.fspath(place / str(number)),
                key_file=os.fspath(place / "key"),
                max_stale=f"{_MAX_STALE_S:g}s",
            )
            stack.callback(cache.close)
            assert cache.team is not None
            living.append(Living(Patient(cache, None, None, []), origin, figures, random.Random(rng.random())))
        for one in living:
            one.start()
        try:
            _disturb(nodes, rng, figures, time.monotonic() + seconds)
        finally:
            for one in living:
                one.join()
        _agree(living, figures)
    return figures


def _disturb(nodes, rng, figures, until):
    while time.monotonic() < until and not figures.faults:
        (one, _), (other, dying), *_ = rng.sample(masters(nodes), 2)
        if rng.random() < 0.5:
            try:
                nodes.reshard(one, other, slots=_SLOTS)
            except subprocess.CalledProcessError:  # a slot was half-way to a node that had just been killed
                nodes.mend()
            figures.moves += 1
        else:
            dying.stop()
            time.sleep(rng.uniform(0.0, 6.0))  # before, while and after its replica takes over
            dying.start()
            figures.kills += 1
        nodes.await_complete()


def _agree(living, figures):
    """When all is told and seen, nobody is served what anybody has invalidated."""
    give_up_at = time.monotonic() + _SETTLES_S
    for one in living:
        while not one.machine.cache.team.tell(within_s=5.0):
            if time.monotonic() > give_up_at:
                figures.faults.append("what waited was not told after the cluster was whole again")
                return
    time.sleep(_MAX_STALE_S + 2.0)  # the bound, which is the point
    for one in living:
        for question in range(_QUESTIONS):
            one.ask(question, max(other.invalid[question % _TAGS] for other in living))
