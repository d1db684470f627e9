"""A tier that has to be at a private address is not asked elsewhere; machines are compared with who may come."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.api.team.edge import edge_of
from genai_cache_magic.api.team.line import container_at
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.ops import network
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.private import PrivateOnly, is_private
from genai_cache_magic.testing.servers import AZURITE_KEY

PRIVATE = {"network": {"private_endpoint": True}}


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.0.4", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.1.1"),
        *("::1", "fd00::1", "fe80::1%eth0", "::ffff:10.0.0.4"),
    ],
)
def test_addresses_of_ones_own(address):
    """Of IPv4 and IPv6, and IPv4 written as IPv6."""
    assert is_private(address)


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "172.32.0.1", "100.128.0.1", "0.0.0.0", "192.0.2.1", "255.255.255.255", "224.0.0.1"),
        *("2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::", "::", "host", ""),
    ],
)
def test_addresses_of_others(address):
    """Public ones, however they are written; and what is no host's."""
    assert not is_private(address)


def resolved(monkeypatch, known):
    """Let names stand for addresses; others are not known. Loopback stays as it is."""
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *more, **how):
        if host in known:
            return [entry for address in known[host] for entry in real(address, port, *more, **how)]
        if host in {"localhost", "127.0.0.1", "::1"}:
            return real(host, port, *more, **how)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def said_by(settings, isolated):
    told = []
    with create_cache("disk", dir=str(isolated / "cache"), on_event=told.append, **settings) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
    return [event.message for event in told]


TIERS = {
    "redis": {"l2": "redis://cache.example.com"},
    "tls": {"l2": "rediss://cache.example.com"},
    "cluster": {"l2": "rediss+cluster://cache.example.com"},
    "sentinel": {"l2": "redis+sentinel://cache.example.com/one"},
    "blob": {"l2": "https://cache.example.com/team", "l2_account_key": AZURITE_KEY},
    "signature": {"l2": "https://cache.example.com/team?sv=1&sig=x"},
    "by name": {
        "l2": "azure-blob://team",
        "l2_connection_string": f"AccountName=a;AccountKey={AZURITE_KEY};BlobEndpoint=https://cache.example.com/a;",
    },
    "account": {"l2": "azure-blob://team", "l2_account": "a", "l2_account_key": AZURITE_KEY},
    "both": {"l2": "redis://cache.example.com,https://cache.example.com/team", "l2_account_key": AZURITE_KEY},
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("addresses", [("8.8.8.8",), ("10.0.0.4", "8.8.8.8"), ("::ffff:8.8.8.8",)], ids=str)
def test_a_public_address_is_not_asked(isolated, monkeypatch, tier, addresses):
    """Not one of several neither: values are kept and found here, and it is said why. Nothing connects."""
    resolved(monkeypatch, {"cache.example.com": addresses, "a.blob.core.windows.net": addresses})
    (message,) = said_by({**TIERS[tier], **PRIVATE}, isolated)
    assert message.startswith("L2 is not used, answers stay on this machine: ")
    assert "is at a public address from here, and network.private_endpoint wants a private one" in message
    assert AZURITE_KEY not in message


def test_a_name_that_nobody_knows_is_told(isolated, monkeypatch):
    """With the zone in which private endpoints have their names."""
    resolved(monkeypatch, {})
    (message,) = said_by({**TIERS["blob"], **PRIVATE}, isolated)
    assert (
        "the host name is not known: check its spelling in l2, and whether this network has the private DNS" in message
    )


@pytest.mark.service
def test_a_private_address_is_used(isolated, redis_server, azurite, team):
    """As if nothing were said of it: here loopback's."""
    assert said_by({"l2": redis_server.url, "namespace": team, **PRIVATE}, isolated) == []
    blob = {"l2": f"{azurite.account_url}/private", "l2_account_key": AZURITE_KEY, "l2_create_container": True}
    assert said_by({**blob, "namespace": team, **PRIVATE}, isolated) == []


@pytest.mark.service
def test_nodes_that_a_cluster_names_are_looked_at_too(isolated, redis_nodes, team, monkeypatch):
    """One of them elsewhere is enough."""
    settings = {"l2": redis_nodes.url, "namespace": team, **PRIVATE}
    assert said_by(settings, isolated) == []
    ensure = PrivateOnly.ensure

    def elsewhere(self, host, seen=[]):  # noqa: B006 - which hosts were asked for before
        seen.append(host)
        return ensure(self, "8.8.8.8" if len(seen) > 1 else host)

    monkeypatch.setattr(PrivateOnly, "ensure", elsewhere)
    (message,) = said_by(settings, isolated / "another")
    assert "is at a public address" in message


def test_what_a_name_stands_for_is_looked_up_again():
    """A network that is left, and another that is joined, are noticed after a while."""
    now, answers = [0.0], ["10.0.0.4"]
    private = PrivateOnly("tier", resolve=lambda _: tuple(answers), clock=lambda: now[0])
    private.ensure("host")
    answers[:] = ["8.8.8.8"]
    private.ensure("host")  # seen a moment ago
    now[0] = 60.0
    with pytest.raises(StoreUnavailable):
        private.ensure("host")
    answers[:] = ["10.0.0.4"]
    private.ensure("host")
    answers[:] = []
    now[0] = 120.0
    with pytest.raises(StoreUnavailable):
        private.ensure("host")


def test_the_host_in_a_connection_string_is_read_once():
    """It takes a client to tell it, which is not made for each use."""
    read = []

    class Target:
        address = "azure-blob://x"

        @property
        def host(self):
            read.append(True)
            return "127.0.0.1"

    connection = BlobConnection(Target(), PrivateOnly("tier", resolve=lambda _: ("127.0.0.1",)))
    connection._ensure_private()
    connection._ensure_private()
    assert len(read) == 1


def test_a_name_with_what_no_name_has_is_not_known(isolated):
    """It is told, as any other that nobody knows."""
    (message,) = said_by({"l2": f"redis://{'x' * 70}.example.com", **PRIVATE}, isolated)
    assert "the host name is not known" in message


@pytest.mark.parametrize("tier", TIERS)
def test_the_host_of_each_kind_of_address_is_looked_up(isolated, monkeypatch, tier):
    """Whatever names it: an address, an account, a connection string."""
    resolved(monkeypatch, {"cache.example.com": ("10.0.0.4",), "a.blob.core.windows.net": ("10.0.0.4",)})
    monkeypatch.setattr(network, "_own_address", lambda _: "10.0.0.9")
    places = network.look(load_settings(**TIERS[tier], **PRIVATE))
    assert [(place.addresses, place.is_wrong) for place in places] == [(("10.0.0.4",), False)] * len(places)
    assert len(places) == (2 if tier == "both" else 1)


EDGED = {
    "l2": "https://cache.example.com/team",
    "l2_account_key": AZURITE_KEY,
    "cdn": {"endpoint": "https://edge.example.com", "purge": "http"},
}


@pytest.mark.parametrize(("address", "is_public"), [("8.8.8.8", True), ("127.0.0.1", False)])
def test_an_edge_has_to_be_at_a_private_address_too(isolated, monkeypatch, address, is_public):
    """Neither asked nor told to forget anything at a public one, and it is said why; a private one is tried."""
    resolved(monkeypatch, {"cache.example.com": ("10.0.0.4",), "edge.example.com": (address,)})
    settings = load_settings(**EDGED, **PRIVATE)
    tried = []

    def connect(connection):
        tried.append(connection.host)
        raise ConnectionRefusedError

    monkeypatch.setattr("http.client.HTTPSConnection.connect", connect)
    told = []
    forgotten = threading.Event()
    connection = container_at(settings, EDGED["l2"])
    edge, _ = edge_of(settings, connection, lambda: None, lambda said: (told.append(said), forgotten.set()))
    with contextlib.closing(edge), contextlib.closing(connection):
        with pytest.raises(StoreUnavailable) as caught:
            edge.fetch("name")
        edge.purge(["name"])
        assert forgotten.wait(30)
    assert bool(tried) is not is_public
    for said in (str(caught.value), told[0]):
        assert ("is at a public address from here, and network.private_endpoint" in said) is is_public
    monkeypatch.setattr(network, "_own_address", lambda _: "10.0.0.9")
    assert [(place.host, place.is_wrong) for place in network.look(settings)] == [
        ("cache.example.com", False),
        ("edge.example.com", is_public),
    ]


def test_an_edge_whose_name_nobody_knows_names_its_setting(isolated, monkeypatch):
    """It is cdn.endpoint, and not l2."""
    resolved(monkeypatch, {})
    settings = load_settings(**EDGED, **PRIVATE)
    connection = container_at(settings, EDGED["l2"])
    edge, _ = edge_of(settings, connection, lambda: None, print)
    with (
        contextlib.closing(edge),
        contextlib.closing(connection),
        pytest.raises(StoreUnavailable, match=r"check its spelling in cdn\.endpoint"),
    ):
        edge.fetch("name")


def test_without_it_nothing_is_looked_up():
    """A tier may be anywhere."""
    assert BlobTarget("https://a.blob.core.windows.net/team", account_key=AZURITE_KEY).host == "a.blob.core.windows.net"
    assert not load_settings().network.private_endpoint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("10.0.0.1/24", "write 10.0.0.0/24 for all of them, or 10.0.0.1 for this one alone"),
        ("fd00::1/64", "write fd00::/64 for all of them, or fd00::1"),
        ("10.0.0.0/33", "a number from 1 to 32"),
        ("fd00::/129", "a number from 1 to 128"),
        ("10.0.0.0/", "write 10.0.0.0/24"),
        ("10.0.0", "write 10.0.0.0/24"),
        ("10.0.0.1-10.0.0.9", "write 10.0.0.0/24"),
        ("cache.example.com", "write 10.0.0.0/24"),
        ("0.0.0.0/0", "lets everybody in"),
        ("::/0", "lets everybody in"),
        ("::ffff:10.0.0.0/120", "without ::ffff:"),
        ([10], "write texts such as 10.0.0.0/24"),
        ({"a": 1}, "write a list"),
        ([None], "write texts such as 10.0.0.0/24"),
    ],
)
def test_a_range_that_is_none_is_refused(given, said):
    """With what to write, and the name of the setting."""
    with pytest.raises(ConfigurationError, match=r"network\.allowed_ips") as caught:
        load_settings(network={"allowed_ips": given})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("10.0.0.0/24, fd00::/8", ["10.0.0.0/24", "fd00::/8"]),
        ('["10.0.0.7"]', ["10.0.0.7/32"]),
        ("10.0.0.0/255.255.255.0,10.0.0.0/24", ["10.0.0.0/24"]),
    ],
)
def test_ranges_are_read_as_they_are_written(monkeypatch, text, ranges):
    """In the environment with commas or as JSON; twice the same is one."""
    monkeypatch.setenv("GENAI_CACHE_NETWORK__ALLOWED_IPS", text)
    assert list(map(str, load_settings().network.allowed_ips)) == ranges


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["access", "network", *arguments])
    return ended.value.code, capsys.readouterr().out


STORAGE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
)


@pytest.mark.parametrize(
    ("allowed", "code", "said"),
    [
        ("127.0.0.0/8", 0, "this machine is 127.0.0.1 on the way there, in 127.0.0.0/8"),
        ("10.0.0.0/24", 1, "in none of network.allowed_ips: ask for it to be added"),
        ("203.0.113.0/24", 0, "beyond its router can't be told from here"),
        ("fd00::/8", 1, "in none of network.allowed_ips"),
    ],
)
def test_this_machine_is_compared_with_who_may_come(isolated, capsys, monkeypatch, allowed, code, said):  # noqa: PLR0917
    """By its address on the way to the tier; what a router makes of it is not known, and not held against it."""
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://127.0.0.1:6379")
    monkeypatch.setenv("GENAI_CACHE_NETWORK__ALLOWED_IPS", allowed)
    ended, shown = run(capsys, "--scope", STORAGE)
    assert (ended, said in shown) == (code, True)
    ended, told = run(capsys, "--json")
    found = json.loads(told)
    assert (ended, found["places"][0]["is_wrong"]) == (code, code == 1)
    assert found["places"][0]["own_address"] == "127.0.0.1"
    assert bool(found["lines"])


def test_where_the_tier_is_from_here_is_shown(isolated, capsys, monkeypatch):
    """With its addresses, which a cell does not show."""
    resolved(monkeypatch, {"cache.example.com": ("8.8.8.8",)})
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://cache.example.com")
    monkeypatch.setenv("GENAI_CACHE_NETWORK__PRIVATE_ENDPOINT", "true")
    with monkeypatch.context() as patch:
        patch.setattr(network, "_own_address", lambda _: "10.0.0.9")
        code, shown = run(capsys)
    assert (code, "8.8.8.8" in shown, "it is not used" in shown) == (1, True, True)
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://nobody.example.com")
    code, shown = run(capsys)
    assert (code, "nobody.example.com is not known here" in shown) == (1, True)
