"""A team in one thread: each machine's clocks, network and disk are simulated, and nothing happens by itself.

What is simulated is what lies around: look-ups are made where they are asked for, the queue is told and time passes
when a test says so. All that decides is what ships.
"""

from __future__ import annotations

import contextlib
import copy
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import orjson
import pytest
from machines import MODEL, Origin

from genai_cache_magic.calls import keeping, telling
from genai_cache_magic.calls.desk import CallDesk
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Answered, Follow, Lead
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import VALUE, Entry, EntryId, Metadata, Response
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.core.validity import Change
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.behind import Behind
from genai_cache_magic.entries.codec import Codec, Compression, Unsealed
from genai_cache_magic.entries.entries import Entries, Found
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.entries.highest import HighestDocument
from genai_cache_magic.entries.keys import Keys
from genai_cache_magic.entries.link import looked
from genai_cache_magic.entries.rows import COLUMNS, SCHEMA, Rows
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.entries.team import tier as teams
from genai_cache_magic.entries.team.clock import TeamClock
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.everywhere import find_everywhere
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.entries.team.pending import Pending
from genai_cache_magic.entries.team.tier import GENERATIONS, Team
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.settings.model import Settings
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.stores.guarded import GuardedDocument, guard_store, guarded
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.stores.rights import Rights
from genai_cache_magic.stores.snapshot import SnapshotDocument
from genai_cache_magic.testing.tier import MemoryServer, MemoryTier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.base import Document, LookUp, SharedTier

KEYS = Keys("default", b"i" * 32, b"m" * 32)
MAX_STALE_S = 5.0
START_S = 1_800_000_000.0
_ORIGINS = None


class Shared(Protocol):
    """What machines share, and what outsiders can do to it."""

    def tier(self, name: str) -> SharedTier:
        """Return one machine's way to it."""

    def flush(self) -> None:
        """Lose everything."""

    def lose(self, document: str) -> None:
        """Lose a document."""


class SharedMemory:
    """A tier in memory whose clock is simulated."""

    def __init__(self, time: Time, *, server_skew_s: float = 0.0) -> None:
        self.server = MemoryServer(clock=lambda: time.now_s + server_skew_s)

    def tier(self, name: str) -> SharedTier:
        return MemoryTier(self.server, name)

    def flush(self) -> None:
        self.server.flush()

    def lose(self, document: str) -> None:
        self.server.documents.pop(document, None)


@dataclass
class Time:
    """The time that passes for all [s since the epoch]."""

    now_s: float = START_S


class Network:
    """One machine's connection, as what `guarded` asks for leave: none while it is cut."""

    def __init__(self) -> None:
        self.is_cut = False
        self.calls = 0
        self.rights = Rights()

    def enter(self) -> None:
        self.calls += 1
        if self.is_cut:
            raise StoreUnavailable("the network is cut")

    def succeeded(self, leave: None) -> None:
        pass

    def failed(self, leave: None, error: StoreUnavailable) -> None:
        pass

    def gave_up(self, leave: None) -> None:
        pass


class Reached:
    """A tier through a machine's network. A ``SharedTier``."""

    round_size = 1_000

    def __init__(self, inner: SharedTier, network: Network) -> None:
        self.name = inner.name
        self.store = guard_store(inner.store, network)
        self._inner = inner
        self._network = network

    def document(self, name: str) -> Document:
        return GuardedDocument(self._inner.document(name), self._network)

    def look_up(self, document: str, keys: Sequence[str]) -> LookUp:
        with guarded(self._network):
            return self._inner.look_up(document, keys)

    def close(self) -> None:
        self._inner.close()


@dataclass
class Disk:
    """What outlives a machine's processes."""

    store: MemoryStore
    copy: MemoryDocument = field(default_factory=MemoryDocument)
    state: StateFile = field(default_factory=lambda: StateFile(None, SCHEMA, columns=COLUMNS))
    outbox: Outbox = field(default_factory=lambda: Outbox(None))


class AtOnce:
    """Look-ups that are made where they are asked for."""

    def __init__(self, ask) -> None:
        self._ask = ask

    def look_up_many(self, asked) -> None:
        for one, deliver in asked:
            found, trouble = self._ask((one,))
            deliver(looked(found.get(one), trouble))


class Simulated:
    """A machine of the team. Its wall clock is off by `skew_s`; `slept_s` is what its other clock has missed."""

    def __init__(
        self,
        shared: Shared,
        time: Time,
        name: str,
        *,
        skew_s: float = 0.0,
        network: Network | None = None,
        has_catalogue: bool = False,
    ) -> None:
        self.time = time
        self.network = network or Network()
        self.skew_s = skew_s
        self.slept_s = 0.0
        self.disk = Disk(MemoryStore(clock=self.wall_s))
        self.told: list[str] = []
        self.events: list[Event] = []
        self._tier = Reached(shared.tier(name), self.network)
        self._has_catalogue = has_catalogue
        self.start()

    def wall_s(self) -> float:
        return self.time.now_s + self.skew_s

    def monotonic_s(self) -> float:
        return self.time.now_s - self.slept_s

    def start(self) -> None:
        """Begin another process on what the last one left, which was killed."""
        disk = self.disk
        breaker = Breaker("team", BreakerConfig(first_pause_s=0.0, longest_pause_s=0.0))
        self.clock = TeamClock(self.wall_s, monotonic=self.monotonic_s)
        self.snapshot = SnapshotDocument(
            self._tier.document(GENERATIONS), disk.copy, clock=self.monotonic_s, wall_clock=self.wall_s
        )
        pending = Pending(disk.outbox)
        self.live = LiveGenerations(
            self.snapshot,
            namespace=KEYS.namespace,
            mac_key=KEYS.mac_key,
            random_bytes=os.urandom,
            remembers=HighestDocument(disk.state, namespace=KEYS.namespace, mac_key=KEYS.mac_key),
            on_loss=self.told.append,
            pending=pending,
            least_ver=self.clock.count,
            is_provisional=lambda: self.snapshot.is_provisional,
            begin=self.snapshot.begin,
        )
        self.live.recall()
        codec = self.codec = Codec(Unsealed(), Compression())
        self.shared = Entries(guard_store(self._tier.store, breaker), codec, self.live, clock=self.clock)
        self.team = Team(
            self._tier,
            breaker,
            snapshot=self.snapshot,
            generations=self.live,
            shared=self.shared,
            outbox=disk.outbox,
            pending=pending,
            clock=self.clock,
            max_stale_s=MAX_STALE_S,
        )
        self.team._link = AtOnce(self.team._ask)
        self.team._refreshes = AtOnce(self.team._publish)
        self.rows = Rows(disk.state, ColumnSeal(KEYS.mac_key), tag=KEYS.tag) if self._has_catalogue else None
        self.entries = Entries(
            disk.store, codec, self.live, rows=self.rows, recent_bytes=1 << 20, clock=self.clock, team=self.team
        )
        self.team.guards(self.entries, self.events.append)
        self.desk = CallDesk(self.entries, KEYS, team=self.team)

    def beside(self) -> Simulated:
        """Begin another process of this machine beside this one."""
        other = copy.copy(self)
        other.told, other.events = [], []
        other.start()
        return other

    @property
    def is_behind(self) -> bool:
        """Whether invalidations of this machine wait."""
        return self.disk.outbox.count()[0] > 0

    def ask(self, origin: Origin, text: str, *, mode: str = "use", tags: Sequence[str] = (), ttl_s: int | None = None):
        """Ask a model as an interceptor does; return the answer's number and the record of the call."""
        scope = CellScope(Options(mode=Mode(mode), tags=tuple(tags), ttl_s=ttl_s), person="tester")
        step = self.waited(self.desk.begin(call_of(text), scope, is_async=False))
        if isinstance(step, Lead):
            response = origin()
            self.desk.commit(step, response)
        else:
            assert isinstance(step, Answered), step
            response = step.response
        return number_of(response), scope.calls[-1]

    def set_value(
        self, key: str, number: int, tags: Sequence[str] = (), *, ttl_s: int = 30 * 86_400, size_bytes: int = 0
    ) -> int:
        """Set a value as `Cache.set` does, of so many bytes at least; return how many are not kept."""
        try:
            birth = self.entries.stamp()
        except StoreUnavailable:
            self.team.trouble()
            birth = self.entries.stamp()
        header = self.entries.header(birth, ttl_s=ttl_s, tags=[KEYS.tag("user", tag) for tag in tags])
        body = str(number).encode().ljust(size_bytes)
        entry = Entry(header, Metadata(surface=VALUE, key=key), Response(0, (("type", "json"),), body))
        return self.entries.overwrite({value_id(key): entry})

    def get_value(self, key: str) -> int | None:
        """Return the number last set under `key`, as `Cache.get` does."""
        found, _ = find_everywhere(self.entries, self.team, [value_id(key)], tell=self.events.append)
        one = found[value_id(key)]
        return int(one.response.body) if isinstance(one, Found) else None

    def delete_value(self, key: str) -> None:
        self.entries.overwrite({}, removed=[value_id(key)])

    def number_in(self, envelope: bytes | None, key: str) -> int | None:
        """Return the number in what a store holds under a key."""
        return None if envelope is None else int(self.codec.open(value_id(key), envelope).response().body)

    def entry_id(self, text: str):
        """Return the id of the entry that answers `text`."""
        return self.desk.request_id(call_of(text), CellScope(Options(), person="tester"))

    def waited(self, step):
        """Return what becomes of a step after all waiting."""
        while isinstance(step, Follow):
            assert step.future.done()
            step = self.desk.resume(step, step.future.result())
        return step

    def invalidate_tag(self, tag: str) -> None:
        self._change(Change(self.entries.now_ms(), tags=frozenset({KEYS.tag("user", tag)})))

    def clear(self) -> None:
        self._change(Change(self.entries.now_ms(), new_root=os.urandom(16)))

    def _change(self, change: Change) -> None:
        self.entries.change(change.apply, change)

    def look(self) -> None:
        """See what is valid now."""
        self.team._ask(())

    def tell(self) -> bool:
        """Tell the team what waits; return whether nothing is left."""
        with contextlib.suppress(StoreUnavailable):
            self.team._drain.once()
        return self.disk.outbox.count() == (0, 0)


def value_id(key: str) -> EntryId:
    """Return the id of what is set under `key`."""
    return entry_id(b"value " + key.encode(), KEYS.id_key)


_calls: dict[str, object] = {}


def call_of(text: str):
    """Return the call that asks `text`."""
    if text not in _calls:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        headers = {"content-type": "application/json"}
        call = HttpCall(
            "POST", "https", "api.openai.com", None, "/v1/chat/completions", "", headers, orjson.dumps(body)
        )
        from genai_cache_magic.api.origins import origins_of

        _calls[text] = recognise(call, origins_of(Settings()))
    return _calls[text]


def number_of(response) -> int:
    """Return the number of an answer of `Origin`'s."""
    text = orjson.loads(response.body)["choices"][0]["message"]["content"]
    return int(text.removeprefix("answer "))


@contextlib.contextmanager
def nothing_by_itself(monkeypatch) -> Iterator[None]:
    """Let no thread begin: the queue is told when a test says so, and no deadline is watched. Nothing has a price."""
    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        patch.setattr(Behind, "add", lambda behind, placed, _: behind._place(placed))
        patch.setattr(keeping, "cost_of", lambda *_, **__: None)
        patch.setattr(telling, "cost_of", lambda *_, **__: None)
        patch.setattr(teams, "within", lambda _deadline_s, work, **_: work())
        yield


@pytest.fixture(name="time")
def passing_time():
    """Time, which passes when a test says so."""
    return Time()


@pytest.fixture(name="shared")
def shared_memory(time):
    """What the machines of a team share, in that time."""
    return SharedMemory(time)


@pytest.fixture(name="machine")
def machine_in_time(isolated, monkeypatch, shared, time):
    """Make a machine of the team, by its name, to which nothing happens by itself."""
    with nothing_by_itself(monkeypatch):
        yield lambda name, skew_s=0.0: Simulated(shared, time, name, skew_s=skew_s)
