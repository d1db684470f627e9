"""Stored answers as the objects that an SDK makes of them: by its own code, or by pydantic's where they agree.

The SDKs build their models loosely, field by field in Python; pydantic's reader builds the same ones from JSON in a
tenth of the time, where the JSON is as the models say. Whether it is, is tried with each answer that comes by a second
time, and remembered by its digest alone. Where it has stayed in memory since the first time, the next ones are made by
a recipe instead, see `recipes`. Most answers are asked for once in a process: of those nothing is tried.
Each caller gets objects of its own.
"""

from __future__ import annotations

import json
import operator
import sys
from http import HTTPStatus
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from genai_cache_magic.core.model import Form
from genai_cache_magic.intercept.stainless.recipes import Recipes
from genai_cache_magic.intercept.stainless.shapes import is_own

if TYPE_CHECKING:
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.stainless.sdks import Sdk

_MOST_TRIED: Final = 4096
"""So many answers are remembered as tried."""

_PARSED: Final = ("APIResponse", "AsyncAPIResponse")
_PARSING: Final = ("__init__", "parse", "_parse")
"""By what an SDK makes an answer into a model, of its module of responses."""

_UNIONS: Final = frozenset({Union, UnionType})


class Answers:
    """The answers of one SDK.

    Attributes
    ----------
    recipes
        Make anew what `whole` has returned before.
    """

    def __init__(self, sdk: Sdk) -> None:
        self._package = sdk.package
        self._models = sys.modules[f"{sdk.package}._models"]
        self._responses = sys.modules[f"{sdk.package}._response"]
        kinds = [kind for kind in _PARSED if hasattr(self._responses, kind)]
        self._parsing = operator.attrgetter(*(f"{kind}.{way}" for kind in kinds for way in _PARSING))
        self._parsers: tuple[Any, bool] = ((), False)  # and whether they are the SDK's own; replaced as a whole
        self._id_header = sdk.id_header
        self._adds_ids = getattr(self._models, "add_response_ids", None)
        self._pydantic = sys.modules["pydantic"].BaseModel
        # None of one that came by once, of which nothing was tried; each operation on it is atomic.
        self._agrees: dict[tuple[type, int, int], bool | None] = {}
        self._are_models: dict[Any, bool] = {}  # likewise
        self.recipes = Recipes(self._pydantic, self.are_alike)

    def streams(self, response: Response) -> bool:
        """Tell whether `response` is one that becomes a stream of the SDK's."""
        return response.form is Form.STREAM and response.status == HTTPStatus.OK

    def makes(self, cast_to: Any, response: Response) -> bool:
        """Tell whether `response` is one that becomes a model of the SDK's and nothing else."""
        if response.form is not Form.JSON or response.status != HTTPStatus.OK:
            return False
        if not (_told(response, "content-type") or "").partition(";")[0].endswith("json"):
            return False
        is_model = self._are_models.get(cast_to)
        if is_model is None:
            kinds = get_args(cast_to) if get_origin(cast_to) in _UNIONS else (cast_to,)
            is_model = all(map(self._is_model, kinds))
            if len(self._are_models) >= _MOST_TRIED:
                self._are_models.clear()
            self._are_models[cast_to] = is_model
        return is_model

    def _is_model(self, kind: Any) -> bool:
        """Tell whether `kind` is a model of the SDK's own: a user's may have a way of its own to be made."""
        return (
            isinstance(kind, type)
            and issubclass(kind, self._models.BaseModel)
            and kind.__module__.startswith(f"{self._package}.")
        )

    def are_parsed_as_ever(self) -> bool:
        """Tell whether the SDK's own code, with nobody's around it, makes models of answers."""
        parsers = self._parsing(self._responses)
        known, are_own = self._parsers
        if known != parsers:
            are_own = is_own(parsers, self._package)
            self._parsers = parsers, are_own
        return are_own

    def whole(self, client: Any, cast_to: Any, response: Response) -> Any:
        """Return what `client` returns of `response`, where its call has no function of its own for that."""
        is_here_again = self.recipes.meets_again(response)
        made = self.labelled(self.model(client, cast_to, response.body, tries=not is_here_again), response)
        if is_here_again:
            self.recipes.keep(response, cast_to, made)
        return made

    def model(self, client: Any, cast_to: Any, body: bytes, *, tries: bool = True) -> Any:
        """Return a new object of `cast_to`, as `client` makes it of `body`.

        One that comes by again shows whether pydantic agrees, unless something better is to be tried (not `tries`).
        """
        tried = self._tried(cast_to, body)
        agrees = self._agrees.get(tried)
        if agrees:
            return cast_to.model_validate_json(body)
        made = client._process_response_data(data=json.loads(body), cast_to=cast_to, response=None)  # noqa: SLF001
        if tried not in self._agrees:
            if len(self._agrees) >= _MOST_TRIED:
                self._agrees.clear()
            self._agrees[tried] = None
        elif agrees is None and tries:
            self._agrees[tried] = self._is_read_alike(cast_to, body, made)
        return made

    def _tried(self, cast_to: Any, body: bytes) -> tuple[type, int, int]:
        # The process's own keyed hash: two answers that share it are as likely as an error of its memory.
        return cast_to, hash(body), len(body)

    def _is_read_alike(self, cast_to: Any, body: bytes, made: Any) -> bool:
        """Tell whether pydantic reads `body` as the SDK has made `made` of it."""
        try:
            read = cast_to.model_validate_json(body)
        except (AttributeError, ValueError):
            return False  # one of several models, or no such answer
        return self.are_alike(read, made)

    def are_alike(self, one: Any, other: Any) -> bool:
        """Tell whether two values can't be told apart: by type, fields, their order, which were set, and extra ones."""
        kind = type(one)
        if kind is not type(other):
            return False
        if isinstance(one, self._pydantic):
            return (
                one.__pydantic_fields_set__ == other.__pydantic_fields_set__
                and self.are_alike(vars(one), vars(other))
                and self.are_alike(one.__pydantic_extra__, other.__pydantic_extra__)
                and self.are_alike(one.__pydantic_private__, other.__pydantic_private__)
            )
        if kind is dict:
            return list(one) == list(other) and all(self.are_alike(one[name], other[name]) for name in one)
        if kind is list or kind is tuple:
            return len(one) == len(other) and all(map(self.are_alike, one, other))
        return bool(one == other) and (kind is not float or repr(one) == repr(other))

    def labelled(self, made: Any, response: Response) -> Any:
        """Return `made` with what the SDK takes from the headers of an answer: the ids of its request."""
        if not self._id_header or self._models.BaseModel not in type(made).__mro__:
            return made  # pydantic would look at an object itself, in Python, where `isinstance` is asked
        request_id = _told(response, self._id_header)
        if self._adds_ids is not None:
            workspace_id = _told(response, "anthropic-workspace-id")
            self._adds_ids(made, request_id=request_id, workspace_id=workspace_id)
        else:
            self._models.add_request_id(made, request_id)
        return made


def _told(response: Response, header: str) -> str | None:
    """Return what a `header` says, as HTTP clients tell it where it is there more than once; None if it isn't."""
    values = [value for name, value in response.headers if name == header]
    return ", ".join(values) if values else None
