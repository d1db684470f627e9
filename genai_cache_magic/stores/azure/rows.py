"""What Azure Blob Storage says of a blob: which of its values this is, and how long it may still live.

Blob Storage removes nothing by itself, so age is judged on reading: by the service's own clock alone, as the time of
its answer less the time of the last change, both of which it tells with every answer to the second.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from genai_cache_magic.stores.azure.connection import code_of
from genai_cache_magic.stores.base import LARGEST_VALUE
from genai_cache_magic.stores.keys import LAYOUT

if TYPE_CHECKING:
    from datetime import datetime

BLOB_TYPE = "application/octet-stream"
"""The content type of every blob of ours."""

_TTL = "ttl_ms"
_TTL_DIGITS = 15
_ENDLESS = "endless"


def name_prefix(namespace: str, layout: int = LAYOUT) -> str:
    """Return what all blobs of `namespace` start with."""
    return f"genai-cache/{layout}/{namespace}/"


@dataclass(frozen=True, slots=True)
class BlobRow:
    """What the service says of a blob: its revision, how long it may still live, and how old it is [s]."""

    etag: str
    remaining_s: float
    age_s: float = 0.0

    @property
    def is_expired(self) -> bool:
        """Whether nobody may be served it any more."""
        return self.remaining_s <= 0


class ServiceClock:
    """Hears what time it is at the service, from the answer that it is given to as ``raw_response_hook``."""

    def __init__(self) -> None:
        self._now: datetime | None = None

    def __call__(self, answer: Any) -> None:
        """Hear it."""
        date = answer.http_response.headers.get("Date")
        self._now = parsedate_to_datetime(date) if date else None

    @property
    def now_s(self) -> float:
        """The time that was heard [s since the epoch]; this machine's own where the service told none."""
        return self._now.timestamp() if self._now else time.time()

    def row(self, properties: Any) -> BlobRow:
        """Return what `properties`, of the answer that was heard, say."""
        ttl = (properties.metadata or {}).get(_TTL, "")
        age_s = 0.0 if self._now is None else (self._now - properties.last_modified).total_seconds()
        if properties.size > LARGEST_VALUE or len(ttl) > _TTL_DIGITS:
            return BlobRow(properties.etag, 0.0, age_s)  # no value of ours: it is not fetched, and gives way
        if ttl == _ENDLESS:
            return BlobRow(properties.etag, math.inf, age_s)
        if not ttl.isdecimal() or self._now is None:
            return BlobRow(properties.etag, 0.0, age_s)  # not written by us, or an answer without a date: not served
        return BlobRow(properties.etag, int(ttl) / 1000 - age_s, age_s)


def ttl_metadata(ttl_s: float) -> dict[str, str]:
    """Return the metadata of a blob that says how long it may live [s]."""
    return {_TTL: _ENDLESS if math.isinf(ttl_s) else str(max(1, int(ttl_s * 1000)))}


def ensure_container(error: Any) -> None:
    """Raise `error` again unless it is a blob that is missing: no container, or no such account, is trouble."""
    if code_of(error) != "BlobNotFound":
        raise error


def remove(container: Any, name: str, etag: str | None = None) -> bool:
    """Remove the blob `name` (`etag`: if it is still that one) and return whether it did; raises the SDK's errors.

    One by one: for the many of one request the SDK makes ids that are not ours to give; see `host.request_id`.
    """
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError

    same = {} if etag is None else {"etag": etag, "match_condition": MatchConditions.IfNotModified}
    try:
        container.delete_blob(name, **same)
    except ResourceModifiedError:
        return False
    except ResourceNotFoundError as error:
        ensure_container(error)
        return False
    return True
