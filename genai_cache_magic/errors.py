"""The exception tree. Each class stands for one thing that a caller should do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai_cache_magic.host import tilde

if TYPE_CHECKING:
    from decimal import Decimal


class GenaiCacheError(Exception):
    """Root of what this package raises on its own behalf.

    In a notebook only the message is shown, as two lines without a traceback; tools that execute
    notebooks still see a failed cell. Paths in the user's home are shown from ``~``: a message is saved with
    the notebook.
    """

    def __str__(self) -> str:
        return tilde(super().__str__())

    def _render_traceback_(self) -> list[str]:
        return render_short(self)


class ConfigurationError(GenaiCacheError):
    """A setting, option or argument can't be used. The message names it, its value and the fix."""


class StoreUnavailable(GenaiCacheError):  # noqa: N818 - the state of a tier, named as the field names it
    """A tier can't be reached or used now. The user's call goes on without it (fail open)."""


class StoreDenied(StoreUnavailable):
    """A tier refuses us: a credential is wrong, or lacks a right. No repetition helps before that changes."""


class WriteRefused(StoreDenied):
    """A tier lets us read and not change what it holds. It is well, so nobody stops asking it."""


class StoreThrottled(StoreUnavailable):
    """A tier asks us to come back later.

    Attributes
    ----------
    retry_after_s
        When it said that asking again makes sense [s]; None if it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class WritesUnavailable(StoreThrottled):
    """A tier stores nothing now, for want of room, disk or replicas. It hands out what it holds, so it is asked on."""


class PartUnavailable(StoreUnavailable):
    """A part of a tier can't be used; the tier itself answers, so nobody stops asking it."""


class EntryUndecodable(GenaiCacheError):  # noqa: N818 - says what happened to the entry
    """Stored bytes are not an entry of a version that we read. Treated as a miss, and deleted."""


class DecryptionError(GenaiCacheError):
    """An envelope failed authentication. Treated as a miss; says no more than the key id (fail closed)."""


class KeyUnavailable(GenaiCacheError):  # noqa: N818 - the state of a key, named as the field names it
    """Encryption is configured but its key can't be used. Nothing is stored or served (fail closed)."""


class KeysetUnusable(KeyUnavailable):
    """A keyset can't be opened by this process, whatever the state of its key: another key's, damaged, or newer."""


class KeysetOutdated(DecryptionError):  # noqa: N818 - says what the keyset is
    """A keyset is authentic, and older than one that this machine has seen: it would bring revoked keys back."""


class KeyDenied(KeyUnavailable):
    """Who guards the key refuses this identity.

    Attributes
    ----------
    right, key_name
        The operation that was refused, and on which key.
    """

    def __init__(self, message: str, *, right: str, key_name: str) -> None:
        super().__init__(message)
        self.right = right
        self.key_name = key_name


class KeyMissing(KeyUnavailable):
    """There is no such key, or no such version of it, where it was looked for."""


class KeyThrottled(KeyUnavailable):
    """Who guards the key asks us to come back later.

    Attributes
    ----------
    retry_after_s
        When it said that asking again makes sense [s]; None if it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UncacheableRequest(GenaiCacheError):  # noqa: N818 - says what the request is
    """A request can't be given a key that is certain to be its own. The call bypasses the cache."""


class CellInterrupt(BaseException):
    """Base of the two errors that must reach the user's cell as themselves.

    Model SDKs catch ``Exception`` below them, retry it and rename it; a ``BaseException`` passes.

    Attributes
    ----------
    token
        By which one that comes from another process is known again; empty for all others.
    """

    token = ""

    def _render_traceback_(self) -> list[str]:
        return render_short(self)


class ReplayMiss(CellInterrupt):
    """Mode ``replay`` asked for an answer that the cache does not hold."""


class BudgetExceeded(CellInterrupt):
    """The next call could exceed the budget that its cell was given; it was not sent.

    Its amounts are None in an error that comes from another process as words alone.
    """

    @property
    def spent_usd(self) -> Decimal | None:
        """What the calls before have cost [USD]."""
        return self._figure(1)

    @property
    def reserved_usd(self) -> Decimal | None:
        """What is set aside for calls on their way [USD]."""
        return self._figure(2)

    @property
    def limit_usd(self) -> Decimal | None:
        """The budget [USD]."""
        return self._figure(3)

    def _figure(self, place: int) -> Decimal | None:
        # Among the arguments, since those go wherever an error goes: into other processes, and into its like.
        return self.args[place] if len(self.args) > place else None

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NotSent(CellInterrupt):
    """A call was only looked up: it is not in the cache, and in a dry run nobody is asked."""


class _OrdinaryReplayMiss(ReplayMiss, Exception):  # noqa: N818 - the same error, for those who catch `Exception` only
    """A `ReplayMiss` at the top of a thread, task or worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (ReplayMiss, self.args, self.token)


class _OrdinaryBudgetExceeded(BudgetExceeded, Exception):  # noqa: N818 - as above
    """A `BudgetExceeded` at the top of a thread, task or worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (BudgetExceeded, self.args, self.token)


class _OrdinaryNotSent(NotSent, Exception):  # noqa: N818 - as above
    """A `NotSent` at the top of a thread, task or worker."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (NotSent, self.args, self.token)


_ORDINARY: dict[type[CellInterrupt], type[CellInterrupt]] = {
    ReplayMiss: _OrdinaryReplayMiss,
    BudgetExceeded: _OrdinaryBudgetExceeded,
    NotSent: _OrdinaryNotSent,
}
for _kind, _ordinary in _ORDINARY.items():
    _ordinary.__name__ = _ordinary.__qualname__ = _kind.__name__  # people see the error that they know


_MAX_RECEIVED = 1_000
_received: dict[str, CellInterrupt] = {}


def _restored(kind: type[CellInterrupt], args: tuple[Any, ...], token: str) -> CellInterrupt:
    """Return what a worker process raised: its class bears the name of another and can't be pickled by it."""
    error = _ORDINARY[kind](*args)
    if token and len(_received) < _MAX_RECEIVED:
        error.token = token
        _received[token] = error
    return error


def received(token: str) -> CellInterrupt | None:
    """Return, once, the error with this token that another process handed on to this one."""
    return _received.pop(token, None)


def make_ordinary(error: CellInterrupt) -> None:
    """Let `error`, which has left every SDK behind, be an ``Exception`` too, for whoever runs the work.

    Runners wait for ever for a result if their worker dies of what is no ``Exception``.
    """
    error.__class__ = _ORDINARY.get(type(error), type(error))


def as_raised(error: CellInterrupt) -> CellInterrupt:
    """Return a new error like `error` that passes every ``except Exception`` again, to end a cell with."""
    kind = next((kind for kind in _ORDINARY if isinstance(error, kind)), type(error))
    again = kind(*error.args)
    again.__cause__ = error.__cause__
    return again


def render_short(error: BaseException) -> list[str]:
    """Return what a notebook shows of `error`: its class and message, without a traceback."""
    return [f"{type(error).__name__}: {error}"]
