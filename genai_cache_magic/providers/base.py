"""What every wire API's file provides: pure functions from HTTP messages to facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from genai_cache_magic.core.model import EntryId, Headers, JsonObject, JsonValue, Request, Response


MOST_UPLOADS: Final = 10_000
"""So many ids are remembered; beyond, all are forgotten, and their files are keyed by id again."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """An HTTP request as an interceptor saw it, before anything was sent.

    Attributes
    ----------
    method
        Upper case.
    scheme, host, port, path, query
        Parts of the URL; `host` in lower case, `port` None for the scheme's default, `path` decoded
        no further than the client did, `query` without ``?``.
    headers
        Names in lower case.
    body
        The buffered body; None where the client sends a generator or a file.
    read_body
        Reads a body that is not buffered and leaves no trace in what is sent; None where that can't be done. Only
        for a call that looks like a model call. Raises ``UncacheableRequest``.
    repeated
        The values of headers that were given in more than one line, in order; `headers` has them as one, with commas.
    route
        What addresses the service beside the URL and the ``host`` header, as (kind, value): the ``socket`` of a file
        system, the ``proxy`` as scheme, host and port, the name ``sni`` that TLS asks for.
    """

    method: str
    scheme: str
    host: str
    port: int | None
    path: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    read_body: Callable[[], bytes] | None = None
    repeated: Mapping[str, tuple[str, ...]] = field(repr=False, default_factory=dict)
    route: Headers = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Wants:
    """What this caller expects of the answer, though it is not part of the key.

    Attributes
    ----------
    form
        In which form.
    usage
        Whether it must tell its tokens.
    options
        What else was asked of the form, spelt so that equal questions have equal ones.
    """

    form: Form = Form.JSON
    usage: bool = True
    options: str = field(default="", compare=False)

    @property
    def asked(self) -> str:
        """The form of the question: who asks in the same one gets what was received, as it was received."""
        form: str = self.form._value_  # the same as `value`, without code in between
        return f"{form} {self.options}" if self.options else form


STATEFUL: Final = "stateful"
"""Why an answer is not stored that goes on from what its origin remembers."""


@dataclass(frozen=True, slots=True)
class Follows:
    """An id in a request that an origin gave out with an earlier answer.

    Attributes
    ----------
    path
        JSON pointer (RFC 6901) into the request's body, of names without ``/`` and ``~``.
    given
        The id.
    """

    path: str
    given: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Given:
    """An id that an answer gives out, by which its origin can be asked to go on, and what it stands for there.

    Attributes
    ----------
    given
        The id.
    said
        What was said under it, without what differs whenever the same is said again: ids of its own, times, counts.
    """

    given: str = field(repr=False)
    said: JsonValue = field(repr=False)


class Divides(Protocol):
    """How one call can be divided into several, each of which has an answer of its own. All methods are pure."""

    @property
    def items(self) -> tuple[JsonValue, ...]:
        """What it asks about, as it is keyed."""

    @property
    def is_fixed(self) -> bool:
        """Whether it must be sent as it is, or not at all."""

    @property
    def noun(self) -> str:
        """What its items are called, such as ``texts``."""

    def call_of(self, call: ModelCall, places: Sequence[int]) -> ModelCall:
        """Return `call`, whose division this is, as it would be for the items at `places` alone."""

    def requests(self, call: ModelCall) -> Iterator[Request]:
        """Yield the request of `call` as it would be for each item alone."""

    def body_of(self, places: Sequence[int]) -> bytes:
        """Return the body that asks for the items at `places` alone, and all else as its caller does."""

    def split(self, response: Response, places: Sequence[int]) -> list[Response] | None:
        """Return what `response`, an answer to the items at `places`, says of each; None if that can't be told."""

    def join(self, each: Sequence[Response], frame: Response | None = None) -> Response | None:
        """Return the answer that says what `each` says of one item, in this order; None if they don't go together.

        Its other words, with the counts, are those of `frame`; without one, the counts are the sums of those of `each`.
        """

    def weights(self, places: Sequence[int]) -> list[int]:
        """Return by what the counts of all items at `places` are shared among them."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """A recognised model call.

    Attributes
    ----------
    provider
        The wire API that recognised it.
    request
        What its key is made of.
    wants
        How this caller wants the answer.
    refused
        Reasons, known before the call, why its answer must not be stored (``stateful``,
        ``server-tools``); empty if none.
    preview
        First characters of the last user message, for listings; sealed wherever it is stored.
    max_output_tokens
        Upper bound that the request sets, None if it sets none.
    follows
        Ids that its origin gave out, where nothing else makes it stateful: it is not, if they are known.
    keeps_an_hour
        Whether it may ask that what it writes to the vendor's prompt cache stays there for an hour: no part of
        its key, but of its price.
    keyed
        `request` as its key has it where rules take noise out of that; None where it is `request` itself.
    division
        How it can be divided, where it asks for many things of which each is an answer of its own; None if it can't.
    ids
        Entry ids that were made of it, by all else that they are made of; a copy with another request has none.
    part_ids
        Likewise those of the items of its division.
    """

    provider: Provider
    request: Request
    wants: Wants
    refused: tuple[str, ...] = ()
    preview: str = field(repr=False, default="")
    max_output_tokens: int | None = None
    keeps_an_hour: bool = False
    follows: tuple[Follows, ...] = field(default=(), repr=False)
    keyed: Request | None = field(default=None, repr=False)
    division: Divides | None = field(default=None, repr=False, compare=False)
    ids: dict[tuple[str | bytes | int, ...], EntryId] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    part_ids: dict[tuple[object, ...], tuple[EntryId, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @property
    def as_keyed(self) -> Request:
        """The request of its key."""
        return self.keyed or self.request


class End(StrEnum):
    """How an answer ended."""

    COMPLETE = "complete"
    TOOL_CALLS = "tool-calls"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    REFUSAL = "refusal"
    EMPTY = "empty"
    VECTORS = "unusable-vectors"
    EXPIRING = "expiring-link"
    ERROR = "error"
    CUT = "cut"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Bill:
    """What an answer says of its price beside the plain count of its tokens.

    Attributes
    ----------
    units
        Further counts by their names in `genai-prices`, such as ``input_audio_tokens``; each is part of the
        input or the output that it is named after. Zeros are left out.
    terms
        On which terms it was served, as stated: ``service_tier``, ``speed``, ``processing``.
    stated_usd
        What the origin's own bill says [USD], where its documentation calls it so. It wins over any list.
    gateway
        What tells that somebody who may bill stands between, even on this machine; empty if nothing does.
    unclear
        The first thing that may cost and is not understood; with it the price is unknown. Empty if there is none.
    """

    units: Mapping[str, int] = field(default_factory=dict)
    terms: Mapping[str, str] = field(default_factory=dict)
    stated_usd: Decimal | None = None
    gateway: str = ""
    unclear: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider reads from a response.

    Attributes
    ----------
    end
        How it ended.
    usage, bill
        What it cost.
    model
        Who answered.
    refused
        Reasons, told by the answer itself, why it must not be stored (``server-tools``); empty if none.
    dies_s
        When what it holds dies at its origin, as it states itself [s since the epoch]; None if it doesn't.
    """

    end: End
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    bill: Bill = field(default_factory=Bill)
    refused: tuple[str, ...] = ()
    dies_s: float | None = None


class Provider(Protocol):
    """One wire API. All methods are pure; none raises for any bytes but ``UncacheableRequest``."""

    @property
    def surface(self) -> str:
        """Name of the wire API in keys and listings, such as ``openai.chat``."""

    @property
    def vendor(self) -> str:
        """Provider id that `genai-prices` knows, such as ``openai``; empty if it can't be told.

        ``local`` is this machine's own server. A seller whose prices the list lacks has a name that it doesn't know.
        """

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; anything not understood is ``End.UNREADABLE``."""

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return a stored `response` as this caller wants it, or None where that can't be done."""


class GivesIds(Protocol):
    """A wire API whose answers can be gone on from, by an id: any `Provider` that has this method."""

    def given(self, response: Response) -> tuple[Given, ...]:
        """Return the ids that a whole `response` gives out; pure, and raises for no bytes."""


class Recogniser(Protocol):
    """A family of wire APIs that share their paths, such as everything OpenAI-compatible."""

    def recognise(self, call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
        """Return what `call` asks for, or None if it is not a model call of this family.

        Parameters
        ----------
        call
            The call, already known to have a path of this family.
        body
            Its body, parsed for this alone: it becomes the request's and is changed on the way.
        origins
            What is known of origins.

        Raises
        ------
        UncacheableRequest
            It is a model call, but its key would not be certain to be its own.
        """


@dataclass(frozen=True, slots=True)
class OriginRule:
    """What the configuration says of one origin.

    Attributes
    ----------
    provider
        Whose prices are paid there; empty if it isn't said.
    alias
        The name under which it shares answers with every other origin of that name; empty for none.
    models
        Deployment -> model.
    circle
        Among whom `alias` and `models` count: empty for what the user said, else a digest of what a project says
        that the user didn't trust. Rules of two circles share no answer.
    ignores_no_store
        Whether its answers are stored although they say ``cache-control: no-store``.
    """

    provider: str = ""
    alias: str = ""
    models: Mapping[str, str] | None = None
    circle: str = ""
    ignores_no_store: bool = False


class Uploads:
    """What was uploaded under our eyes: the digest of each thing by the id that its origin gave it. Thread-safe."""

    __slots__ = ("_digests", "version")

    def __init__(self) -> None:
        self._digests: dict[tuple[str, str, int | None, str], str] = {}  # each operation on it is atomic
        self.version = 0
        """Rises with everything that is learned."""

    def __repr__(self) -> str:
        return f"<{len(self._digests)} uploads>"

    def learn(self, call: HttpCall, name: str, digest: str) -> None:
        """Remember that at the origin of `call`, `name` stands for what has this `digest`."""
        if len(self._digests) >= MOST_UPLOADS:
            self._digests.clear()
        self._digests[call.scheme, call.host, call.port, name] = digest
        self.version += 1

    def digest_of(self, call: HttpCall, name: str) -> str | None:
        """Return the digest of what was uploaded as `name` to the origin of `call`, None if that is not known."""
        return self._digests.get((call.scheme, call.host, call.port, name)) if self._digests else None


@dataclass(frozen=True, slots=True)
class Origins:
    """What is known of origins: configured rules, and the identity of this machine.

    Attributes
    ----------
    rules
        Origin such as ``https://gateway.example.com/llm`` -> rule; the longest prefix wins. Compared
        normalised (`origins.normalise_origin`, which also tells a wrong one); what is no URL matches nothing.
    machine
        Part of the key for loopback and private origins without an alias.
    extra_headers
        Names, in lower case, of further headers that decide the answer; a credential counts by its digest, and a call
        without any of those named is not keyed.
    key_include
        Top-level fields of bodies that are in the key, whatever the origin's documentation says of them.
    key_exclude
        Top-level fields of bodies that are not in the key, whatever the origin.
    uploads
        What was uploaded under our eyes.
    remembered
        Calls that were recognised by all this.
    """

    rules: Mapping[str, OriginRule] = field(repr=False)
    machine: str = field(repr=False)
    extra_headers: frozenset[str] = frozenset()
    key_include: frozenset[str] = frozenset()
    key_exclude: frozenset[str] = frozenset()
    uploads: Uploads = field(default_factory=Uploads)
    remembered: Remembered[ModelCall] = field(default_factory=Remembered, repr=False, compare=False)
