"""Whether a host is at private addresses alone, so that what is sent to it stays in networks of one's own."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.host import seconds_awake_or_asleep

if TYPE_CHECKING:
    from collections.abc import Callable

_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        *("100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),  # RFC 6598, 1122, 3927
        *("::1/128", "fc00::/7", "fe80::/10"),  # RFC 4291, 4193
    )
)
_KNOWN_FOR_S: Final = 30.0
"""So long what a name stands for is taken for true [s]."""


def is_private(address: str) -> bool:
    """Return whether an address, as text, is of a network of one's own; one of IPv4 written as IPv6 counts as that."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # `ip_address(...).is_private` calls every IPv4 address that is mapped so private, in some releases of Python.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in network for network in _PRIVATE)


def addresses_of(host: str) -> tuple[str, ...]:
    """Return what `host` stands for, here and now; raises ``OSError`` if nobody knows it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise OSError(f"{host!r} is no name of a host") from exc
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class PrivateOnly:
    """Keeps a tier, or an edge before it, from being asked while any of its addresses is public.

    Safe to share between threads.

    Parameters
    ----------
    name
        The tier, as shown in messages.
    setting
        What names it.
    resolve
        Returns what a host stands for.
    clock
        Seconds that never run backwards, and go on while the machine sleeps: it may wake in another network.
    """

    def __init__(
        self,
        name: str,
        *,
        setting: str = "l2",
        resolve: Callable[[str], tuple[str, ...]] = addresses_of,
        clock: Callable[[], float] = seconds_awake_or_asleep,
    ) -> None:
        self._name = name
        self._setting = setting
        self._resolve = resolve
        self._clock = clock
        self._seen: dict[str, float] = {}  # host -> when it was last seen to be private [s]; each set as a whole

    def ensure(self, host: str) -> None:
        """Return if `host` is at private addresses alone, as it was seen to be a moment ago, or is now.

        Raises
        ------
        StoreUnavailable
            One of them is public, or there is none.
        """
        now = self._clock()
        seen = self._seen.get(host)
        if seen is not None and now - seen < _KNOWN_FOR_S:
            return
        self._seen.pop(host, None)
        try:
            addresses = self._resolve(host)
        except OSError as exc:
            raise StoreUnavailable(
                f"{self._name}: the host name is not known: check its spelling in {self._setting}, and whether this "
                "network has the private DNS zone of its endpoint"
            ) from exc
        # SECURITY: one public address is enough: nobody can say which of them a connection takes.
        if not addresses or not all(map(is_private, addresses)):
            raise StoreUnavailable(
                f"{self._name} is at a public address from here, and network.private_endpoint wants a private one: "
                "connect to the network of its private endpoint (VPN, private DNS zone), or set "
                "network.private_endpoint to false; `genai-cache access network` shows the addresses"
            )
        self._seen[host] = now
