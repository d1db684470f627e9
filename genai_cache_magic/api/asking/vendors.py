"""The batch APIs of vendors: submitted, found again, and their results, by the vendors' own SDKs."""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from genai_cache_magic.api.asking.batch_notes import Note

MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 100 * 1024**2
"""Of one batch: what both vendors take, with room to spare."""

_LOOKED_AT: Final = 1_000
"""So many of the newest batches are looked at for one of which it is not known whether it was taken."""
_LABEL: Final = "genai_cache"
_OK: Final = 200


class Result(NamedTuple):
    """What came of one request: the answer as JSON, or why there is none."""

    custom_id: str
    body: bytes
    error: str = ""

    def __repr__(self) -> str:
        """Leave the content out."""
        return "<Result>"


class BatchApi(Protocol):
    """One vendor's."""

    @property
    def origin(self) -> str:
        """Where it is asked."""

    def submit(self, note: Note) -> str:
        """Submit a batch and return its id; raises what the SDK raises."""

    def find(self, note: Note, others: Collection[str]) -> str | None:
        """Return the id of the batch that was submitted by `note`, None if there is none; empty: it can't be told yet.

        `others` are ids of batches that are known to be none.
        """

    def results(self, note: Note) -> Iterator[Result] | None:
        """Return what came of its requests, None while it is at work."""


class OpenAIBatches:
    """OpenAI's, https://platform.openai.com/docs/guides/batch."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def origin(self) -> str:
        """Where it is asked."""
        return str(self._client.base_url)

    def submit(self, note: Note) -> str:
        """Send the file of requests, then the order to carry it out, which carries the note's name."""
        lines = [
            orjson.dumps({"custom_id": note.custom_id(number), "method": "POST", "url": one.path, "body": one.body})
            for number, one in enumerate(note.requests)
        ]
        content = io.BytesIO(b"\n".join([*lines, b""]))
        file = self._client.files.create(file=(f"{note.name}.jsonl", content), purpose="batch")
        # Once: a repetition after a time-out would be a second batch.
        made = self._client.with_options(max_retries=0).batches.create(
            input_file_id=file.id,
            endpoint=note.requests[0].path,
            completion_window="24h",
            metadata={_LABEL: note.name},
        )
        return str(made.id)

    def find(self, note: Note, others: Collection[str]) -> str | None:
        """Look for the note's name."""
        del others
        for batch in islice(self._client.batches.list(limit=100), _LOOKED_AT):
            if (batch.metadata or {}).get(_LABEL) == note.name:
                return str(batch.id)
        return None

    def results(self, note: Note) -> Iterator[Result] | None:
        """Read the files of results and of errors."""
        batch = self._client.batches.retrieve(note.remote)
        if batch.status not in {"completed", "expired", "cancelled", "failed"}:
            return None
        return self._lines(batch, note)

    def _lines(self, batch: Any, note: Note) -> Iterator[Result]:
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in self._client.files.content(file_id).content.split(b"\n"):
                if line.strip():
                    yield _openai_result(orjson.loads(line))
        if batch.status == "failed":
            codes = [str(error.code) for error in (batch.errors.data if batch.errors else None) or ()]
            why = f"the batch failed ({', '.join(codes[:1]) or 'no reason given'})"
            yield from (Result(note.custom_id(number), b"", why) for number in range(len(note.requests)))


class AnthropicBatches:
    """Anthropic's, https://platform.claude.com/docs/en/build-with-claude/batch-processing."""

    def __init__(self, client: Any) -> None:
        if not hasattr(client.messages, "batches"):
            raise ConfigurationError("this release of anthropic has no batches: pip install --upgrade anthropic")
        self._client = client

    @property
    def origin(self) -> str:
        """Where it is asked."""
        return str(self._client.base_url)

    def submit(self, note: Note) -> str:
        """Send all requests at once; their names carry the note's."""
        requests = [
            {"custom_id": note.custom_id(number), "params": one.body} for number, one in enumerate(note.requests)
        ]
        return str(self._client.with_options(max_retries=0).messages.batches.create(requests=requests).id)

    def find(self, note: Note, others: Collection[str]) -> str | None:
        """Look for the note's name in results; a batch at work that may be the one can't be told yet."""
        may_be = False
        for batch in islice(self._client.messages.batches.list(limit=100), _LOOKED_AT):
            counts = batch.request_counts.to_dict()
            if batch.id in others or sum(counts.values()) != len(note.requests):
                continue
            if batch.processing_status != "ended":
                may_be = True
                continue
            first = next(iter(self._client.messages.batches.results(batch.id)), None)
            if first is not None and note.number(first.custom_id) is not None:
                return str(batch.id)
        return "" if may_be else None

    def results(self, note: Note) -> Iterator[Result] | None:
        """Read the results."""
        batch = self._client.messages.batches.retrieve(note.remote)
        if batch.processing_status != "ended":
            return None
        return map(_anthropic_result, self._client.messages.batches.results(note.remote))


def _openai_result(line: dict[str, Any]) -> Result:
    response, error = line.get("response") or {}, line.get("error") or {}
    if response.get("status_code") == _OK:
        return Result(str(line.get("custom_id")), orjson.dumps(response.get("body")))
    why = str(error.get("code") or f"status {response.get('status_code')}")
    return Result(str(line.get("custom_id")), b"", why)


def _anthropic_result(one: Any) -> Result:
    if one.result.type == "succeeded":
        return Result(one.custom_id, orjson.dumps(one.result.message.to_dict(mode="json")))
    if one.result.type == "errored":
        error = getattr(one.result.error, "error", None)
        return Result(one.custom_id, b"", str(getattr(error, "type", None) or "errored"))
    return Result(one.custom_id, b"", str(one.result.type))


def batch_api(kind: str, client: Any) -> BatchApi:
    """Return the batch API of a vendor."""
    return AnthropicBatches(client) if kind == "anthropic" else OpenAIBatches(client)


def was_refused(error: Exception) -> bool:
    """Tell whether a submission was certainly not taken: the server said so."""
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and status in {400, 401, 403, 404, 405, 413, 422, 429}


def refused(kind: str, error: Exception) -> ConfigurationError:
    """Return what to raise where a server takes no batch."""
    status = getattr(error, "status_code", None)
    return ConfigurationError(
        f"the batch was not taken ({type(error).__name__}, status {status}), so nothing was submitted: {kind}'s batch "
        f"API is asked where {kind.upper()}_BASE_URL leads; leave --batch out where there is none"
    )
