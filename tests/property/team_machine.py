"""Eight machines of a team, and all that can happen to them, as a Hypothesis state machine over any shared tier.

An answer is *stale* for a machine if its model was asked before an invalidation that this machine can know of: one
that it made, one that it has seen, or one that was published longer ago than the bound while it reaches the tier.
Every answer carries the moment of its call, so each hit is checked.

A value that is set carries its moment too. One that is set while the tier is away holds on its machine until the team
is told of it: until then that machine gets this one or none. When it is told it comes after all that was published, or
is gone for good. So does one that was set while its machine could not know of an earlier one. So a value is judged by
two moments: an invalidation by name is about what was set before it, and an overwriting about what was published then.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from machines import Origin
from property.new_keys import SetsAtOnce
from simulated import KEYS, MAX_STALE_S, START_S, SharedMemory, Simulated, Time, nothing_by_itself, value_id

from genai_cache_magic.core.validity import decode_generations
from genai_cache_magic.crypto.document_mac import verify_document
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.errors import StoreUnavailable

MACHINES = 8
QUESTIONS = ("one", "two", "three")
KEYS_SET = ("first", "second")
TAGS = {"one": ("a",), "two": ("a", "b"), "three": ("b",), "first": ("a",), "second": ("b",)}
NAMED = (*QUESTIONS, *KEYS_SET)
OVER = {key: f"{key}, set" for key in KEYS_SET}
"""Under which name it is noted what was overwritten."""
ALL = (*NAMED, *OVER.values())
DAY_S = 86_400.0
SKEWS_S = (0.0, 0.0, 30.0, -30.0, 3_600.0, -3_600.0, DAY_S, -DAY_S)
_STEP_S = 0.001

_machine = st.integers(0, MACHINES - 1)
_question = st.sampled_from(QUESTIONS)
_key = st.sampled_from(KEYS_SET)
_tag = st.sampled_from("ab")


@dataclass
class Figures:
    """What a series of examples showed."""

    steps: int = 0
    examples: int = 0
    hits: int = 0
    misses: int = 0
    invalidations: int = 0
    losses: int = 0
    thirds: int = 0
    kills: int = 0
    sets: int = 0
    away: int = 0
    arrived: int = 0
    not_kept: int = 0
    values: int = 0
    contested: int = 0
    at_once: int = 0
    first_error: BaseException | None = None
    """What ended an example first: an example that does not fail again is reported by Hypothesis without it."""

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps in {self.examples} teams of {MACHINES} machines: {self.hits:,} hits, 0 stale; "
            f"{self.misses:,} misses, {self.invalidations:,} invalidations, {self.kills:,} kills; "
            f"{self.losses:,} documents lost or put back, at most one new root for each; "
            f"{self.thirds:,} third machines hit after invalidation and refill; {self.sets:,} values set, "
            f"{self.values:,} got, 0 stale; {self.away:,} set while away, of which {self.arrived:,} arrived "
            f"and {self.not_kept:,} were not kept, 0 resurrected; {self.contested:,} took the place of earlier ones, "
            f"{self.at_once:,} new keys set at once"
        )


def _read(blob):
    return decode_generations(verify_document(KEYS.mac_key, f"generations/{KEYS.namespace}", blob))


class TeamMachine(SetsAtOnce, RuleBasedStateMachine):
    """The team under test, and what is known of every question."""

    figures = Figures()
    share = SharedMemory  # replaced where the tier is a real one

    @initialize()
    def begin(self):
        self.patch = pytest.MonkeyPatch()
        self._still = nothing_by_itself(self.patch)
        self._still.__enter__()
        self.time = Time(START_S)
        self.shared = type(self).share(self.time)
        self.machines = [Simulated(self.shared, self.time, f"m{n}", skew_s=skew_s) for n, skew_s in enumerate(SKEWS_S)]
        self.document = self.shared.tier("outsider").document(GENERATIONS)
        self.origin = Origin()
        # Of each question: what the document says, when it came to say so; and what each machine knows.
        self.published = [(self.time.now_s, dict.fromkeys(ALL, 0))]
        self.known = [dict.fromkeys(ALL, 0) for _ in self.machines]
        self.queued = [{} for _ in self.machines]
        # Of each machine: which value waits to be told under a key; of each value, when it was published last.
        self.waiting = [{} for _ in self.machines]
        self.told = {}
        self.gone = set()
        self.untold = [{} for _ in self.machines]  # what was set with the tier, and is queued
        self.outsider = self.shared.tier("outsider").store
        self.asked_to_clear = 0
        self.lost = 0
        self.roots = set()
        self.saved = None
        self.figures.examples += 1

    def teardown(self):
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and self.figures.first_error is None:
            self.figures.first_error = error
        if hasattr(self, "_still"):
            self._still.__exit__(None, None, None)
            self.patch.undo()

    # What machines do

    @rule(number=_machine, question=_question, mode=st.sampled_from(("use", "use", "use", "use", "refresh", "read")))
    def ask(self, number, question, mode):
        """A hit is never stale for a machine that can know it."""
        self._asks(number, question, mode)
        self._looked_at()

    @rule(number=_machine, tag=_tag)
    def invalidate_tag(self, number, tag):
        """Published where the tier can be reached, else queued, and in force here at once."""
        self.machines[number].invalidate_tag(tag)
        self._invalidated(number, [name for name in NAMED if tag in TAGS[name]], self.origin.answers)
        self._looked_at()

    @rule(number=_machine)
    def clear(self, number):
        self.asked_to_clear += 1
        self.machines[number].clear()
        self._invalidated(number, NAMED, self.origin.answers)
        self._looked_at()

    @rule(number=_machine, key=_key)
    def set_value(self, number, key):
        """Set a value, with the tier or without it."""
        self._sets(number, key)
        self._looked_at()

    @rule(number=_machine, key=_key)
    def get_value(self, number, key):
        """No value that was invalidated or overwritten, for who can know it; and what was set here, while it waits."""
        self._gets(number, key)
        self._looked_at()

    @rule(number=_machine, key=_key)
    def delete_value(self, number, key):
        self.machines[number].delete_value(key)
        self._invalidated(number, [key], self.origin.answers)
        self._looked_at()

    @rule(numbers=st.permutations(range(MACHINES)), key=_key, how=st.sampled_from(("tag", "clear", "delete", "set")))
    def set_away_and_change_meanwhile(self, numbers, key, how):
        """What the team has published meanwhile counts, and what was set away never comes back."""
        first, second, third = numbers[:3]
        for number in (first, second, third):
            self.machines[number].network.is_cut = False
            assert self._tells(number)
        for number in (first, second, third):
            self.machines[number].look()
        self.machines[first].network.is_cut = True
        self._sets(first, key)
        record = self._record(key)
        if how == "set":
            self._sets(second, key)
        elif how == "clear":
            self.clear(second)
        elif how == "tag":
            self.invalidate_tag(second, TAGS[key][0])
        else:
            self.delete_value(second, key)
        has_ruled = how != "set" or self._record(key) != record
        self.machines[first].network.is_cut = False
        arrived = self.figures.arrived
        for number in (first, second):
            assert self._tells(number)
        assert not has_ruled or self.figures.arrived == arrived
        self.time.now_s += MAX_STALE_S + 0.1
        for number in (first, second, third):
            self._gets(number, key)
        self._looked_at()

    @rule(numbers=st.permutations(range(MACHINES)), key=_key)
    def set_away_and_get_elsewhere(self, numbers, key):
        """What is set while away is got by another machine, if the team has not changed it meanwhile."""
        first, second = numbers[:2]
        for number in (first, second):
            self.machines[number].network.is_cut = False
            assert self._tells(number)
        for number in (first, second, first):
            self.machines[number].look()  # each may say by a new root that a document was put back
        self.time.now_s += 30  # so that nobody doubts what was set earlier
        self.machines[first].network.is_cut = True
        value = self._sets(first, key)
        self._gets(first, key)
        assert self.machines[first].get_value(key) == value
        self.machines[first].network.is_cut = False
        assert self._tells(first)
        self.time.now_s += MAX_STALE_S + 0.1
        assert self._gets(second, key) == value
        self._looked_at()

    @rule(number=_machine)
    def tell(self, number):
        """What waits is told, invalidations first."""
        self._tells(number)
        self._looked_at()

    @rule(number=_machine)
    def restart(self, number):
        """A kernel is killed, and another process of its machine begins."""
        self.figures.kills += 1
        self.machines[number].start()
        self._looked_at()

    @rule(numbers=st.permutations(range(MACHINES)), question=_question)
    def invalidate_refill_and_ask_elsewhere(self, numbers, question):
        """The third machine hits what the second one fetched after the first one's invalidation."""
        numbers = numbers[:3]
        for number in numbers:
            self.machines[number].network.is_cut = False
            assert self._tells(number)
        for number in numbers:
            # Who has seen that a document was put back says so by a new root now, and not in between.
            self.machines[number].look()
        first, second, third = numbers
        self.machines[first].invalidate_tag(TAGS[question][0])
        self._invalidated(first, [other for other in NAMED if TAGS[question][0] in TAGS[other]], self.origin.answers)
        self.time.now_s += MAX_STALE_S + 0.1
        refilled = self._asks(second, question, "use")
        assert self._tells(second)
        asked = self.origin.answers
        assert self._asks(third, question, "use") == refilled
        assert self.origin.answers == asked
        self.figures.thirds += 1
        self._looked_at()

    # What happens to them

    @rule(number=_machine, is_cut=st.booleans())
    def partition(self, number, is_cut):
        self.machines[number].network.is_cut = is_cut
        self._looked_at()

    @rule(seconds=st.sampled_from((0.5, 3.0, 6.0, 600.0)), asleep=st.sets(_machine, max_size=4))
    def wait(self, seconds, asleep):
        """Time passes; for a machine that sleeps only its wall clock does."""
        self.time.now_s += seconds
        for number in asleep:
            self.machines[number].slept_s += seconds
        self._looked_at()

    @rule()
    def flush(self):
        """An outsider's FLUSHALL."""
        self._loses(self.shared.flush)

    @rule()
    def lose_document(self):
        self._loses(lambda: self.shared.lose(GENERATIONS))

    @rule()
    def save(self):
        """Keep a copy, for a rollback later."""
        self.saved = (self.document.load(), dict(self.published[-1][1]))
        self._looked_at()

    @precondition(lambda self: self.saved is not None and self.saved[0] is not None)
    @rule()
    def roll_back(self):
        """An older document is put back; others may change it before anybody looks who has seen the newer one."""
        now = self.document.load()
        if now is None or now == self.saved[0]:
            return
        self.lost += 1
        self.figures.losses += 1
        assert self.document.replace(self.saved[0], expected=now)
        self.published = [(self.time.now_s, dict(self.saved[1]))]
        self._looked_at()

    # What is known of all that

    def _asks(self, number, question, mode):
        machine = self.machines[number]
        before = self.origin.answers
        was_cut = machine.network.is_cut
        # What is unread of the tier when it may be no longer: published before the bound.
        if not was_cut:
            self._knows(number, self._published_before(self.time.now_s - MAX_STALE_S))
        calls = machine.network.calls
        answer, record = machine.ask(self.origin, question, mode=mode, tags=TAGS[question])
        if not was_cut and machine.network.calls > calls and mode != "refresh":
            self._knows(number, self.published[-1][1])
        if self.origin.answers == before:
            known = self.known[number][question]
            assert answer > known, f"machine {number}: {record}: asked at {answer}, invalidated at {known}"
            self.figures.hits += 1
        else:
            self.figures.misses += 1
        if mode == "refresh":
            self._invalidated(number, [question], before)  # it published before it asked, or queued that
        return answer

    def _sets(self, number, key):
        machine = self.machines[number]
        self.origin.answers += 1
        value = self.origin.answers
        was_cut, calls, record = machine.network.is_cut, machine.network.calls, self._record(key)
        try:
            lost = machine.set_value(key, value, TAGS[key])
        except StoreUnavailable:
            return value  # what is valid can't be told here: nothing was set
        self.figures.sets += 1
        if was_cut:
            self.figures.away += 1
        if was_cut and not lost:
            self.waiting[number][key] = value
            return value
        self.waiting[number].pop(key, None)
        if was_cut:
            self.figures.not_kept += 1
            self.gone.add(value)
            self._invalidated(number, [OVER[key]], value)
            return value
        if machine.network.calls > calls:
            self._knows(number, self.published[-1][1])
        self._knows(number, {OVER[key]: value - 1})
        if self._record(key) != record:
            self._says({OVER[key]: value - 1})
        self.untold[number][key] = value
        return value

    def _record(self, key):
        """Return what the document says of a key."""
        blob = self.document.load()
        return None if blob is None else _read(blob).entries.get(value_id(key))

    def _gets(self, number, key):
        machine = self.machines[number]
        was_cut, calls = machine.network.is_cut, machine.network.calls
        if not was_cut:
            self._knows(number, self._published_before(self.time.now_s - MAX_STALE_S))
        value = machine.get_value(key)
        if not was_cut and machine.network.calls > calls:
            self._knows(number, self.published[-1][1])
        if value is None:
            return None
        self.figures.values += 1
        assert value not in self.gone, f"machine {number}: value {value} was not kept"
        known = self.known[number]
        assert value > known[key], f"machine {number}: value {value}, invalidated at {known[key]}"
        if key in self.waiting[number]:
            assert value == self.waiting[number][key], f"machine {number}: value {value} while another waits"
        else:
            told = self.told.get(value, value)
            assert told > known[OVER[key]], f"machine {number}: value {value} of {told}, overwritten {known[OVER[key]]}"
        return value

    def _settled(self, number):
        """See what became of the values of a machine that waited."""
        for key, value in self.waiting[number].items():
            if self.machines[number].number_in(self.outsider.get(value_id(key)), key) == value:
                self.figures.arrived += 1
                self._tells_anew(number, key, value)
            else:
                self.figures.not_kept += 1
                self.gone.add(value)
        self.waiting[number] = {}

    def _published_before(self, moment_s):
        return next((said for at_s, said in reversed(self.published) if at_s <= moment_s), {})

    def _knows(self, number, said):
        known = self.known[number]
        for question, moment in said.items():
            known[question] = max(known[question], moment)

    def _invalidated(self, number, questions, moment):
        self.figures.invalidations += 1
        self._knows(number, dict.fromkeys(questions, moment))
        if self.machines[number].network.is_cut:
            self.queued[number].update(dict.fromkeys(questions, moment))
        else:
            self._says(dict.fromkeys(questions, moment))

    def _tells(self, number):
        machine = self.machines[number]
        records = {key: self._record(key) for key in self.untold[number]}
        is_all = machine.tell()
        if not machine.network.is_cut:
            self._says(self.queued[number])
            self.queued[number] = {}
            self._contested(number, records)
            self._settled(number)
        return is_all

    def _contested(self, number, records):
        """See which of the values that were queued took the place of others: those were set before it."""
        for key, value in self.untold[number].items():
            is_there = self.machines[number].number_in(self.outsider.get(value_id(key)), key) == value
            if is_there and self._record(key) != records[key]:
                self.figures.contested += 1
                self._tells_anew(number, key, value)
        self.untold[number] = {}

    def _tells_anew(self, number, key, value):
        """Note that a value was published: it comes after all others now."""
        self.origin.answers += 1
        self.told[value] = self.origin.answers
        self._says({OVER[key]: self.origin.answers - 1})
        self._knows(number, {OVER[key]: self.origin.answers - 1})

    def _says(self, what):
        said = dict(self.published[-1][1])
        for question, moment in what.items():
            said[question] = max(said[question], moment)
        self.published.append((self.time.now_s, said))

    def _loses(self, how):
        if self.document.load() is not None:
            self.lost += 1
            self.figures.losses += 1
        how()
        self._looked_at()

    def _looked_at(self):
        """Count a step, and the roots that there have been."""
        self.figures.steps += 1
        self.time.now_s += _STEP_S
        blob = self.document.load()
        if blob is not None:
            self.roots.add(_read(blob).root)
        allowed = 1 + self.asked_to_clear + self.lost
        assert len(self.roots) <= allowed, (
            f"{len(self.roots)} roots for {self.lost} losses, {self.asked_to_clear} clears"
        )
