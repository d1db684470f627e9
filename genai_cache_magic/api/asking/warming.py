"""Warming a cache: requests are asked for beforehand, a few at a time, and a dry run says what that would come to.

They are sent by the vendors' own SDKs, as the user's code would send them, so that the answers are found again: with
keys and addresses from the environment, where those look for them. What is in the cache is not asked again, so who was
interrupted goes on where it stopped.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.asking.clients import Clients
from genai_cache_magic.api.asking.held import held_to_budget
from genai_cache_magic.api.asking.rounds import Round
from genai_cache_magic.api.asking.scopes import call_options, dry, in_scope, key_options, new_scope, recorded, told
from genai_cache_magic.api.asking.shared_out import SharedOut, check_executor
from genai_cache_magic.api.asking.wanting import wanting
from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.calls.estimates import Estimate, Foreseen, Range
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.errors import ConfigurationError, NotSent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from genai_cache_magic.api.asking.outcomes import Warmed
    from genai_cache_magic.api.asking.scopes import Warmable
    from genai_cache_magic.api.asking.wanting import Wanting
    from genai_cache_magic.core.options import Options

_MAX_WORKERS: Final = 64
_MAX_ELSEWHERE: Final = 1024


class Warms:
    """The part of a cache that asks beforehand, and says what that would come to."""

    def estimate(
        self: Warmable,
        requests: Any = (),
        *,
        endpoint: str = "",
        run: str = "",
        ignore: Iterable[str] | None = None,
        salt: str = "",
    ) -> Foreseen:
        """Return how many of `requests`, or of the calls of a run, are in the cache, and what the others would cost.

        Nothing is sent. Of a run, whose calls have been made, it is known what each came to; only its tokens and its
        price then are told, at the prices of that time.

        Parameters
        ----------
        requests, endpoint, ignore, salt
            As for `warm`.
        run
            A run's name, in place of requests.

        Raises
        ------
        ConfigurationError
            What was given is no request, or there is no such run.
        """
        if run:
            return _run_again(self, run)
        wanted = wanting(requests, self.runs, endpoint=endpoint)
        with dry(self, key_options(self, ignore, salt), wanted) as scope, Clients() as clients:
            for one in wanted.different:
                with suppress(NotSent):
                    clients.ask(one)
        result = scope.foreseen or Foreseen()
        return replace(result, hits=result.hits + wanted.equal, left_out=dict(wanted.left_out))

    def warm(  # noqa: PLR0913 - one parameter for each option of the command
        self: Warmable,
        requests: Any = (),
        *,
        endpoint: str = "",
        from_run: str = "",
        budget: object = None,
        budget_unknown: object = None,
        run: str = "",
        tags: Iterable[str] = (),
        ttl: str | None = None,
        ignore: Iterable[str] | None = None,
        salt: str = "",
        max_workers: int = 8,
        executor: Executor | None = None,
        progress: bool | Callable[[int, int], None] | None = None,
    ) -> Warmed:
        """Ask what of `requests` is not in the cache, a few at a time, by the vendors' own SDKs.

        Parameters
        ----------
        requests
            A list of bodies or of lines of OpenAI's batch files as objects, or the path of a file of such lines, or
            of a run file.
        endpoint
            The path of bodies that stand alone, such as ``/v1/responses``; without it their fields tell.
        from_run
            In place of requests, the name of a run that was imported from a file that holds them.
        budget, budget_unknown, run, tags, ttl
            As the options of a cell. What the budget stops is left for the next time.
        ignore, salt
            Likewise: as in the cells that are to find the answers. Rules add to the configured ones.
        max_workers
            How many are asked at one time.
        executor
            Whose workers ask, each with a cache that it opens for itself; None: threads of this process.
        progress
            As for `map`.

        Raises
        ------
        ConfigurationError
            An option is wrong, something is no request, or no client can be made of the environment.
        """
        most = _MAX_WORKERS if executor is None else _MAX_ELSEWHERE
        if type(max_workers) is not int or not 1 <= max_workers <= most:
            raise ConfigurationError(f"max_workers is {max_workers!r}: write a whole number from 1 to {most}")
        keyed = key_options(self, ignore, salt)
        options = call_options(keyed, run=run, tags=tags, ttl=ttl, spending=(budget, budget_unknown))
        wanted = wanting(requests, self.runs, endpoint=endpoint, from_run=from_run)
        if executor is not None:
            check_executor(executor)
            with bar_of(len(wanted.different), 0, progress, name="warm") as bar:
                return SharedOut(self, options, wanted, executor, max_workers).run(bar.show)
        return _asked_here(self, options, wanted, max_workers, progress=progress)


def _asked_here(
    cache: Warmable,
    options: Options,
    wanted: Wanting,
    max_workers: int,
    *,
    progress: bool | Callable[[int, int], None] | None,
) -> Warmed:
    """Ask in threads of this process."""
    round_ = Round(wanted.different)
    scope = new_scope(cache, options)
    with (
        in_scope(wanted.only(held_to_budget(recorded(cache, scope), scope)), scope),
        Clients() as clients,
        bar_of(len(wanted.different), 0, progress, name="warm") as bar,
    ):
        round_.run(clients, max_workers, bar.show)
    return told(scope, round_, wanted)


def _run_again(cache: Warmable, run: str) -> Foreseen:
    result = Foreseen()
    for call in cache.runs.show(run).calls:
        # One that was imported has no entry.
        if call.entry_id and cache.stored(EntryId(call.entry_id)) is not None:
            result = replace(result, hits=result.hits + 1)
            continue
        usd = call.spent_usd if call.spent_usd is not None else call.saved_usd
        tokens = (call.input_tokens or 0, call.output_tokens or 0)
        result = result.plus(Estimate(*tokens, Range(usd, usd, usd), is_bounded=True))
    return result
