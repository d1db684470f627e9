"""Ray's workers as a ``concurrent.futures.Executor``, which ``cache.warm`` and others take."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class RayExecutor(Executor):
    """Gives each piece of work to a task of Ray, on whichever node it runs.

    Work whose worker dies is not done again, since it may have been paid for: its future fails. To end the executor
    leaves Ray running.

    Parameters
    ----------
    **options
        As of ``ray.remote``, such as ``num_cpus=0.1``: work that waits for a model needs hardly any.

    Raises
    ------
    ConfigurationError
        Ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray
        except ImportError as exc:
            raise ConfigurationError("Ray's workers need the package ray: pip install ray") from exc
        self._remote = ray.remote(**{"max_retries": 0, **options})(_called)
        self._is_shut_down = False

    def __repr__(self) -> str:
        return "<RayExecutor>"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Return the future of ``fn(*args, **kwargs)``; raises ``RuntimeError`` after `shutdown`."""
        if self._is_shut_down:
            raise RuntimeError("this executor was shut down: make another")
        future: Future[Any] = self._remote.remote(fn, *args, **kwargs).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as the base has it
        """Take no more work; what was given out comes to its end."""
        del wait, cancel_futures
        self._is_shut_down = True


def _called(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return ``fn(*args, **kwargs)``: Ray takes plain functions alone."""
    return fn(*args, **kwargs)
