"""The life of an upload: it is sent as if we were not here, and its answer tells by which id its content goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.calls.steps import Bypass, Lead
from genai_cache_magic.core.model import EntryId, Request
from genai_cache_magic.core.policy import Why
from genai_cache_magic.providers import uploads
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants

if TYPE_CHECKING:
    from genai_cache_magic.calls.coalesce import Landing
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.steps import Step
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.providers.base import HttpCall, Origins

_MOST_BYTES: Final = 1 << 20
_NO_ENTRY: Final = EntryId("")


class _Receipts:
    """Reads nothing: an upload's answer is never stored."""

    surface: ClassVar[str] = "upload"
    vendor: ClassVar[str] = ""

    def read(self, response: Response) -> Answer:
        del response
        return Answer(End.COMPLETE)

    def render(self, response: Response, wants: Wants) -> Response | None:
        del wants
        return response


class UploadDesk:
    """What one upload is reported to. Nothing of it is recorded or stored, and nobody waits for it."""

    max_response_bytes = _MOST_BYTES

    def __init__(self, upload: uploads.Upload, origins: Origins) -> None:
        self._upload = upload
        self._origins = origins

    def lead(self, scope: CellScope) -> Lead:
        """Return the step that has the upload's answer reported here."""
        call = ModelCall(_Receipts(), Request(_Receipts.surface, "", "", {}), Wants())
        return Lead(self, call, scope, _NO_ENTRY, 0, _NO_ENTRY, Why.ABSENT, 0.0, is_done=True, is_recorded=True)

    def is_same(self, sent: HttpCall) -> bool:
        """Tell whether what is sent is what was looked at."""
        now = uploads.recognise(sent, self._origins)
        return now is not None and now.digest == self._upload.digest

    def commit(self, lead: Lead, response: Response) -> None:
        """Learn what the answer says, unless something else was sent than what was looked at."""
        if not lead.call.refused:
            for name, digest in uploads.learned(self._upload, response):
                self._origins.uploads.learn(self._upload.call, name, digest)

    def request_id(self, call: ModelCall, scope: CellScope) -> EntryId:
        """Return no id: an upload has no entry."""
        del call, scope
        return _NO_ENTRY

    def resume(self, follow: object, landing: Landing | None) -> Step:
        """Never asked: nobody waits for an upload."""
        del follow, landing
        return Bypass()

    def commit_too_large(self, lead: Lead, status: int) -> None:
        """Nothing was learned."""

    def abort(self, lead: Lead, error: BaseException | None = None, *, is_origins: bool = False) -> None:
        """Nothing was learned."""

    def drop(self, lead: Lead) -> None:
        """Nobody waits."""

    def stop(self, lead: Lead, reason: str) -> None:
        """Never called: an upload costs nothing."""
