"""Fills that race with an invalidation, step by step: whatever the order, nothing outdated is served after the bound.

Every call of the shared tier, and the model's own call, is a point at which another machine may go on. A scheduler
decides who does, so that each order is forced, and can be forced again by its number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import greenlet
from machines import Origin
from simulated import MAX_STALE_S, Network, SharedMemory, Simulated, Time, nothing_by_itself

ROUNDS_OF_A_TEAM = 100
TAG = "t"


@dataclass
class Scheduler:
    """Lets one machine at a time do one step."""

    rng: random.Random
    order: list[int] = field(default_factory=list)
    actors: list = field(default_factory=list)

    def pause(self):
        """Give way to whoever is next; called in the middle of what a machine does."""
        if greenlet.getcurrent() in self.actors:
            greenlet.getcurrent().parent.switch()

    def run(self, *works):
        """Carry out all of `works`, step by step, in an order of chance; return who made each step."""
        self.actors = [greenlet.greenlet(work) for work in works]
        order = []
        while any(not actor.dead for actor in self.actors):
            number = self.rng.choice([n for n, actor in enumerate(self.actors) if not actor.dead])
            order.append(number)
            self.actors[number].switch()
        self.actors = []
        return bytes(order)


class Paused(Network):
    """A network that gives way before each call."""

    def __init__(self, scheduler):
        super().__init__()
        self._scheduler = scheduler

    def enter(self):
        self._scheduler.pause()
        super().enter()


class SlowOrigin(Origin):
    """A model that is asked, and answers later."""

    def __init__(self, scheduler):
        super().__init__()
        self._scheduler = scheduler

    def __call__(self):
        response = super().__call__()
        self._scheduler.pause()
        return response


class Races:
    """Four machines that ask one thing while one of them invalidates it; made anew now and then."""

    def __init__(self, seed):
        self.scheduler = Scheduler(random.Random(seed))
        self.time = Time()
        shared = SharedMemory(self.time)
        self.machines = [
            Simulated(shared, self.time, f"m{n}", network=Paused(self.scheduler), skew_s=skew_s)
            for n, skew_s in enumerate((0.0, 3_600.0, -3_600.0, 0.0))
        ]
        self.origin = SlowOrigin(self.scheduler)
        self.published_at = 0
        self.hits = 0

    def run(self, text, how, is_there):
        """Force one interleaving; return its order."""
        filler, invalidator, other, _ = self.machines
        entry_id = filler.entry_id(text)
        if is_there:
            filler.ask(self.origin, text, tags=[TAG])
            filler.tell()
        self.time.now_s += MAX_STALE_S + 1 if self.scheduler.rng.random() < 0.5 else 1

        def fills(machine):
            machine.ask(self.origin, text, tags=[TAG])
            assert machine.tell()

        order = self.scheduler.run(
            lambda: fills(filler), lambda: self._invalidate(invalidator, how, text, entry_id), lambda: fills(other)
        )
        self.time.now_s += MAX_STALE_S + 0.1
        for machine in self.scheduler.rng.sample(self.machines, 2):
            before = self.origin.answers
            number, _ = machine.ask(self.origin, text, tags=[TAG])
            if self.origin.answers == before:
                self.hits += 1
                assert number > self.published_at, f"{list(order)}: asked at {number}, published at {self.published_at}"
        return order

    def _invalidate(self, machine, how, text, entry_id):
        """Invalidate, and note how many answers were asked for by then: nothing happens between publishing and that."""
        if how == "refresh":
            self.published_at = machine.ask(self.origin, text, mode="refresh", tags=[TAG])[0] - 1
            machine.tell()
            return
        if how == "tag":
            machine.invalidate_tag(TAG)
        elif how == "clear":
            machine.clear()
        else:
            machine.entries.publish([entry_id])
        self.published_at = self.origin.answers


def run_races(count, monkeypatch, first=0):
    """Force `count` interleavings, raise for a stale hit, and return how many orders and hits there were."""
    orders, hits, races = set(), 0, None
    with nothing_by_itself(monkeypatch):
        for number in range(first, first + count):
            if number % ROUNDS_OF_A_TEAM == 0:
                races = Races(number)
            how = ("tag", "entry", "clear", "refresh")[number % 4]
            orders.add((how, races.run(f"question {number % ROUNDS_OF_A_TEAM}", how, is_there=number % 3 > 0)))
            hits, races.hits = hits + races.hits, 0
    return len(orders), hits
