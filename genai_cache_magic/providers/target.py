"""Who is asked: the origin, the model and the headers of a call, and the request made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from genai_cache_magic.core.model import Form, Headers, Request
from genai_cache_magic.providers.headers import semantic_headers
from genai_cache_magic.providers.origins import Place, locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.providers.base import HttpCall, Origins


class Target(NamedTuple):
    """Who is asked.

    Attributes
    ----------
    place
        Where the call goes.
    model
        Model, or the deployment that the path names, or the model that the configuration gives for either.
    headers
        Semantic headers.
    """

    place: Place
    model: str
    headers: Headers

    def __repr__(self) -> str:
        return f"<Target {self.model}>"

    def request(self, surface: str, body: JsonObject, form: Form | None, media: Iterable[str] = ()) -> Request:
        """Return what the key of a call to this target is made of.

        Parameters
        ----------
        form
            The form asked for; None where a codec gives one entry to callers of either.
        """
        place = self.place
        return Request(
            surface=surface,
            origin=place.origin,
            model=self.model,
            body=body,
            machine=place.machine,
            api_version=place.api_version,
            media=tuple(media),
            headers=self.headers,
            form="" if form is None else form.value,
            via=place.via,
        )


def find_target(call: HttpCall, body: JsonObject, origins: Origins, suffix: str) -> Target:
    """Return who is asked by `call`, and take the model out of `body`.

    Azure's classic paths name a deployment, ``/openai/deployments/{deployment}/chat/completions``, and
    ignore a model in the body; so does the key.

    Parameters
    ----------
    suffix
        End of the path that names the wire API, such as ``/chat/completions``.
    """
    base = call.path.rstrip("/").removesuffix(suffix)
    model = body.get("model")
    if "/deployments/" in base:
        head, _, tail = base.rpartition("/deployments/")
        deployment, slash, rest = tail.partition("/")
        base = f"{head}/deployments{slash}{rest}"  # or a model named in the body could pose as a deployment
        if head.endswith("/openai") or model == deployment:
            body.pop("model", None)
        model = deployment
    elif type(model) is str:
        del body["model"]
    place = locate(call, base, origins)
    name = model if type(model) is str else ""
    headers = semantic_headers(call, origins.extra_headers)
    return Target(place, place.models.get(name, name), headers)
