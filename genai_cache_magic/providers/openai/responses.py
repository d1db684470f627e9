"""``POST .../responses``: the Responses API of OpenAI, Azure OpenAI and what is compatible."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers import forms
from genai_cache_magic.providers.base import STATEFUL, Answer, End, Follows, Given, ModelCall, Wants
from genai_cache_magic.providers.billing import read_openai
from genai_cache_magic.providers.fields import (
    drop_cache_hints,
    drop_openai_hints,
    is_asked,
    is_one_token,
    is_score,
    last_user_text,
    objects,
    pop_form,
    pop_stream_options,
    positive,
    preview_of,
    wants_of,
)
from genai_cache_magic.providers.formats import sse, streams
from genai_cache_magic.providers.formats.media import fold_part, fold_parts
from genai_cache_magic.providers.openai import responses_stream
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    gravest,
    is_success,
    load_answer,
    load_object,
    whole_if_scored,
)
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import Headers, JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/responses"

MEDIA: Final = {
    "input_image": ("image_url", ""),
    "computer_screenshot": ("image_url", ""),
    "input_file": ("file_data", ""),
    "input_audio": ("input_audio", "data"),
}
"""Type of content part -> where its media lie."""

WHOLE_ITEMS: Final = frozenset(
    {
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "computer_call",
        "computer_call_output",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
    }
)
"""Items that say all they mean, so their ids only tie them together.

An item that is not listed may be a handle: the id of an image or a search result that the server keeps.
Such an id is content and stays as it is. So it is with reasoning that is not sent along encrypted.
"""

_CLIENT_TOOLS: Final = frozenset({"function", "custom", "local_shell", "apply_patch", "tool_search"})
"""Types of tool that the caller runs, and the search among the request's own tools."""

_TOOL_ITEMS: Final = frozenset({"additional_tools", "tool_search_output"})
"""Items that bring tools of their own."""

_LOGPROBS: Final = "message.output_text.logprobs"

_REFERENCE: Final = "item_reference"
_PREVIOUS: Final = "previous_response_id"
_STATEFUL: Final = (_PREVIOUS, "conversation", "background")

# Output items that are no output of their own: what the model thought, and what a search found.
_SILENT_ITEMS: Final = frozenset({"reasoning", "web_search_call", "file_search_call", "mcp_list_tools"})

_FREE_CALLS: Final = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "mcp_call",
        "tool_search_call",
    }
)
"""Output items of tools that cost their tokens alone. Any other call may cost more, and so does a shell that ran there:
what it said is an item of the output too."""

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})

_STATUS: Final = {
    "completed": End.COMPLETE,
    "incomplete": End.TRUNCATED,
    "failed": End.ERROR,
    "cancelled": End.ERROR,
    "queued": End.CUT,
    "in_progress": End.CUT,
}


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The Responses API; `is_scored` says that the probabilities of one token are asked for."""

    vendor: str = ""
    is_scored: bool = False
    surface: ClassVar[str] = "openai.responses"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        return whole_if_scored(self._read(response), is_scored=self.is_scored)

    def _read(self, response: Response) -> Answer:
        if response.form is Form.STREAM:
            return _read_stream(response, self.vendor)
        answer = load_answer(response)
        return answer if isinstance(answer, Answer) else _read_object(answer, [], self.vendor, response.headers)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` in the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else forms.convert(response, wants, responses_stream)

    def given(self, response: Response) -> tuple[Given, ...]:
        """Return the id of `response`, which stands for its output, and those of the items in that."""
        answer, items = _whole(response)
        given = as_text(answer.get("id"))
        # Only the calls that it asks for have ids that matter to who goes on.
        said: list[JsonValue] = [{name: value for name, value in item.items() if name != "id"} for item in items]
        if not given:
            return ()
        by_item = (
            Given(as_text(item.get("id")), [i, one]) for i, (item, one) in enumerate(zip(items, said, strict=True))
        )
        return (Given(given, said), *(one for one in by_item if one.given))


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body names neither input nor a prompt template."""
    inputs = body.get("input")
    has_template = type(body.get("prompt")) is dict
    if not has_template and (type(body.get("model")) is not str or type(inputs) not in {str, list} or not inputs):
        return None
    preview = preview_of(inputs) if type(inputs) is str else last_user_text(inputs)
    options = pop_stream_options(body)
    form = pop_form(body)
    drop_openai_hints(body)
    drop_cache_hints(body.get("tools"))
    media: list[str] = []
    _clean(body, media)
    limit = positive(body.get("max_output_tokens"))
    asks_scores = is_score(body.get("top_logprobs")) or _LOGPROBS in as_list(body.get("include"))
    is_scored = asks_scores and is_one_token(body.get("max_output_tokens"))
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=OpenAIResponses(target.place.vendor, is_scored),
        request=target.request(OpenAIResponses.surface, body, None, media),
        wants=wants_of(form, options),
        refused=tuple(_refusals(body)),
        follows=tuple(_follows(body)),
        preview=preview,
        max_output_tokens=limit,
    )


def _clean(body: JsonObject, media: list[str]) -> None:
    """Fold media, renumber ids and drop hints in the input of `body`, in place."""
    ids = Renumbering()
    # The results of calls that an earlier answer asked for name them by its ids.
    items = objects(body.get("input"))
    is_first = not is_asked(body.get(_PREVIOUS)) and not any(_kind_of(item) == _REFERENCE for item in items)
    for i, item in enumerate(as_list(body.get("input"))):
        if type(item) is not dict:
            continue
        for field in ("content", "output"):
            parts = item.get(field)
            path = f"/input/{i}/{field}"
            if type(parts) is dict:
                fold_part(parts, path, MEDIA, media)
            else:
                drop_cache_hints(parts)
                fold_parts(parts, path, MEDIA, media)
        if is_first:
            _renumber(item, ids)
    ids.finish(body)


def _follows(body: JsonObject) -> Iterator[Follows]:
    """Yield the answer, and the items of answers, that `body` names, if they are all that the server must remember."""
    previous = body.get(_PREVIOUS)
    inputs = as_list(body.get("input"))
    referred = {
        i: item.get("id") for i, item in enumerate(inputs) if type(item) is dict and _kind_of(item) == _REFERENCE
    }
    is_named = {str, NoneType}.issuperset({type(previous)}) and {str}.issuperset(map(type, referred.values()))
    if not is_named or any(is_asked(body.get(field)) for field in _STATEFUL if field != _PREVIOUS):
        return
    if type(previous) is str and previous:
        yield Follows(f"/{_PREVIOUS}", previous)
    yield from (Follows(f"/input/{i}/id", as_text(given)) for i, given in referred.items())


def _renumber(item: JsonObject, ids: Renumbering) -> None:
    kind = _kind_of(item)
    if kind in WHOLE_ITEMS or (kind == "reasoning" and item.get("encrypted_content")):
        # In this order, whatever the order of the keys.
        ids.apply(item, "id")
        ids.apply(item, "call_id")


def _kind_of(item: JsonObject) -> str:
    """Return the type of an input item, which messages and references may leave out."""
    kind = as_text(item.get("type"))
    return kind or ("message" if "role" in item else _REFERENCE)


def _refusals(body: JsonObject) -> Iterator[str]:
    """Yield why the answer to `body` must not be stored."""
    items = list(objects(body.get("input")))
    kinds = {_kind_of(item) for item in items}
    if _REFERENCE in kinds or _has_draft(body) or any(is_asked(body.get(field)) for field in _STATEFUL):
        yield STATEFUL
    offered = [body, *(item for item in items if _kind_of(item) in _TOOL_ITEMS)]
    if any(_is_server_tool(tool) for holder in offered for tool in objects(holder.get("tools"))):
        yield "server-tools"


def _has_draft(body: JsonObject) -> bool:
    """Tell whether `body` names a prompt without its version: what stands behind the name is changed in a dashboard."""
    prompt = as_object(body.get("prompt"))
    return bool(prompt) and not is_asked(prompt.get("version"))


def _is_server_tool(tool: JsonObject) -> bool:
    kind = as_text(tool.get("type"))
    if kind == "namespace":
        return any(_is_server_tool(member) for member in objects(tool.get("tools")))
    if kind == "shell":
        return as_object(tool.get("environment")).get("type") != "local"
    return kind not in _CLIENT_TOOLS


def _read_stream(response: Response, vendor: str) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    items: list[JsonObject] = []
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            break
        fields = load_object(event.data)
        if fields is None:
            return Answer(End.UNREADABLE)
        kind = as_text(fields.get("type")) or event.name.decode("utf-8", "replace")
        if kind in _TERMINAL:
            return _read_object(as_object(fields.get("response")), items, vendor, response.headers)
        if kind == "error" or fields.get("error") is not None:
            return Answer(End.ERROR)
        if kind == "response.output_item.done":
            items.append(as_object(fields.get("item")))
    return Answer(End.CUT)


def _whole(response: Response) -> tuple[JsonObject, list[JsonObject]]:
    """Return the response object that `response` holds, and the items of its output."""
    items: list[JsonObject] = []
    for told in streams.objects(response):
        if response.form is not Form.STREAM or as_text(told.get("type")) in _TERMINAL:
            answer = told if response.form is not Form.STREAM else as_object(told.get("response"))
            return answer, list(objects(answer.get("output"))) or items
        if told.get("type") == "response.output_item.done":
            items.append(as_object(told.get("item")))
    return {}, []


def _read_object(answer: JsonObject, streamed: list[JsonObject], vendor: str, headers: Headers) -> Answer:
    """Read a response object; `streamed` is its output where the object itself leaves it out."""
    status = _STATUS.get(as_text(answer.get("status")), End.UNREADABLE)
    if status is End.TRUNCATED and as_object(answer.get("incomplete_details")).get("reason") == "content_filter":
        status = End.FILTERED
    items = [as_object(item) for item in as_list(answer.get("output"))] or streamed
    ends = {_end_of_item(item) for item in items} - {End.EMPTY}
    end = gravest({status, *ends}, is_empty=not ends)
    fee = next((kind for kind in (as_text(item.get("type")) for item in items) if _may_cost(kind)), "")
    told = read_openai(answer.get("usage"), vendor, tier=answer.get("service_tier"), headers=headers, fee=fee)
    return Answer(end, told.usage, as_text(answer.get("model")), told.bill)


def _may_cost(kind: str) -> bool:
    return kind == "shell_call_output" or (kind.endswith("_call") and kind not in _FREE_CALLS)


def _end_of_item(item: JsonObject) -> End:
    kind = as_text(item.get("type"))
    if kind in _SILENT_ITEMS or not kind:
        return End.EMPTY
    if kind != "message":
        return End.TOOL_CALLS if kind.endswith("_call") else End.COMPLETE
    parts = list(objects(item.get("content")))
    if any(part.get("refusal") for part in parts):
        return End.REFUSAL
    return End.COMPLETE if any(part.get("text") or part.get("type") != "output_text" for part in parts) else End.EMPTY
