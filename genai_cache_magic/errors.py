"""The exception tree. Each class stands for one thing that a caller should do."""

from __future__ import annotations


class GenaiCacheError(Exception):
    """Root of what this package raises on its own behalf.

    In a notebook only the message is shown, as two lines without a traceback; tools that execute
    notebooks still see a failed cell.
    """

    def _render_traceback_(self) -> list[str]:
        return render_short(self)


class ConfigurationError(GenaiCacheError):
    """A setting, option or argument can't be used. The message names it, its value and the fix."""


class StoreUnavailable(GenaiCacheError):  # noqa: N818 - the state of a tier, named as the field names it
    """A tier can't be reached or used now. The user's call goes on without it (fail open)."""


class StoreDenied(StoreUnavailable):
    """A tier refuses us: a credential is wrong, or lacks a right. No repetition helps before that changes."""


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


class EntryUndecodable(GenaiCacheError):  # noqa: N818 - says what happened to the entry
    """Stored bytes are not an entry of a version that we read. Treated as a miss, and deleted."""


class DecryptionError(GenaiCacheError):
    """An envelope failed authentication. Treated as a miss; says no more than the key id (fail closed)."""


class KeyUnavailable(GenaiCacheError):  # noqa: N818 - the state of a key, named as the field names it
    """Encryption is configured but its key can't be used. Nothing is stored or served (fail closed)."""


class UncacheableRequest(GenaiCacheError):  # noqa: N818 - says what the request is
    """A request can't be given a key that is certain to be its own. The call bypasses the cache."""


class CellInterrupt(BaseException):
    """Base of the two errors that must reach the user's cell as themselves.

    Model SDKs catch ``Exception`` below them, retry it and rename it; a ``BaseException`` passes.
    """

    def _render_traceback_(self) -> list[str]:
        return render_short(self)


class ReplayMiss(CellInterrupt):
    """Mode ``replay`` asked for an answer that the cache does not hold."""


class BudgetExceeded(CellInterrupt):
    """The next call could exceed the budget that its cell was given."""


def render_short(error: BaseException) -> list[str]:
    """Return what a notebook shows of `error`: its class and message, without a traceback."""
    return [f"{type(error).__name__}: {error}"]
