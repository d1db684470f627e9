"""Any store against a dict: Hypothesis plays moves on both and compares what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from genai_cache_magic.stores.base import Held, SupportsFill, SupportsGetMany, SupportsSize
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.testing.contracts.store import FakeClock, key_of

if TYPE_CHECKING:
    from genai_cache_magic.stores.base import Store

_KEYS = tuple(key_of(str(number)) for number in range(6))
_keys = st.sampled_from(_KEYS)
# Around the size at which a value moves from a row to a file, and around nothing.
_blobs = st.builds(lambda fill, size: bytes([fill]) * size, st.integers(0, 255), st.sampled_from((0, 1, 90, 40_000)))
_lives = st.sampled_from((0.0, 5.0, 50.0, 500.0))


class StoreMachine(RuleBasedStateMachine):
    """A store and its model: key -> (value, when it expires [s]).

    Subclass it, override ``make_store``, and give pytest the subclass's ``TestCase``::

        class MyMachine(StoreMachine):
            def make_store(self, clock):
                return MyStore(clock=clock)

        TestMyMachine = MyMachine.TestCase
    """

    can_reopen = False
    """Whether what was put is there for the next store, as `reopen_store` makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = self.make_store(self.clock)
        self.model: dict[str, tuple[bytes, float]] = {}

    @initialize()
    def starts_empty(self) -> None:
        """A new store holds nothing."""
        assert list(self.store.scan()) == []

    @rule(key=_keys, blob=_blobs, ttl_s=_lives)
    def put(self, key: str, blob: bytes, ttl_s: float) -> None:
        """Put on both sides."""
        self.store.put(key, blob, ttl_s=ttl_s)
        self.model[key] = (blob, self.clock() + ttl_s)

    @rule(key=_keys)
    def get(self, key: str) -> None:
        """Both sides hold the same value."""
        assert self.store.get(key) == self.live().get(key)

    @rule(key=_keys, blob=_blobs, ttl_s=_lives, is_current=st.booleans())
    def put_if(self, key: str, blob: bytes, ttl_s: float, *, is_current: bool) -> None:
        """A fill is made iff it names what is there."""
        if not isinstance(self.store, SupportsFill):
            return
        held = self.store.held(key)
        if is_current:
            assert self.store.put_if(key, blob, ttl_s=ttl_s, held=held)
            self.model[key] = (blob, self.clock() + ttl_s)
        else:
            other = None if held else Held(b"", b"")
            assert not self.store.put_if(key, blob, ttl_s=ttl_s, held=other)

    @rule(key=_keys)
    def delete(self, key: str) -> None:
        """Both sides say whether the key was there."""
        assert self.store.delete(key) is (key in self.live())
        self.model.pop(key, None)

    @rule(seconds=st.sampled_from((1.0, 10.0, 100.0)))
    def pass_time(self, seconds: float) -> None:
        """Let time pass for both."""
        self.clock.advance(seconds)

    @rule(prefix=st.builds(lambda key, length: key[:length], _keys, st.integers(0, 3)))
    def scan(self, prefix: str) -> None:
        """Both sides list the same keys, each once."""
        assert sorted(self.store.scan(prefix)) == sorted(key for key in self.live() if key.startswith(prefix))

    @rule(keys=st.lists(_keys))
    def get_many(self, keys: list[str]) -> None:
        """A batch finds what single look-ups would."""
        if isinstance(self.store, SupportsGetMany):
            live = self.live()
            assert self.store.get_many(keys) == {key: live[key] for key in keys if key in live}

    @precondition(lambda self: self.can_reopen)
    @rule()
    def reopen(self) -> None:
        """What was put is there for the next process."""
        self.store = self.reopen_store(self.store, self.clock)

    @invariant()
    def counts(self) -> None:
        """At least what is alive is counted."""
        if isinstance(self.store, SupportsSize):
            assert self.store.count() >= len(self.live())

    def live(self) -> dict[str, bytes]:
        """Return what the model holds and has not expired."""
        return {key: blob for key, (blob, expires_at) in self.model.items() if self.clock() < expires_at}

    def teardown(self) -> None:
        """Leave nothing open."""
        self.discard_store(self.store)

    def make_store(self, clock: FakeClock) -> Store:
        """Return an empty store that reads `clock`."""
        return MemoryStore(clock=clock)

    def reopen_store(self, store: Store, clock: FakeClock) -> Store:  # noqa: ARG002 - for stores that `can_reopen`
        """Close `store` and return another on what it left behind."""
        return store

    def discard_store(self, store: Store) -> None:
        """Close `store` for good, and clean up behind it."""
        store.close()
