"""Questions to the team that are asked in one tick of an event loop go together."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.calls.tasks import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.link import Looked

    Asked = tuple[EntryId, Callable[[Looked], None]]


class AsksMany(Protocol):
    """Asks what is given together as one, and returns at once."""

    def __call__(self, asked: Sequence[Asked], /) -> None:
        """Ask about each entry, and tell who wants to know."""


class Gathered:
    """Asks through `ask_many` what the tasks of a loop ask for until all that are ready now have run.

    No task could go on with an answer any sooner. Who blocks its thread asks at once.
    """

    def __init__(self, ask_many: AsksMany) -> None:
        self._ask_many = ask_many
        self._of_thread = threading.local()

    def ask(self, entry_id: EntryId, deliver: Callable[[Looked], None], *, is_async: bool) -> None:
        """Ask about `entry_id`; `deliver` is called from another thread, soon."""
        self._gather([(entry_id, deliver)], is_async=is_async)

    def ask_all(
        self, entry_ids: Iterable[EntryId], deliver: Callable[[Mapping[EntryId, Looked]], None], *, is_async: bool
    ) -> None:
        """Ask about each of `entry_ids`; `deliver` is called once, from another thread, when all is known."""
        wanted = dict.fromkeys(entry_ids)
        found: dict[EntryId, Looked] = {}
        lock = threading.Lock()

        def tell(entry_id: EntryId, looked: Looked) -> None:
            with lock:
                found[entry_id] = looked
                is_last = len(found) == len(wanted)
            if is_last:
                deliver(found)

        self._gather([(entry_id, partial(tell, entry_id)) for entry_id in wanted], is_async=is_async)

    def _gather(self, asked: list[Asked], *, is_async: bool) -> None:
        loop = running_loop() if is_async else None
        if loop is None:
            self._ask_many(asked)
            return
        here = self._of_thread
        # Another loop than that of the last time: what was gathered for one that was left will never be asked for.
        if getattr(here, "loop", None) != loop.identity or not here.asked:
            here.loop, here.asked = loop.identity, []
            loop.call_soon(self._flush)
        here.asked += asked

    def _flush(self) -> None:
        asked, self._of_thread.asked = self._of_thread.asked, []
        if asked:
            self._ask_many(asked)
