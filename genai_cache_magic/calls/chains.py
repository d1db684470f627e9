"""Calls that go on from an earlier answer, which they name by an id that its origin gave out.

In a key such an id counts as what it stands for: the entry that answered, and what it said. So a whole chain is met
again, in another process, in mode replay and by a colleague; and another answer in its place is another question.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.errors import EntryUndecodable, StoreUnavailable, UncacheableRequest
from genai_cache_magic.events import trouble
from genai_cache_magic.providers.base import STATEFUL
from genai_cache_magic.providers.reading import as_object, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.core.model import EntryId, Header, JsonValue, Response
    from genai_cache_magic.entries.given import GivenIds
    from genai_cache_magic.events import Event
    from genai_cache_magic.providers.base import Given, ModelCall

FORGOTTEN: Final = "the origin has forgotten the answer that this call goes on from: run its chain with --mode refresh"

_FORGETS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_SIGNS: Final = (b"previous_response", b"previous_interaction", b"expired", b"no longer")
_OTHERS: Final = (b"deployment", b"model")
"""What else may not be found."""


class Chains:
    """Knows which entries the ids in follow-up calls stand for. Safe to share between threads."""

    def __init__(self, given_ids: GivenIds) -> None:
        self._given_ids = given_ids

    def resolved(self, call: ModelCall, tell: Callable[[Event], None]) -> ModelCall:
        """Return `call` with what each of its ids stands for in the id's place; as it is where one is unknown."""
        if not call.follows:
            return call
        request = call.request
        body: JsonValue = request.body
        for one in call.follows:
            meaning = self._given_ids.meaning(request, one.given, tell=tell)
            if not meaning:
                return call
            body = put(body, one.path.split("/")[1:], f"entry;sha256={meaning}")
        media = (*request.media, *(one.path for one in call.follows))
        refused = tuple(reason for reason in call.refused if reason != STATEFUL)
        return replace(call, request=replace(request, body=as_object(body), media=media), refused=refused, keyed=None)

    def learn(
        self, call: ModelCall, entry_id: EntryId, response: Response, header: Header, tell: Callable[[Event], None]
    ) -> None:
        """Take note of the ids in `response`, which the entry `entry_id` answers `call` with. Never raises."""
        # Not `isinstance` of `GivesIds`: that is slow to look, and overlooks one that stands in front of another.
        given: Callable[[Response], Iterable[Given]] | None = getattr(call.provider, "given", None)
        if given is None:
            return
        for one in given(response):
            try:
                meaning = hashlib.sha256(dumps([entry_id, one.said])).hexdigest()
                self._given_ids.learn(call.request, one.given, meaning, header)
            except (EntryUndecodable, StoreUnavailable, UncacheableRequest) as exc:
                tell(trouble("L1", exc))


def is_forgotten(call: ModelCall, response: Response) -> bool:
    """Tell whether `response` says that its origin doesn't know any more what `call` goes on from."""
    if not call.follows or response.status not in _FORGETS:
        return False
    told = response.body.lower()
    names = (*_SIGNS, *(one.given.encode().lower() for one in call.follows))
    if any(name in told for name in names):
        return True
    return response.status != HTTPStatus.BAD_REQUEST and not any(name in told for name in _OTHERS)
