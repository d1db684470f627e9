"""Which calls are to be explained: those of a cell or a run, or one of them, by its number or its entry id."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.calls.explain import Explainer, Explanation
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.runs.runs import Runs

_LONGEST_NUMBER: Final = 5  # of a call in its cell; an entry id is given by six digits or more


def explanations(
    explainer: Explainer, runs: Runs, what: CellScope | None = None, *, call: str = "", run: str = ""
) -> tuple[Explanation, ...]:
    """Explain calls.

    Parameters
    ----------
    what
        A scope: its calls that were no hits, or the one that `call` names.
    call
        A number, counted from 1 in the order in which the calls ended, or the start of an entry id [hex digits].
    run
        A named run, whose calls, or of them `call`, are explained as they stand now.

    Returns
    -------
    tuple
        In their order; empty if nothing is known of such a call.

    Raises
    ------
    ConfigurationError
        There is no such run or number, an id fits several, or nothing is named at all.
    """
    if run:
        calls = runs.show(run).calls
        found = explainer.entries([(one.entry_id, one.model) for one in calls])
        chosen = _chosen(call, [one.entry_id for one in calls], f"run {run}") if call else range(len(calls))
        return tuple(replace(found[at], number=at + 1) for at in chosen)
    if what is not None and what.calls:
        ids = [one.entry_id for one in what.calls]
        chosen = _chosen(call, ids, "the cell") if call else range(len(ids))
        told = [(at + 1, explainer.call(what.calls[at])) for at in chosen]
        told = [(number, one) for number, one in told if call or not one.is_hit]
        if told or not call:
            return tuple(replace(one, number=number) for number, one in told)
    if not call:
        if what is not None:
            return ()
        raise ConfigurationError("nothing says which call: give the start of its entry id, or --run NAME")
    if _is_number(call):
        raise ConfigurationError(f"there is no call {call}: no cell of this process has made one")
    one = explainer.entry(call)
    return () if one is None else (one,)


def _is_number(call: str) -> bool:
    return call.isascii() and call.isdigit() and len(call) <= _LONGEST_NUMBER


def _chosen(call: str, ids: Sequence[str], where: str) -> Sequence[int]:
    """Return the places of the calls that `call` names: of a number one, of an id all that have it."""
    if not _is_number(call):
        return [at for at, entry_id in enumerate(ids) if entry_id and entry_id.startswith(call)]
    if not 1 <= int(call) <= len(ids):
        raise ConfigurationError(f"there is no call {call}: {where} has {len(ids)}")
    return [int(call) - 1]
