"""Whatever an edge sends, nothing is followed, unpacked, awaited for long or believed, and the tier itself answers."""

from __future__ import annotations

import itertools
import os
import threading

import pytest
from faults.scripted_server import ScriptedServer, chunked, head
from machines import Origin, Team
from team_in_memory import time_that_passes  # noqa: F401 - fixtures

from genai_cache_magic.api import factory
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.link import Looked
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import Tier, Trouble
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.base import LARGEST_VALUE, Copy, LookUp
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig, Circuit
from genai_cache_magic.stores.edge import cdn
from genai_cache_magic.stores.edge.cdn import Edge
from genai_cache_magic.stores.edge.fetching import Site
from genai_cache_magic.testing.tier import MemoryTier

OURS = "Content-Type: application/octet-stream"
WAIT_S = 30


def answer(*fields, body=b"value"):
    return head(OURS, f"Content-Length: {len(body)}", *fields) + body


def status(line, *fields, body=b""):
    return answer(*fields, body=body).replace(b"200 OK", line.encode(), 1)


def fetched(script, **timeouts):
    """Return what an edge that answers by `script` hands out under one name."""
    with ScriptedServer(script) as server:
        edge = Edge(Site(server.url, "cdn.endpoint", **timeouts))
        try:
            return edge.fetch("name")
        finally:
            edge.close()


@pytest.fixture
def patient(monkeypatch):
    """Wait as long as this machine needs."""
    monkeypatch.setattr(cdn, "PATIENCE_S", WAIT_S)


@pytest.mark.parametrize(
    "sent",
    [
        [answer()],
        [answer("Content-Encoding: identity", "X-Cache: HIT", "Age: 100")],
        [head(OURS, "Transfer-Encoding: chunked"), chunked(b"val"), chunked(b"ue"), b"0\r\n\r\n"],
        [bytes([byte]) for byte in answer()],
    ],
    ids=["whole", "from a cache", "in pieces", "by bytes"],
)
def test_what_a_container_would_send(patient, sent):
    """What an honest edge hands out is taken as it is."""
    assert fetched(lambda: sent, command_timeout_s=WAIT_S) == b"value"


@pytest.mark.parametrize("line", ["404 Not Found", "410 Gone"])
def test_what_is_not_there(patient, line):
    """Nothing is there: that is no trouble."""
    assert fetched(lambda: [status(line, body=b"<html>not here</html>")], command_timeout_s=WAIT_S) is None


LIES = {
    "redirect": ([status("302 Found", "Location: http://127.0.0.1:1/elsewhere")], "not followed"),
    "moved": ([status("308 Permanent Redirect", "Location: /elsewhere")], "not followed"),
    "denied": ([status("403 Forbidden")], "sign in at the container"),
    "busy": ([status("503 Service Unavailable", "Retry-After: 7")], "is busy"),
    "failed": ([status("500 Internal Server Error")], r"fails itself \(status 500\)"),
    "nothing behind it": ([status("502 Bad Gateway")], r"does not reach the container.*\(status 502\)"),
    "part": ([status("206 Partial Content")], "status 206"),
    "page": ([answer().replace(b"application/octet-stream", b"text/html; charset=utf-8")], "sends pages"),
    "json": ([answer().replace(b"application/octet-stream", b"application/json")], "sends pages"),
    "no type": ([answer().replace(OURS.encode() + b"\r\n", b"")], "sends pages"),
    "packed": ([answer("Content-Encoding: gzip")], "compresses"),
    "packed twice": ([answer("Content-Encoding: identity, br")], "compresses"),
    "cut off": ([head(OURS, "Content-Length: 10"), b"value"], "cut off"),
    "cut off in pieces": ([head(OURS, "Transfer-Encoding: chunked"), b"9\r\nval"], "web server"),
    "no length": ([head(OURS), b"value"], "how long"),
    "wrong length": ([head(OURS, "Content-Length: -5"), b"value"], "how long"),
    "too long": ([head(OURS, f"Content-Length: {LARGEST_VALUE + 1}")], "more than any answer"),
    "rubbish": ([b"\x16\x03\x01 this is no HTTP\r\n\r\n"], "web server"),
    "nothing": ([], "reached"),
    "long line": ([b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n\r\n"], "web server"),
    "many fields": ([head(*(f"x-{number}: y" for number in range(200)))], "web server"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_an_edge_must_not_send(patient, lie):
    """Each lie is refused in words that say what to do, and that hold nothing of what was sent."""
    sent, says = LIES[lie]
    with pytest.raises(StoreUnavailable, match=says) as raised:
        fetched(lambda: sent, command_timeout_s=WAIT_S)
    assert "elsewhere (" in str(raised.value) or "elsewhere" not in str(raised.value)
    assert "value" not in str(raised.value)


def test_an_endless_body_is_read_no_further_than_an_answer_is_long(patient, monkeypatch):
    """A body in pieces without an end is given up where no answer of ours is longer."""
    monkeypatch.setattr("genai_cache_magic.stores.edge.fetching.LARGEST_VALUE", 1 << 20)
    sent = itertools.chain([head(OURS, "Transfer-Encoding: chunked")], itertools.repeat(chunked(bytes(1 << 16))))
    with pytest.raises(StoreUnavailable, match="more than any answer"):
        fetched(lambda: sent, command_timeout_s=WAIT_S)


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 ", head(OURS, "Content-Length: 1000000")], ids=["at once", "in the head", "in the body"]
)
def test_an_answer_that_trickles_is_not_awaited(monkeypatch, begin):
    """A byte now and then, within every time-out, is given up as a whole, and so is its thread."""
    monkeypatch.setattr(cdn, "PATIENCE_S", 0.3)
    stopping = threading.Event()

    def script():
        yield begin
        while not stopping.wait(0.02):
            yield b"x"

    with ScriptedServer(script) as server:
        edge = Edge(Site(server.url, "cdn.endpoint", command_timeout_s=WAIT_S))
        with pytest.raises(StoreUnavailable, match="in time"):
            edge.fetch("name")
        assert server.left.wait(WAIT_S)  # the connection was ended, so nobody reads on
        stopping.set()
        edge.close()


def test_a_connection_that_was_ended_meanwhile_is_no_trouble(patient):
    """An edge that ends a connection it had kept open is asked once more."""
    with ScriptedServer(lambda: [answer()]) as server:
        edge = Edge(Site(server.url, "cdn.endpoint", command_timeout_s=WAIT_S))
        assert [edge.fetch("name") for _ in range(3)] == [b"value"] * 3
        edge.close()


def test_while_it_may_be_well_again_nobody_waits(patient):
    """An edge that failed is asked beside, by one, and counts again once that came to a good end."""
    gate, is_well = threading.Event(), threading.Event()

    def script():
        if not is_well.is_set():
            yield status("500 Internal Server Error")
            return
        gate.wait(WAIT_S)
        yield answer()

    closed = threading.Event()

    def changed(state, _):
        if state is Circuit.CLOSED:
            closed.set()

    config = BreakerConfig(failures=1, first_pause_s=0.0)
    with ScriptedServer(script) as server:
        breaker = Breaker(server.url, config, on_change=changed)
        edge = Edge(Site(server.url, "cdn.endpoint", command_timeout_s=WAIT_S), breaker)
        assert edge.begin(["name"]).copies() == {}
        is_well.set()
        assert edge.begin(["name"]).copies() == {}  # at once: the one that asks is still waiting
        assert not closed.is_set()
        gate.set()
        assert closed.wait(WAIT_S)
        assert edge.begin(["name"]).copies() == {"name": b"value"}
        edge.close()


# What the copies are worth


class EdgedTier(MemoryTier):
    """A tier in memory behind an edge whose copies are what a test says."""

    def __init__(self, server, copies):
        super().__init__(server)
        self.copies = copies
        self.refused = []
        self.forgotten = []
        self.asked = []
        self.unread = ()

    def look_near(self, document, keys):
        found = super().look_up(document, ())
        return LookUp(
            found.token,
            found.now_s,
            {},
            copies={key: Copy(self.copies[key], f"at/{key}") for key in keys if key in self.copies},
            unread=[key for key in keys if key in self.unread],
            unasked=[key for key in keys if key not in self.unread],
        )

    def look_up(self, document, keys):
        self.asked += keys
        return super().look_up(document, keys)

    def refuse(self, copies, *, are_forged):
        self.refused += [(copy.name, are_forged) for copy in copies]

    def forget(self, keys):
        self.forgotten.append(keys)

    def try_edge(self):
        return ""


@pytest.fixture
def copies():
    """What the edge has, by key."""
    return {}


@pytest.fixture
def team(tmp_path, isolated, monkeypatch, copies):
    team = Team(tmp_path, monkeypatch)
    monkeypatch.setattr("machines.MemoryTier", lambda server: EdgedTier(server, copies))
    yield team
    team.close()


def kept_by_the_edge(team, copies):
    """Let the edge have what the tier has now."""
    copies.update({key: team.server.store.get(key) for key in team.server.store.scan()})


def test_a_copy_is_as_good_as_the_tier(team, copies):
    """What is valid is served from the edge, and the tier is not asked for it."""
    a, b = team.machine("a"), team.machine("b")
    origin = Origin()
    a.ask(origin)
    a.told()
    kept_by_the_edge(team, copies)
    text, record = b.ask(origin)
    assert (text, record.tier, origin.answers) == ("answer 1", Tier.L2, 1)
    assert b.tier.asked == []


@pytest.mark.parametrize("how", ["refresh", "entry", "tag", "clear"])
def test_a_copy_of_before_is_refused_and_the_tier_asked(team, copies, how):
    """An old copy is a miss of the edge, and no miss of the team."""
    a, b = team.machine("a"), team.machine("b")
    origin = Origin()
    record = a.ask(origin, tags=["t"])[1]
    a.told()
    kept_by_the_edge(team, copies)
    if how == "entry":
        a.cache.invalidate_entry(record.entry_id[:16])
    elif how == "tag":
        a.cache.invalidate_tag("t")
    elif how == "clear":
        a.cache.clear()
    assert a.ask(origin, tags=["t"], mode="refresh" if how == "refresh" else "use")[0] == "answer 2"
    a.told()
    text, hit = b.ask(origin, tags=["t"])
    assert (text, hit.tier) == ("answer 2", Tier.L2)
    assert b.tier.refused == [(f"at/{record.entry_id}", False)]
    assert origin.answers == 2


def test_what_was_too_much_to_be_read_is_no_miss(team):
    """It is there, and said to be, though the tier is asked for others that the edge did not have."""
    team.machine("a").ask(Origin())
    b = team.machine("b")
    large, small = EntryId("a" * 64), EntryId("b" * 64)
    b.tier.unread = (large,)
    found = b.cache.team.looked_up([large, small])
    assert "ask for less at once" in found[large].trouble
    assert found[small] == Looked()
    assert b.tier.asked == [small]


def test_a_copy_that_outlived_the_record_of_its_invalidation_is_not_served(team, copies, passes):
    """Records of single answers are dropped after a day; what the edge still has then is not valid again."""
    a = team.machine("a")
    origin = Origin()
    record = a.ask(origin)[1]
    a.ask(origin, "another, which keeps the floor where it is")
    a.told()
    kept_by_the_edge(team, copies)
    a.cache.invalidate_entry(record.entry_id[:16])
    a.told()
    passes(86_400 + 60)
    a.goes_stale()
    a.ask(origin, "hears what time it is")
    assert a.cache.collect().records == 1
    assert record.entry_id not in a.cache._entries.generations.published().entries
    b = team.machine("b")
    assert b.ask(origin)[0] == "answer 4"
    assert b.ask(origin, "another, which keeps the floor where it is")[0] == "answer 2"


def test_a_copy_older_than_its_time_to_live_is_not_served(team, copies, passes):
    """An edge that hands out what has expired is asked in vain."""
    a = team.machine("a")
    a.cache.set("name", "value", ttl=60)
    a.told()
    kept_by_the_edge(team, copies)
    passes(120)
    assert team.machine("b").cache.get("name") is None


@pytest.mark.parametrize("kind", ["another's", "bytes", "empty", "torn", "flipped", "of another team"])
def test_a_forged_copy_is_refused_by_its_seal(team, copies, tmp_path, monkeypatch, kind):
    """What was not sealed for this very answer is said to the edge to be forged, and the tier answers."""
    a, b = team.machine("a"), team.machine("b")
    a.cache.mset({"name": "value", "other": "another"})
    a.told()
    kept_by_the_edge(team, copies)
    name, other = a.cache._value_id("name"), a.cache._value_id("other")
    ours = copies[name]
    copies[name] = {
        "another's": copies[other],
        "bytes": os.urandom(1000),
        "empty": b"",
        "torn": ours[:-1],
        "flipped": ours[:-1] + bytes([ours[-1] ^ 1]),
        "of another team": ours.replace(ours[8:12], b"\xff\xff\xff\xff", 1),
    }[kind]
    assert b.cache.get("name") == "value"
    assert b.tier.refused == [(f"at/{name}", True)]
    assert b.tier.asked == [name]


def test_what_is_invalidated_is_forgotten_by_the_edge(team):
    """The edge is told which answers were invalidated, and of a clearing that all were."""
    a = team.machine("a")
    a.cache.set("name", "value")
    a.told()
    a.cache.set("name", "other")
    name = a.cache._value_id("name")
    a.cache.clear()
    assert a.tier.forgotten == [frozenset({name}), None]


# How it is set


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("content", "https://content.azureedge.net"),
        ("content-a1b2.z01.azurefd.net", "https://content-a1b2.z01.azurefd.net"),
        ("https://Cache.Example.com", "https://cache.example.com"),
        ("https://cache.example.com:8443/", "https://cache.example.com:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_addresses(isolated, endpoint, url):
    """A name is one of Azure CDN's, a host speaks TLS, and a URL is itself."""
    assert load_settings(cdn={"endpoint": endpoint}).cdn.endpoint == url


@pytest.mark.parametrize(
    ("cdn_", "says"),
    [
        ({"endpoint": "https://cache.example.com?sv=1&sig=secret"}, "no signature"),
        ({"endpoint": "https://user:secret@cache.example.com"}, "no signature"),
        ({"endpoint": "http://secret.example.com"}, "https://"),
        ({"endpoint": "https://cache.example.com/secret"}, "cdn.path"),
        ({"endpoint": "ftp://127.0.0.1"}, "https://"),
        ({"endpoint": "https://"}, "address of an edge"),
        ({"endpoint": "https://[secret"}, "address of an edge"),
        ({"path": "../secret"}, "write a path"),
        ({"path": "/a?sig=secret"}, "write a path"),
        ({"endpint": "secret"}, "did you mean endpoint"),
        ({"rules": [{"match": "*", "tll": "1h"}]}, "did you mean ttl"),
        ({"rules": [{"match": "*"}]}, "it too"),
        ({"rules": [{"match": "", "ttl": "1h"}]}, "is empty"),
        ({"rules": 3}, "write a list"),
        ({"rules": [{"match": "*", "ttl": "secret"}]}, "not a duration"),
        ({"rules": [{"match": "*", "ttl": 0}]}, "not a duration"),
        ({"purge": "always"}, "'off', 'http' or 'azure'"),
    ],
)
def test_wrong_settings(isolated, cdn_, says):
    """What can't be used is said with the fix, and not shown: an address may hold a credential by mistake."""
    with pytest.raises(ConfigurationError, match=says) as raised:
        load_settings(cdn=cdn_)
    assert "secret" not in str(raised.value).replace("'secret'", "" if "ttl" in str(raised.value) else "secret")


def test_an_edge_needs_a_container(isolated):
    """Before a Redis alone there is nothing that an edge could hand out."""
    events = []
    settings = load_settings(l2="redis://127.0.0.1:1", cdn={"endpoint": "content"})
    with factory.build_cache(settings, on_event=events.append):
        pass
    (trouble,) = [event for event in events if isinstance(event, Trouble)]
    assert "cdn.endpoint" in trouble.message
