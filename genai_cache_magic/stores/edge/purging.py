"""Ways to let an edge forget what it has before its time is over. Nothing depends on it: it saves look-ups in vain."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.edge.fetching import Fetcher, Site
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_MOST_WAITING: Final = 1_000
_BATCH: Final = 50
_WELL: Final = frozenset({200, 202, 204, 404})
_AZURE: Final = "https://management.azure.com"
_SCOPE: Final = "https://management.azure.com/.default"
_VERSION: Final = "2024-02-01"
_TIMEOUT_S: Final = 10.0
_OLD_HOST: Final = ".azureedge.net"


class Purges(Protocol):
    """A way to let an edge forget."""

    def __call__(self, names: Sequence[str]) -> int:
        """Let it forget some names (``.../*``: all that begin so), and return the status of its answer.

        Raises ``OSError`` and the like if it can't be reached.
        """


class Purger:
    """Lets an edge forget, beside all else: nobody waits for it. Safe to share between threads and by forked children.

    Parameters
    ----------
    name
        The edge, as shown in messages.
    purges
        How.
    tell
        Hears, once, in words, that it does not work; then it is not tried any more.
    """

    def __init__(self, name: str, purges: Purges, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self._name = name
        self._purges = purges
        self._tell = tell
        self._workers = Workers(1, "genai-cache-purge")
        self._lock = host.process_lock()
        self._waiting: dict[str, None] = {}  # guarded by _lock, like the next two
        self._pid = host.process_id()
        self._is_given_up = False

    def __call__(self, names: Collection[str]) -> None:
        """Let the edge forget `names` soon; what is too much at once is left to time."""
        with self._lock:
            if self._is_given_up or not names:
                return
            if self._pid != host.process_id():
                self._waiting, self._pid = {}, host.process_id()  # for those a thread of the parent is at work
            is_begun = bool(self._waiting)
            room = _MOST_WAITING - len(self._waiting)
            self._waiting |= dict.fromkeys([*names][:room])
        if not is_begun:
            self._workers.submit(lambda _: self._work(), None)

    def close(self) -> None:
        """Begin nothing more; may be called twice."""
        self._workers.close()

    def _work(self) -> None:
        while True:
            with self._lock:
                batch = [*self._waiting][:_BATCH]
            if not batch:
                return
            trouble = self._trouble(batch)
            with self._lock:
                for name in batch:
                    del self._waiting[name]
                if trouble:
                    self._is_given_up = True
                    self._waiting.clear()
            if trouble:
                self._tell(
                    f"what is invalid stays at {self._name} until its time is over, and is refused there: it can't be "
                    f"purged, {trouble}; allow that, or set cdn.purge to off"
                )

    def _trouble(self, batch: Sequence[str]) -> str:
        """Purge `batch`; return why that can't be done, in words."""
        try:
            status = self._purges(batch)
        except StoreUnavailable as error:
            return str(error)
        except Exception:  # noqa: BLE001 - whoever signs in is a library of others, and behind it others wait
            return "since whoever does that can't be reached"
        return "" if status in _WELL else f"since that is refused (status {status})"


def by_http(site: Site) -> Purges:
    """Return a way to purge by the method ``PURGE`` on the address of what is to be forgotten, as caches have it."""
    fetcher = Fetcher(site)

    def purge(names: Sequence[str]) -> int:
        statuses = [_said(fetcher, "PURGE", f"{fetcher.path}/{name}") for name in names if not name.endswith("*")]
        return next((status for status in statuses if status not in _WELL), 200)

    return purge


@dataclass(frozen=True, slots=True)
class AzureProfile:
    """Where Azure is told to purge.

    Parameters
    ----------
    subscription, resource_group, profile, endpoint
        The names of the resources.
    site
        The edge: its host, and the path that names begin with there.
    identity
        Returns a ``TokenCredential`` of who may purge.
    management_url
        Where Azure's resources are managed.
    """

    subscription: str = field(repr=False)
    resource_group: str = field(repr=False)
    profile: str = field(repr=False)
    endpoint: str = field(repr=False)
    site: Site = field(repr=False)
    identity: Callable[[], Any] = field(repr=False)
    management_url: str = field(default=_AZURE, repr=False)

    @property
    def address(self) -> str:
        """The path of the operation (learn.microsoft.com/rest/api/frontdoor/afd-endpoints/purge-content)."""
        kind = "endpoints" if self._is_old else "afdEndpoints"
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}/providers/Microsoft.Cdn"
            f"/profiles/{self.profile}/{kind}/{self.endpoint}/purge?api-version={_VERSION}"
        )

    def body(self, names: Sequence[str]) -> bytes:
        """Return what is sent."""
        path = urlsplit(self.site.url).path.rstrip("/")
        asked: dict[str, list[str]] = {"contentPaths": [f"{path}/{name}" for name in names]}
        if not self._is_old:
            asked["domains"] = [self._host]
        return json.dumps(asked).encode()

    @property
    def _host(self) -> str:
        return urlsplit(self.site.url).hostname or ""

    @property
    def _is_old(self) -> bool:
        return self._host.endswith(_OLD_HOST)


def by_azure(profile: AzureProfile) -> Purges:
    """Return a way to purge by Azure's management, which needs the right ``Microsoft.Cdn/profiles/*/purge/action``."""
    fetcher = Fetcher(Site(profile.management_url, "cdn.purge", _TIMEOUT_S, _TIMEOUT_S))
    credentials: list[Any] = []

    def purge(names: Sequence[str]) -> int:
        from azure.core.exceptions import AzureError

        if not credentials:
            credentials.append(profile.identity())
        try:
            token = credentials[0].get_token(_SCOPE).token
        except AzureError as exc:
            raise StoreUnavailable("since no Azure identity is at hand: sign in (az login)") from exc
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return _said(fetcher, "POST", profile.address, profile.body(names), headers)

    return purge


def _said(fetcher: Fetcher, method: str, path: str, body: bytes | None = None, headers: Any = None) -> int:
    """Return the status of the answer to one request, which is not read."""
    connection = fetcher.new()
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    finally:
        with suppress(OSError):
            connection.close()
