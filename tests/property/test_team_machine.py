"""Eight machines of a team, partitions, kills and losses: what was invalidated is served by nobody who can know it.

An answer is *stale* for a machine that reaches the tier if its model was asked before an invalidation that names it was
published, or before that machine made one itself. Every answer carries the moment of its call, so each hit is checked.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from machines import Origin, Team

from genai_cache_magic.entries.drain import Drain
from genai_cache_magic.errors import StoreUnavailable

MACHINES = 8
QUESTIONS = ("one", "two", "three")
TAGS = {"one": ("a",), "two": ("a", "b"), "three": ("b",)}
_machine = st.integers(0, MACHINES - 1)
_question = st.sampled_from(QUESTIONS)
_tag = st.sampled_from("ab")


class TeamMachine(RuleBasedStateMachine):
    """The team under test, and what is known of every question: when it was last invalidated."""

    @initialize()
    def begin(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(Drain, "poke", lambda _: None)  # told when the machine under test says so
        self.place = Path(tempfile.mkdtemp(prefix="genai-cache-team-"))
        self.team = Team(self.place, self.patch)
        self.machines = [self.team.machine(f"m{number}") for number in range(MACHINES)]
        self.origin = Origin()
        self.published = dict.fromkeys(QUESTIONS, 0)
        self.queued = [dict.fromkeys(QUESTIONS, 0) for _ in range(MACHINES)]
        self.rolled_back = None

    def teardown(self):
        for machine in getattr(self, "machines", ()):
            machine.tier.is_away = True  # nothing is told at the end
        if hasattr(self, "team"):
            self.team.close()
            self.patch.undo()
            shutil.rmtree(self.place)

    # What machines do

    @rule(number=_machine, question=_question, mode=st.sampled_from(("use", "use", "use", "refresh", "read")))
    def ask(self, number, question, mode):
        """A hit is never stale for a machine that can know it."""
        machine = self.machines[number]
        machine.goes_stale()
        before = self.origin.answers
        text, record = machine.ask(self.origin, question, mode=mode, tags=TAGS[question])
        answer = int(text.removeprefix("answer "))
        known = self.queued[number][question]
        if not machine.tier.is_away:
            known = max(known, self.published[question])
        if self.origin.answers == before:
            assert answer > known, f"{record}: asked at {answer}, invalidated at {known}"
        if mode == "refresh":
            # It published before it asked, or queued that.
            self._invalidated(number, [question], at=before)

    @rule(number=_machine, tag=_tag)
    def invalidate_tag(self, number, tag):
        """Published where the tier can be reached, else queued, and in force here at once."""
        self.machines[number].cache.invalidate_tag(tag)
        self._invalidated(number, [question for question in QUESTIONS if tag in TAGS[question]])

    @rule(number=_machine)
    def clear(self, number):
        self.machines[number].cache.clear()
        self._invalidated(number, QUESTIONS)

    @rule(number=_machine)
    def tell(self, number):
        """What waits is told, invalidations first."""
        machine = self.machines[number]
        try:
            machine.cache._team._drain.once()
        except StoreUnavailable:
            return
        assert not machine.tier.is_away or machine.cache._team._outbox.count() == (0, 0)
        self._told(number)

    @rule(number=_machine)
    def restart(self, number):
        """A kernel is killed, and another process of its machine begins."""
        old = self.machines[number]
        self.machines[number] = self.team.machine(f"m{number}", is_away=old.tier.is_away)
        self.team.machines.remove(self.machines[number])
        self.team.machines[self.team.machines.index(old)] = self.machines[number]
        old.cache._team._outbox.close()
        old.cache._entries.close()
        old.cache._state.close()

    # What happens to them

    @rule(number=_machine, is_away=st.booleans())
    def partition(self, number, is_away):
        self.machines[number].tier.is_away = is_away

    @rule()
    def flush(self):
        """An outsider's FLUSHALL: everything is gone, the keyset too, which each machine keeps."""
        keyset = self.team.server.documents.get("keyset")
        self.team.server.flush()
        if keyset is not None:
            self.team.server.documents["keyset"] = keyset

    @rule()
    def lose_document(self):
        self.team.server.documents.pop("generations", None)

    @rule()
    def save(self):
        """Keep a copy, for a rollback later."""
        document = self.team.server.documents.get("generations")
        self.rolled_back = document and document.load()

    @precondition(lambda self: self.rolled_back is not None)
    @rule(number=_machine)
    def roll_back(self, number):
        """An older document is put back, and then a machine that has seen the newest looks."""
        document = self.team.server.documents.get("generations")
        if document is None or document.load() is None:
            return
        highest = max(range(MACHINES), key=lambda n: self.machines[n].cache._entries.generations._known().ver)
        document.replace(self.rolled_back, expected=document.load())
        del number
        self.machines[highest].tier.is_away = False
        self.machines[highest].goes_stale()
        self.machines[highest].ask(self.origin, "anything")

    def _invalidated(self, number, questions, *, at=None):
        moment = self.origin.answers if at is None else at
        is_queued = self.machines[number].cache._team._outbox.count()[0] > 0
        for question in questions:
            if self.machines[number].tier.is_away or is_queued:
                self.queued[number][question] = max(self.queued[number][question], moment)
            if not self.machines[number].tier.is_away:
                self.published[question] = max(self.published[question], moment)

    def _told(self, number):
        if self.machines[number].tier.is_away:
            return
        for question, moment in self.queued[number].items():
            self.published[question] = max(self.published[question], moment)


TeamMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestTeam = TeamMachine.TestCase
TestTeam = pytest.mark.usefixtures("isolated")(TestTeam)
