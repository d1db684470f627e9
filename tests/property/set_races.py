"""Values that are set under one key at once, step by step, over a tier of two: in the end all have one of them.

As `fill_races`, with steps at each call of either part. In every third round the part for what is large comes and goes,
in every third one processes are killed, and in every second one the key is deleted and invalidated as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import greenlet
from by_size_teams import LARGE_BYTES, SharedBySize
from property.fill_races import Paused, Scheduler
from simulated import MAX_STALE_S, Simulated, Time, nothing_by_itself

_KEY = "key"
_TAG = "t"
_MACHINES = 3
_STEP_S = 0.01
_REMOVALS = ("delete", "tag", "clear")


@dataclass
class Race:
    """What three machines do at once, in an order of chance; the same number gives the same order."""

    number: int
    sets: list = field(default_factory=list)
    removals: list = field(default_factory=list)
    killed: list = field(default_factory=list)
    """They stand still: one that is collected would be ended in order."""

    def __post_init__(self):
        self.rng = random.Random(self.number)
        self.scheduler = Scheduler(self.rng)
        self.time = Time()
        self.shared = SharedBySize(self.time, lambda: Paused(self.scheduler))
        self.machines = [self._machine(f"m{number}") for number in range(_MACHINES)]
        self.comes_and_goes = self.number % 3 == 1
        self.kills = self.number % 3 == 2
        self.removes = self.number % 2 == 1

    def run(self):
        """Let them, tell the team all of it, and raise for what is wrong; return the order of the steps."""
        for machine in self.machines:
            if self.rng.random() < 0.7:
                machine.look()
        order = self._race()
        for way in self.shared.ways.values():
            way.is_cut = False
        for machine in self.rng.sample(self.machines, _MACHINES):
            assert machine.tell(), self._said("not told")
        machines = [*self.machines, self._machine("fresh")]
        for _ in range(2):  # what was brought by the first look-up lies here by the second
            self.time.now_s += MAX_STALE_S + 1
            self._check([machine.get_value(_KEY) for machine in machines])
            for machine in machines:
                machine.entries.settle()
        for machine in machines:
            machine._tier._inner._workers.close()
        return order

    def _machine(self, name):
        return Simulated(self.shared, self.time, name, network=Paused(self.scheduler))

    def _race(self):
        actors = [greenlet.greenlet(lambda machine=machine: self._act(machine)) for machine in self.machines]
        self.scheduler.actors, order = list(actors), []
        while going := [
            number for number, actor in enumerate(actors) if actor in self.scheduler.actors and not actor.dead
        ]:
            number = self.rng.choice(going)
            order.append(number)
            if self.kills and self.rng.random() < 0.02:
                self.killed.append(actors[number])
                self.scheduler.actors.remove(actors[number])
                self.machines[number].start()
                continue
            if self.comes_and_goes and self.rng.random() < 0.1:
                way = self.shared.ways[f"m{number}"]
                way.is_cut = not way.is_cut
            actors[number].switch()
        self.scheduler.actors = []
        return bytes(order)

    def _act(self, machine):
        for _ in range(self.rng.randint(1, 3)):
            self.scheduler.pause()
            began_s = self._passes()
            chance = self.rng.random()
            if chance < 0.2:
                self.time.now_s += MAX_STALE_S + 1
                machine.get_value(_KEY)
            elif self.removes and chance < 0.45:
                how = self.rng.choice(_REMOVALS)
                self._remove(machine, how)
                self.removals.append((how, began_s))
            else:
                value = len(self.sets) + 1
                self.sets.append(None)
                size_bytes = self.rng.choice((0, LARGE_BYTES))
                machine.set_value(_KEY, value, [_TAG] if value % 2 else [], size_bytes=size_bytes)
                self.sets[value - 1] = began_s, self._passes()
        machine.tell()

    def _remove(self, machine, how):
        if how == "delete":
            machine.delete_value(_KEY)
        elif how == "tag":
            machine.invalidate_tag(_TAG)
        else:
            machine.clear()

    def _passes(self):
        self.time.now_s += _STEP_S
        return self.time.now_s

    def _check(self, found):
        assert len(set(found)) == 1, self._said(f"they differ: {found}")
        value = found[0]
        if value is None:
            assert self.removes or self.kills or not self.sets, self._said("lost")
            return
        if self.sets[value - 1] is None:
            return  # killed while it was set
        ended_s = self.sets[value - 1][1]
        late = [how for how, began_s in self.removals if began_s > ended_s and (how != "tag" or value % 2)]
        assert not late, self._said(f"{value} is there again")
        # Where what is to take the place of another can't be stored, the next one that is told can't know of it.
        if not (self.removes or self.kills or self.comes_and_goes):
            assert all(began_s < ended_s for began_s, _ in self.sets), self._said(f"{value} was not the last")

    def _said(self, what):
        return f"race {self.number}: {what}; of {self.sets}, {self.removals}"


def run_set_races(count, monkeypatch, first=0):
    """Force `count` interleavings, raise for what is wrong, and return how many orders there were."""
    with nothing_by_itself(monkeypatch):
        return len({Race(number).run() for number in range(first, first + count)})
