"""What a body refers to without holding it: media by their address, files by an id. `spec/key.md` §2.4 is normative.

What stands behind an address may change while the address stays, so an answer about it is stored only if that is asked
for. The address itself may change while the thing stays: what signs it is taken out. An id of what was uploaded under
our eyes counts as the digest of that, since the next run's upload has another id.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.providers.reading import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import JsonObject, JsonValue

REASON: Final = "urls"
"""Why an answer about media by their address is not stored, and the kind that asks to store it."""

_ROOTS: Final = (
    *("messages", "input", "inputs", "contents", "system", "systemInstruction", "system_instruction", "prompt"),
    *("image", "images", "mask", "document"),
)
"""Top-level fields that hold what a model is shown."""

_ADDRESSES: Final = frozenset(
    {
        "url",
        "image_url",
        "video_url",
        "audio_url",
        "file_url",
        "document_url",
        "fileUri",
        "file_uri",
        "file_data",  # OpenRouter
        "image",
        "input_audio",  # Mistral
        "mask",
        "uri",
        "video",  # Qwen
    }
)
_LISTS: Final = _ADDRESSES | {"images", "image_urls"}
"""Fields whose texts, several in a list, are addresses as well."""

_SOUND: Final = ("/input_audio", "data")
"""End of the path, and field, of a sound that is shown by its address where its bytes are expected."""

_IDS: Final = frozenset({"file_id", "fileUri", "file_uri"})
_CACHES: Final = ("cachedContent", "cached_content")

# What a model said or was told, in whatever words: an address in it is a text.
_QUOTED: Final = frozenset(
    {
        "annotations",
        "arguments",
        "args",
        "citations",
        "data",
        "function_call",
        "functionCall",
        "json",
        "response",
        "toolUse",
    }
)
_QUOTED_KINDS: Final = frozenset({"tool_use", "server_tool_use", "web_search_result", "url_citation", "search_result"})

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GOOGLES_FILE: Final = re.compile(r"https://[a-z0-9.-]*googleapis\.com/[^?#]*/?files/[^/?#]+\Z")


class References(NamedTuple):
    """What was found.

    Attributes
    ----------
    is_linked
        Whether something is shown by its address.
    digests
        JSON pointers of the ids that a digest has taken the place of.
    """

    is_linked: bool = False
    digests: tuple[str, ...] = ()


NONE: Final = References()


def resolve(body: JsonObject, raw: bytes, digest_of: Callable[[str], str | None]) -> References:
    """Take signatures out of the addresses in `body`, and put digests in the place of known ids; both in place.

    Parameters
    ----------
    body
        Parsed from `raw`.
    digest_of
        Returns the digest of what was uploaded under an id, None if that is not known.
    """
    if b"//" not in raw and b"\\/" not in raw and b"file" not in raw and b"ached" not in raw:
        return NONE  # nearly always
    walk = _Walk(digest_of)
    for name in _ROOTS:
        if type(value := body.get(name)) in {dict, list}:
            walk.into(value, f"/{name}", name)
    for name in _CACHES:
        walk.identify(body, name, "")
    for name in _ADDRESSES & body.keys():
        if type(body[name]) is str:
            walk.look_at(body, name, "")
    return References(walk.is_linked, tuple(walk.digests))


class _Walk:
    """One way through a body."""

    def __init__(self, digest_of: Callable[[str], str | None]) -> None:
        self.is_linked = False
        self.digests: list[str] = []
        self._digest_of = digest_of

    def into(self, value: JsonValue, path: str, field: str) -> None:
        """Look at what `value`, at JSON pointer `path` and below the field `field`, shows a model."""
        if type(value) is list:
            for index, item in enumerate(value):
                if type(item) is not str:
                    self.into(item, f"{path}/{index}", field)
                elif field in _LISTS:
                    value[index] = self._unsigned(item)
        elif type(value) is dict and as_text(value.get("type")) not in _QUOTED_KINDS:
            for name, item in value.items():
                if type(item) is str:
                    self.look_at(value, name, path)
                elif name not in _QUOTED:
                    self.into(item, f"{path}/{name}", name)

    def look_at(self, holder: JsonObject, name: str, path: str) -> None:
        """Look at the text in ``holder[name]``."""
        if name in _IDS and self.identify(holder, name, path):
            return
        text = holder[name]
        is_address = name in _ADDRESSES or (name == _SOUND[1] and path.endswith(_SOUND[0]))
        if is_address and type(text) is str:
            holder[name] = self._unsigned(text)

    def _unsigned(self, text: str) -> str:
        if not _URL.match(text) or _GOOGLES_FILE.match(text):
            return text
        self.is_linked = True
        return unsigned(text)

    def identify(self, holder: JsonObject, name: str, path: str) -> bool:
        """Put a digest in the place of the id in ``holder[name]``, if it is known, and tell whether it is."""
        text = holder.get(name)
        digest = self._digest_of(text) if type(text) is str else None
        if digest is None:
            return False
        holder[name] = digest
        self.digests.append(f"{path}/{name}")
        return True


class _Signature(NamedTuple):
    """How a store signs an address: what tells it, and the parameters, or their beginning, that it is made of."""

    told_by: frozenset[str]
    parameters: frozenset[str] = frozenset()
    prefix: str = ""


_SIGNATURES: Final = (
    _Signature(frozenset({"x-amz-signature"}), prefix="x-amz-"),  # Amazon S3, version 4, and what is compatible
    _Signature(frozenset({"x-goog-signature"}), prefix="x-goog-"),  # Google Cloud Storage, version 4
    _Signature(frozenset({"x-oss-signature"}), prefix="x-oss-"),  # Alibaba OSS, version 4
    _Signature(
        frozenset({"sig", "sv"}),  # Azure Storage, shared access signature
        frozenset(
            "sv ss srt sp st se spr sr sig sip si skoid sktid skt ske sks skv saoid suoid scid sdd ses".split()  # noqa: SIM905 - as they are documented
        ),
    ),
    _Signature(
        frozenset({"signature", "key-pair-id"}),  # Amazon CloudFront
        frozenset({"expires", "policy", "signature", "key-pair-id", "hash-algorithm"}),
    ),
    *(
        _Signature(frozenset({"signature", who}), frozenset({"signature", "expires", "x-amz-security-token", who}))
        for who in ("awsaccesskeyid", "googleaccessid", "ossaccesskeyid")  # the same, version 2
    ),
)


def unsigned(url: str) -> str:
    """Return `url` without the parameters that sign it: who may fetch it, until when. What it names stays."""
    address, hash_, fragment = url.partition("#")
    head, mark, query = address.partition("?")
    pairs = query.split("&") if mark else []
    names = {pair.partition("=")[0].lower() for pair in pairs}
    for told_by, parameters, prefix in _SIGNATURES:
        if told_by <= names:
            pairs = [pair for pair in pairs if not _is_of(pair.partition("=")[0].lower(), parameters, prefix)]
    kept = "&".join(pairs)
    return f"{head}{'?' if kept else ''}{kept}{hash_}{fragment}" if mark and kept != query else url


def _is_of(name: str, parameters: frozenset[str], prefix: str) -> bool:
    return name in parameters or (bool(prefix) and name.startswith(prefix))
