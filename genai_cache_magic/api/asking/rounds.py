"""A round: requests that are asked a few at a time, until all are or one is stopped."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import BudgetExceeded, ConfigurationError, NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from genai_cache_magic.api.asking.clients import Clients
    from genai_cache_magic.api.asking.requests_file import Wanted


INTERRUPTED: Final = "interrupted: what was answered is kept, and the next time it goes on from there"


class Round:
    """Requests that are asked a few at a time, until all are or one is stopped.

    Attributes
    ----------
    stopped_by
        What ended it early, in words; empty if nothing did.
    errors
        By the line of their request.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._wanted = iter(wanted)
        self._done: set[int] = set()
        self.stopped_by = ""
        self.errors: list[str] = []

    @property
    def done(self) -> int:
        """How many were asked, or need not be."""
        return len(self._done)

    def is_left(self, one: Wanted) -> bool:
        """Tell whether `one` is still to be asked."""
        return one.line not in self._done

    def run(self, clients: Clients, workers: int, show: Callable[[int], None]) -> None:
        """Ask; what was begun when one was stopped, or somebody interrupted, comes to its end."""
        under_way: dict[Future[None], Wanted] = {}
        with ThreadPoolExecutor(workers, "genai-cache-warm") as pool:
            try:
                while True:
                    while len(under_way) < workers and not self.stopped_by and (one := next(self._wanted, None)):
                        under_way[pool.submit(clients.ask, one)] = one
                    if not under_way:
                        return
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        self._take(future, under_way.pop(future))
                        show(self.done)
            except KeyboardInterrupt:
                self.stopped_by = INTERRUPTED
                for future, one in under_way.items():
                    self._take(future, one)

    def _take(self, future: Future[None], one: Wanted) -> None:
        try:
            future.result()
        except BudgetExceeded as exc:
            self.stopped_by = self.stopped_by or str(exc)
            return
        except ConfigurationError:
            raise  # no client can be made, of this or of any other request
        except NotSent:  # who did not send it has counted it
            pass
        except Exception as exc:  # noqa: BLE001 - of whichever SDK; its text may hold what was asked
            self.errors.append(f"request {one.line}: {type(exc).__name__}")
        self._done.add(one.line)
