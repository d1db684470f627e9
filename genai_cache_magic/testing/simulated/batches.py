"""The batch APIs of OpenAI and Anthropic: many calls in one, answered later at half the price.

OpenAI's ``/v1/files`` (for such calls alone) and ``/v1/batches``, and Anthropic's ``/v1/messages/batches``: created,
listed, retrieved, cancelled, and their results. A batch is at its end at once, unless `Batches.hold` keeps it back.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.testing.simulated.replying import Reply, json_reply
from genai_cache_magic.testing.simulated.wire import anthropic_error, dump, openai_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.testing.simulated.http_server import ReceivedRequest

_FILES: Final = re.compile(r"/v1/files(?:/(?P<id>file-[0-9a-z]+)(?P<content>/content)?)?")
_OPENAI: Final = re.compile(r"/v1/batches(?:/(?P<id>batch_[0-9a-z]+)(?P<verb>/cancel)?)?")
_ANTHROPIC: Final = re.compile(r"/v1/messages/batches(?:/(?P<id>msgbatch_[0-9a-z]+)(?P<verb>/cancel|/results)?)?")
_LARGEST_PAGE: Final = 100
_CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CREATED_S: Final = 1_750_000_000
_TIME: Final = "2025-06-15T15:06:40Z"
_FAMILY: Final = {"/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions"}


@dataclass(slots=True)
class _Batch:
    """One batch; `results` are those of its calls by their ids, None while one is at work."""

    batch_id: str
    is_openais: bool
    headers: dict[str, str] = field(repr=False)
    asked: dict[str, tuple[str, Any]] = field(repr=False)  # custom id -> path and body
    about: dict[str, Any]
    results: dict[str, tuple[int, Any] | None] = field(default_factory=dict, repr=False)
    end: str = ""  # how it ended; empty while it is at work


class Batches:
    """The batches of one simulated server. Safe to share between threads.

    Parameters
    ----------
    ask
        Answers one call of a path, headers and body with a status and a JSON value.
    """

    def __init__(self, ask: Callable[[str, dict[str, str], Any], tuple[int, Any]], url: Callable[[], str]) -> None:
        self._ask = ask
        self._url = url
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)  # guarded by _lock, like all below
        self._files: dict[str, bytes] = {}
        self._batches: dict[str, _Batch] = {}
        self._is_held = False
        self._expire = 0
        self._lost_answers = 0

    @property
    def created(self) -> int:
        """How many batches were made."""
        with self._lock:
            return len(self._batches)

    @property
    def requests(self) -> int:
        """How many calls were in them."""
        with self._lock:
            return sum(len(batch.asked) for batch in self._batches.values())

    def hold(self) -> None:
        """Let batches be at work until `release`."""
        with self._lock:
            self._is_held = True

    def release(self) -> None:
        """Let batches come to their end."""
        with self._lock:
            self._is_held = False

    def expire_next(self, number: int) -> None:
        """Let the next `number` calls that are at work expire when their batch comes to its end."""
        with self._lock:
            self._expire += number

    def lose_next_answer(self) -> None:
        """Make the next batch that is asked for, and close the connection without saying so."""
        with self._lock:
            self._lost_answers += 1

    def answer(self, request: ReceivedRequest) -> Reply | None:
        """Return the answer to `request`, None if it is none about batches.

        Raises
        ------
        ConnectionAbortedError
            `lose_next_answer` was asked for.
        """
        for pattern, answer in ((_FILES, self._file), (_OPENAI, self._openai), (_ANTHROPIC, self._anthropic)):
            if (found := pattern.fullmatch(request.path)) is not None:
                return answer(request, found)
        return None

    # Files

    def _file(self, request: ReceivedRequest, found: re.Match[str]) -> Reply | None:
        if request.method == "POST" and not found["id"]:
            purpose, content = _form(request)
            if purpose != "batch" or content is None:
                return None
            with self._lock:
                file_id = f"file-sim{next(self._numbers):021d}"
                self._files[file_id] = content
            return json_reply(200, _file_object(file_id, content))
        with self._lock:
            content = self._files.get(found["id"] or "")
            if content is not None and request.method == "DELETE":
                del self._files[found["id"]]
        if content is None:
            return json_reply(404, openai_error(404, "there is no such file"))
        if found["content"]:
            return Reply(headers=(("content-type", "application/octet-stream"),), body=content)
        if request.method == "DELETE":
            return json_reply(200, {"id": found["id"], "object": "file", "deleted": True})
        return json_reply(200, _file_object(found["id"], content))

    # OpenAI's

    def _openai(self, request: ReceivedRequest, found: re.Match[str]) -> Reply:
        if found["id"]:
            batch = self._known(found["id"], cancels=request.method == "POST" and bool(found["verb"]))
            if batch is None:
                return json_reply(404, openai_error(404, "there is no such batch"))
            return json_reply(200, self._as_openai(batch))
        if request.method == "GET":
            return self._page(request, is_openais=True)
        asked = request.json if isinstance(request.json, dict) else {}
        with self._lock:
            content = self._files.get(str(asked.get("input_file_id")))
        path = str(asked.get("endpoint"))
        if content is None or path not in _FAMILY or asked.get("completion_window") != "24h":
            return json_reply(400, openai_error(400, "name a file, an endpoint and the window of 24h"))
        calls = _lines(content, path)
        if calls is None:
            return json_reply(400, openai_error(400, "a line of the file is no call of that endpoint, or comes twice"))
        about = {
            "endpoint": path,
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "metadata": asked.get("metadata"),
        }
        batch = self._made("batch_", request, calls, about)
        return json_reply(200, self._as_openai(batch))

    def _as_openai(self, batch: _Batch) -> dict[str, Any]:
        done = {name: found for name, found in batch.results.items() if found is not None}
        failed = sum(status >= 400 for status, _ in done.values())  # noqa: PLR2004 - a client's or a server's fault
        counts = {"total": len(batch.asked), "completed": len(done) - failed, "failed": failed}
        return {
            "id": batch.batch_id,
            "object": "batch",
            **batch.about,
            "status": batch.end or "in_progress",
            "created_at": _CREATED_S,
            "request_counts": counts,
            "errors": None,
        }

    # Anthropic's

    def _anthropic(self, request: ReceivedRequest, found: re.Match[str]) -> Reply:
        if not found["id"] and request.method == "GET":
            return self._page(request, is_openais=False)
        if not found["id"]:
            calls = _requests(request.json)
            if calls is None:
                return json_reply(400, anthropic_error(400, "requests: each needs its own custom_id, and params"))
            return json_reply(200, self._as_anthropic(self._made("msgbatch_", request, calls, {})))
        batch = self._known(found["id"], cancels=found["verb"] == "/cancel")
        if batch is None or (found["verb"] == "/results" and not batch.end):
            return json_reply(404, anthropic_error(404, "there is no such batch, or it is not at its end"))
        if found["verb"] != "/results":
            return json_reply(200, self._as_anthropic(batch))
        lines = [dump({"custom_id": name, "result": _result(one)}) for name, one in batch.results.items()]
        return Reply(headers=(("content-type", "application/x-jsonl"),), body=b"\n".join([*lines, b""]))

    def _as_anthropic(self, batch: _Batch) -> dict[str, Any]:
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        for name in batch.asked:
            kind = _result(batch.results.get(name))["type"] if batch.end else "processing"
            counts[kind] += 1
        results = f"{self._url()}/v1/messages/batches/{batch.batch_id}/results"
        return {
            "id": batch.batch_id,
            "type": "message_batch",
            "processing_status": "ended" if batch.end else "in_progress",
            "request_counts": counts,
            "created_at": _TIME,
            "expires_at": _TIME,
            "ended_at": _TIME if batch.end else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": results if batch.end else None,
        }

    # Both

    def _made(
        self, prefix: str, request: ReceivedRequest, asked: dict[str, tuple[str, Any]], about: dict[str, Any]
    ) -> _Batch:
        with self._lock:
            batch = _Batch(f"{prefix}sim{next(self._numbers):021d}", prefix == "batch_", request.headers, asked, about)
            self._batches[batch.batch_id] = batch
            is_lost, self._lost_answers = self._lost_answers > 0, max(0, self._lost_answers - 1)
        if is_lost:
            raise ConnectionAbortedError("the answer is lost")
        return batch

    def _page(self, request: ReceivedRequest, *, is_openais: bool) -> Reply:
        with self._lock:
            own = [batch for batch in reversed(self._batches.values()) if batch.is_openais == is_openais]
        after = re.search(r"\bafter(?:_id)?=([^&]+)", request.query)
        ids = [batch.batch_id for batch in own]
        start = ids.index(after[1]) + 1 if after is not None and after[1] in ids else 0
        page = own[start : start + _LARGEST_PAGE]
        for batch in page:
            self._known(batch.batch_id, cancels=False)
        shown = [self._as_openai(batch) if is_openais else self._as_anthropic(batch) for batch in page]
        ends = {"first_id": page[0].batch_id, "last_id": page[-1].batch_id} if page else {}
        more = start + len(page) < len(own)
        return json_reply(200, {"object": "list", "data": shown, "has_more": more, **ends})

    def _known(self, batch_id: str, *, cancels: bool) -> _Batch | None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None or batch.end:
                return batch
            if self._is_held and not cancels:
                return batch
            names = list(batch.asked)
            expired = min(self._expire, len(names))
            self._expire -= expired
        for number, name in enumerate(names):
            path, body = batch.asked[name]
            none = cancels or number < expired
            batch.results[name] = None if none else self._at_half_price(path, self._ask(path, batch.headers, body))
        with self._lock:
            self._end(batch, "cancelled" if cancels else "expired" if expired else "completed")
        return batch

    def _end(self, batch: _Batch, how: str) -> None:
        """Take note of the end, unless another caller was faster; the caller holds the lock."""
        if not batch.end:
            if batch.is_openais:
                self._write_out(batch)
            batch.end = how

    @staticmethod
    def _at_half_price(path: str, found: tuple[int, Any]) -> tuple[int, Any]:
        status, value = found
        if path == "/v1/messages" and isinstance(value, dict) and isinstance(value.get("usage"), dict):
            value = {**value, "usage": {**value["usage"], "service_tier": "batch"}}
        return status, value

    def _write_out(self, batch: _Batch) -> None:
        """Make the files of results and of errors; the caller holds the lock."""
        answered: list[bytes] = []
        failed: list[bytes] = []
        for name, found in batch.results.items():
            line: dict[str, Any] = {"id": f"batch_req_{name}", "custom_id": name, "response": None, "error": None}
            if found is None:
                line["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
            else:
                line["response"] = {"status_code": found[0], "request_id": f"req_{name}", "body": found[1]}
            is_answered = found is not None and found[0] == 200  # noqa: PLR2004 - the status that says so
            (answered if is_answered else failed).append(dump(line))
        for field_name, lines in (("output_file_id", answered), ("error_file_id", failed)):
            if lines:
                file_id = f"file-sim{next(self._numbers):021d}"
                self._files[file_id] = b"\n".join([*lines, b""])
                batch.about[field_name] = file_id


def _result(found: tuple[int, Any] | None) -> dict[str, Any]:
    if found is None:
        return {"type": "expired"}
    status, value = found
    return {"type": "succeeded", "message": value} if status == 200 else {"type": "errored", "error": value}  # noqa: PLR2004 - as above


def _file_object(file_id: str, content: bytes) -> dict[str, Any]:
    about = {"bytes": len(content), "created_at": _CREATED_S, "filename": "requests.jsonl", "purpose": "batch"}
    return {"id": file_id, "object": "file", "status": "processed", **about}


def _form(request: ReceivedRequest) -> tuple[str, bytes | None]:
    """The purpose, and the file, of an upload."""
    kind = request.headers.get("content-type", "").encode("latin-1")
    purpose, content = "", None
    for part in message_from_bytes(b"content-type: " + kind + b"\r\n\r\n" + request.body, policy=HTTP).iter_parts():
        value = part.get_payload(decode=True)
        if isinstance(value, bytes) and part.get_param("name", header="content-disposition") == "file":
            content = value
        elif isinstance(value, bytes) and part.get_param("name", header="content-disposition") == "purpose":
            purpose = value.decode("utf-8", "replace")
    return purpose, content


def _lines(content: bytes, path: str) -> dict[str, tuple[str, Any]] | None:
    calls: dict[str, tuple[str, Any]] = {}
    for line in filter(None, content.split(b"\n")):
        try:
            one = json.loads(line)
        except ValueError:
            return None
        is_call = isinstance(one, dict) and one.get("method") == "POST" and one.get("url") == path
        if not is_call or not isinstance(one.get("custom_id"), str) or one["custom_id"] in calls:
            return None
        calls[one["custom_id"]] = path, one.get("body")
    return calls


def _requests(asked: Any) -> dict[str, tuple[str, Any]] | None:
    calls: dict[str, tuple[str, Any]] = {}
    for one in asked.get("requests", ()) if isinstance(asked, dict) else ():
        name = one.get("custom_id") if isinstance(one, dict) else None
        if not isinstance(name, str) or not _CUSTOM_ID.fullmatch(name) or name in calls:
            return None
        calls[name] = "/v1/messages", one.get("params")
    return calls or None
