"""A batch of texts to embed: each text a call of its own, and answers to some of them put together to that of all.

An embedding depends on nothing but its own text and what the request says of all of them, as far as its fields are
known: where they are not, a batch is one call. What an answer says is cut out of its text and never spelled anew.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import orjson

from genai_cache_magic.providers.anatomy import Anatomy, Mould, Path, anatomy
from genai_cache_magic.providers.reading import load_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from genai_cache_magic.core.model import Headers, JsonObject, JsonValue, Request, Response
    from genai_cache_magic.providers.base import HttpCall, ModelCall

_INDEX: Final = re.compile(rb'"index"[ \t\r\n]*:[ \t\r\n]*(\d+)')

_COVERING: Final = re.compile(r"signature|digest|checksum|hmac|idempotency|sha\d|md5|crc\d")
"""Parts of names of headers that vouch for the bytes of a body, or tell an origin that it is sent once more.

An origin may answer the whole with what it said of a part, if both have one key.
"""
_SIGNED: Final = ("aws4-", "hmac-", "signature ")
"""How an ``authorization`` begins that does so."""

_BILLS: Final = frozenset({"x-litellm-response-cost"})
"""Headers that bill a whole answer."""
_COUNTING: Final = frozenset({"x-amzn-bedrock-input-token-count"})
"""Headers that count a whole answer."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the texts of a batch stand in its request, and what comes of them in its answer.

    Attributes
    ----------
    name
        The field of the request's body that lists them.
    lists
        The lists of the answer that have an item for each; those that are not there were not asked for.
    counts
        What counts the whole batch: every number at or below one of these.
    is_indexed
        Whether an item says its own place, as ``index``.
    same
        Fields that say who answered: parts that differ in one are not put together.
    """

    name: str
    lists: tuple[Path, ...]
    counts: tuple[Path, ...] = ()
    is_indexed: bool = False
    same: tuple[str, ...] = ("model",)


@runtime_checkable
class Divisible(Protocol):
    """A wire API that embeds many texts at once, each on its own."""

    def parts(self, body: JsonObject) -> Parts | None:
        """Return where the texts of a request with this `body` stand; None if one might count for another."""


@dataclass(frozen=True, slots=True)
class Division:
    """A batch that can be divided.

    Attributes
    ----------
    parts
        Where its texts are.
    items
        The texts as they are keyed.
    sent
        The body as its caller sends it, parsed.
    is_fixed
        Whether other bytes must not be sent in its place, since somebody has vouched for these or can't exchange them.
    """

    parts: Parts
    items: tuple[JsonValue, ...] = field(repr=False)
    sent: JsonObject = field(repr=False)
    is_fixed: bool = False

    @property
    def noun(self) -> str:
        """What its items are called."""
        return "texts"

    def call_of(self, call: ModelCall, places: Sequence[int]) -> ModelCall:
        """Return `call` as it would be for the texts at `places` alone."""
        provider: Any = call.provider  # all that divide say how many vectors they are asked for
        body = {**call.request.body, self.parts.name: [self.items[place] for place in places]}
        return replace(
            call,
            provider=replace(provider, asked=len(places)),
            request=replace(call.request, body=body),
            keyed=None,
            division=None,
        )

    def requests(self, call: ModelCall) -> Iterator[Request]:
        """Yield the request of `call` as it would be for each text alone."""
        body, name = call.request.body, self.parts.name
        for item in self.items:
            yield replace(call.request, body={**body, name: [item]})

    def body_of(self, places: Sequence[int]) -> bytes:
        """Return the body that asks for the texts at `places` alone, and all else as its caller does."""
        name = self.parts.name
        items = self.sent[name]
        listed = items if type(items) is list and _is_list(items) else [items]
        return orjson.dumps({**self.sent, name: [listed[place] for place in places]})

    def split(self, response: Response, places: Sequence[int]) -> list[Response] | None:
        """Return what `response`, an answer to the texts at `places`, says of each; None if that can't be told apart.

        What it counts for all of them is shared by the lengths of the texts.
        """
        count = len(places)
        found = self._seen(response, count)
        if found is None:
            return None
        order = self._order(found, count)
        if order is None:
            return None
        weights = self.weights(places)
        shares = {span: _shared(found.text[span[0] : span[1]], weights) for span in found.counts.values()}
        headers = [response.headers] if count == 1 else _shared_headers(response.headers, weights)
        bodies = [
            found.with_edits(
                [
                    *((one.span, self._placed(_text(found, one.items[place]), 0)) for one in found.lists.values()),
                    *((span, share[number]) for span, share in shares.items()),
                ]
            )
            for number, place in enumerate(order)
        ]
        whole = load_object(response.body)
        if whole is None or not self._say_the_same(bodies, whole, order):
            return None
        return [replace(response, headers=own, body=body) for own, body in zip(headers, bodies, strict=True)]

    def join(self, each: Sequence[Response], frame: Response | None = None) -> Response | None:
        """Return the answer that says what `each` says of one text, in this order; None if they don't go together.

        Parameters
        ----------
        frame
            Whose other words it has, the counts included; None adds up those of `each`.
        """
        around = self._seen(each[0] if frame is None else frame, None)
        if around is None:
            return None
        mould = Mould.of(around)
        found, others = [], [around]
        for one in each:
            like = None if mould is None else mould.cast(one.body)
            if like is None:
                like = self._seen(one, 1)
                if like is None:
                    return None
                others.append(like)
            found.append(like)
        if not self._is_of_one_kind(others) or not all(map(self._is_placed_once, found)):
            return None
        edits = [
            (
                spans.span,
                b",".join(self._placed(_text(one, one.lists[path].items[0]), place) for place, one in enumerate(found)),
            )
            for path, spans in around.lists.items()
        ]
        if frame is None:
            edits += [(span, _added(path, found)) for path, span in around.counts.items()]
        body = around.with_edits(edits)
        return replace(each[0], headers=_added_headers(each), body=body) if frame is None else replace(frame, body=body)

    def weights(self, places: Sequence[int]) -> list[int]:
        """Return how long the texts at `places` are, to share what was counted for all of them."""
        return [_weight(self.items[place]) for place in places]

    def _seen(self, response: Response, count: int | None) -> Anatomy | None:
        """Return the anatomy of `response` if it has `count` items in each list; None of a count is any."""
        found = anatomy(response.body, self.parts.lists, self.parts.counts)
        if found is None:
            return None
        # What was not asked for may be there, and empty.
        found = replace(found, lists={path: one for path, one in found.lists.items() if one.items})
        is_even = all(count in {None, len(one.items)} for one in found.lists.values())
        return found if found.lists and is_even else None

    def _order(self, found: Anatomy, count: int) -> list[int] | None:
        """Return which item of the lists is of the first text, which of the second, and so on."""
        order = list(range(count))
        if not self.parts.is_indexed:
            return order
        told = [_INDEX.findall(_text(found, span)) for one in found.lists.values() for span in one.items]
        if not any(told):
            return order
        if any(len(one) != 1 for one in told):
            return None
        places = [int(one[0]) for one in told]
        return sorted(order, key=places.__getitem__) if sorted(places) == order else None

    def _placed(self, item: bytes, place: int) -> bytes:
        """Return an item that says that it stands at `place`, if it says so at all."""
        told = _INDEX.search(item) if self.parts.is_indexed else None
        return item if told is None else b"%b%d%b" % (item[: told.start(1)], place, item[told.end(1) :])

    def _is_placed_once(self, found: Anatomy) -> bool:
        """Tell whether it can be seen where an item says its place: one may hold another ``index`` deeper within."""
        return not self.parts.is_indexed or all(
            found.text.count(b'"index"', *one.items[0]) <= 1 for one in found.lists.values()
        )

    def _say_the_same(self, bodies: Sequence[bytes], whole: JsonObject, order: Sequence[int]) -> bool:
        """Tell whether each of `bodies` has the item of the `whole` that it should have, read as others read it."""
        told = {path: items for path, items in _lists_in(whole, self.parts.lists).items() if items}
        for body, place in zip(bodies, order, strict=True):
            alone = load_object(body)
            if alone is None:
                return False
            lists = _lists_in(alone, self.parts.lists)
            for path, items in told.items():
                mine = lists.get(path, [])
                if len(mine) != 1 or _unplaced(mine[0]) != _unplaced(items[place]):
                    return False
        return True

    def _is_of_one_kind(self, found: Sequence[Anatomy]) -> bool:
        """Tell whether those who said these are one, and whether they said the same kinds of things."""
        kinds = {tuple(one.lists) for one in found}
        return len(kinds) == 1 and len({self._teller(one) for one in found}) == 1

    def _teller(self, found: Anatomy) -> bytes:
        # What is left of an answer without its lists and counts is a few words.
        rest = found.with_edits((one.span, b"") for one in found.lists.values())
        told = load_object(rest) or {}
        return orjson.dumps([told.get(name) for name in self.parts.same])


@functools.lru_cache(maxsize=64)
def _is_divisible(kind: type) -> bool:
    """Tell whether a wire API divides its calls; asked of each class once: a protocol is slow to look."""
    return issubclass(kind, Divisible)


def divided(call: ModelCall, sent: HttpCall, raw: bytes) -> ModelCall:
    """Return `call` with how it can be divided, if it can."""
    provider: Any = call.provider
    request, kind = call.request, provider.__class__
    if call.refused or request.media or call.follows or not _is_divisible(kind):
        return call
    parts = provider.parts(request.body)
    body = load_object(raw)
    if parts is None or body is None:
        return call
    given, sent_items = request.body.get(parts.name), body.get(parts.name)
    if not _is_list(given):
        given, sent_items = [given], [sent_items]
    if type(given) is not list or type(sent_items) is not list or len(given) != len(sent_items):
        return call
    is_fixed = _is_vouched_for(sent.headers)
    return replace(call, division=Division(parts, tuple(given), body, is_fixed=is_fixed))


def fixed(call: ModelCall) -> ModelCall:
    """Return `call` as one whose body can't be exchanged."""
    division = call.division
    if not isinstance(division, Division) or division.is_fixed:
        return call
    return replace(call, division=replace(division, is_fixed=True))


def is_alone(item: JsonValue) -> bool:
    """Tell whether `item` is a text, or one text's tokens."""
    return type(item) is str or (type(item) is list and bool(item) and all(type(token) is int for token in item))


def are_alone(items: JsonValue) -> bool:
    """Tell whether `items` is one text or a list of such, or their tokens."""
    return is_alone(items) or (type(items) is list and bool(items) and all(map(is_alone, items)))


def shares_of(whole: int, weights: Sequence[int]) -> list[int]:
    """Return `whole` in parts as the `weights` are, to the last one."""
    total = sum(weights) or len(weights)
    exact = [Fraction(whole * weight, total) for weight in (weights if sum(weights) else [1] * len(weights))]
    parts = [int(share) for share in exact]
    for place in sorted(range(len(exact)), key=lambda i: parts[i] - exact[i])[: whole - sum(parts)]:
        parts[place] += 1
    return parts


def _is_list(items: JsonValue) -> bool:
    """Tell whether `items` lists texts, and is not one text's tokens."""
    return type(items) is list and bool(items) and type(items[0]) is not int


def _is_vouched_for(headers: Mapping[str, str]) -> bool:
    return any(map(_COVERING.search, headers)) or headers.get("authorization", "").lower().startswith(_SIGNED)


def _text(found: Anatomy, span: tuple[int, int]) -> bytes:
    return found.text[span[0] : span[1]]


def _weight(item: JsonValue) -> int:
    """Return how long a text is, or its tokens are."""
    return len(item) if type(item) in {str, list} else len(orjson.dumps(item))  # type: ignore[arg-type]  # both have a length


def _shared_headers(headers: Headers, weights: Sequence[int]) -> list[Headers]:
    """Return the headers of a whole batch for each of its items, without bills, which can't be told apart."""
    kept = [one for one in headers if one[0] not in _BILLS]
    counts = {name: shares_of(int(value), weights) for name, value in kept if name in _COUNTING and value.isdecimal()}
    return [
        tuple((name, str(counts[name][place]) if name in counts else value) for name, value in kept)
        for place in range(len(weights))
    ]


def _added_headers(each: Sequence[Response]) -> Headers:
    """Return the headers of the first of `each`, with what all of them count."""
    told = [dict(one.headers) for one in each] if any(name in _COUNTING for name, _ in each[0].headers) else []
    counts = {name: [one.get(name, "") for one in told] for name in _COUNTING}
    sums = {name: str(sum(map(int, all_))) for name, all_ in counts.items() if told and all(map(str.isdecimal, all_))}
    return tuple((name, sums.get(name, value)) for name, value in each[0].headers)


def _shared(number: bytes, weights: Sequence[int]) -> list[bytes]:
    """Return a number of a whole batch in parts for its items."""
    if number.isdigit():
        return [b"%d" % part for part in shares_of(int(number), weights)]
    total = sum(weights) or 1
    return [repr(float(number) * weight / total).encode() for weight in weights]


def _added(path: Path, found: Iterable[Anatomy]) -> bytes:
    """Return the sum of a count that each states."""
    told = [_text(one, one.counts[path]) for one in found if path in one.counts]
    if all(one.isdigit() for one in told):
        return b"%d" % sum(map(int, told))
    return repr(sum(map(float, told))).encode()


def _lists_in(value: JsonObject, paths: Iterable[Path]) -> dict[Path, list[JsonValue]]:
    """Return the lists at `paths` in a parsed answer, by where they are."""
    found: dict[Path, list[JsonValue]] = {}

    def walk(inner: JsonValue, rest: Path, at: Path) -> None:
        if not rest:
            if type(inner) is list:
                found[at] = inner
        elif type(inner) is dict:
            for name in inner if rest[0] == "*" else (rest[0],):
                if name in inner:
                    walk(inner[name], rest[1:], (*at, name))

    for path in paths:
        walk(value, path, ())
    return found


def _unplaced(item: JsonValue) -> JsonValue:
    return {name: value for name, value in item.items() if name != "index"} if type(item) is dict else item
