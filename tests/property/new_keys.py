"""What machines of a team do to a key of which nobody has heard, in one moment: a part of `TeamMachine`."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule
from simulated import MAX_STALE_S

_APART_S = 0.01
_MACHINES = 4


class SetsAtOnce:
    """Rules that end in what all machines have to agree on."""

    @rule(
        numbers=st.permutations(range(8)),
        setters=st.integers(2, 3),
        order=st.permutations(range(_MACHINES)),
        told=st.integers(0, 2),
        is_deleted=st.booleans(),
        is_killed=st.booleans(),
    )
    def set_a_new_key_at_once(self, numbers, setters, order, told, is_deleted, is_killed):  # noqa: PLR0917 - drawn
        """The last that was set counts, whoever is told first; what was deleted then is gone, for all."""
        machines = [self.machines[number] for number in numbers[:_MACHINES]]
        for number, machine in zip(numbers, machines, strict=False):
            machine.network.is_cut = False
            assert self._tells(number)
        for machine in machines * 2:
            machine.look()  # each may say by a new root that a document was put back
        key = f"new {self.figures.steps}"
        for machine in machines[:setters]:
            self.origin.answers += 1
            assert not machine.set_value(key, self.origin.answers)
            self.time.now_s += _APART_S
        expected = self.origin.answers
        for place in order[:told]:  # before it is deleted
            assert machines[place].tell()
        if is_deleted:
            machines[3].delete_value(key)
            expected = None
        if is_killed:
            machines[order[2]].start()  # what waits is told by the next process
        for place in order:
            assert machines[place].tell()
        self.time.now_s += MAX_STALE_S + 0.1
        found = [machine.get_value(key) for machine in machines]
        assert found == [expected] * _MACHINES, f"{found} of machines {numbers[:_MACHINES]}, not {expected}"
        self.figures.at_once += 1
        self._looked_at()
