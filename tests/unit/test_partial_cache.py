"""A cache that can't be made gives up what it had opened by then: files, connections, threads."""

from __future__ import annotations

import threading

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.api import factory
from genai_cache_magic.api.team import bookkeeping, custody, joining, keysets, storage
from genai_cache_magic.api.team.joining import Joining
from genai_cache_magic.api.team.line import TeamLine
from genai_cache_magic.entries.listing.catalogue import Catalogue
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.errors import StoreDenied
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig
from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.testing.tier import MemoryServer, MemoryTier

PARTS = (
    "Codec",
    "Waiting",
    "TeamClock",
    "LiveGenerations",
    "Rows",
    "make_team",
    "Trust",
    "Entries",
    "make_permits",
    "Limits",
    "SharedRows",
    "Catalogue",
    "make_ledger",
    "make_runs",
    "CallDesk",
    "origins_of",
    "Counts",
    "CacheParts",
    "Cache",
)


class UnmadeError(Exception):
    """What a part raises here."""


def unmade(*_, **__):
    raise UnmadeError


@pytest.fixture
def open_things(monkeypatch):
    """What was made of the classes that hold something, and not closed since."""
    there: dict[int, object] = {}

    def watch(kind):
        begin, close = kind.__init__, kind.close

        def begun(self, *given, **named):
            begin(self, *given, **named)
            there[id(self)] = self

        def closed(self):
            there.pop(id(self), None)
            close(self)

        monkeypatch.setattr(kind, "__init__", begun)
        monkeypatch.setattr(kind, "close", closed)

    for kind in (DiskStore, StateFile, MemoryTier):
        watch(kind)
    return there


@pytest.fixture
def tier(isolated, monkeypatch, open_things):
    """The way to a team's tier, which `build_cache` finds wherever settings point."""
    server, made = MemoryServer(), []
    server.is_away = False

    def line(*_):
        made.append(MemoryTier(server))
        made[-1].is_away = server.is_away
        return TeamLine(made[-1], Breaker("memory", BreakerConfig(first_pause_s=0.0, longest_pause_s=0.0)), 3600.0)

    monkeypatch.setattr(storage, "team_line", line)
    monkeypatch.setattr(keysets, "team_line", line)
    return server


@pytest.fixture
def settings(isolated, tmp_path):
    return load_settings(dir=str(tmp_path / "cache"), key_file=str(tmp_path / "key"))


@pytest.mark.parametrize("part", PARTS)
def test_whatever_part_can_not_be_made(settings, tier, open_things, monkeypatch, part):
    """Nothing of the others is left open."""
    monkeypatch.setattr(factory, part, unmade)
    with pytest.raises(UnmadeError):
        factory.build_cache(settings)
    assert list(open_things.values()) == []


def test_the_whole_one_is_closed_too(settings, tier, open_things):
    """Which shows that what is watched is what a cache holds."""
    with factory.build_cache(settings):
        assert {type(one) for one in open_things.values()} == {DiskStore, StateFile, MemoryTier}
    assert list(open_things.values()) == []


@pytest.mark.parametrize("part", ["KnownPages", "Sharing", "SharedBooks", "Books", "Ledger"])
def test_whatever_book_can_not_be_made(settings, tier, open_things, monkeypatch, part):
    """The files of the others are closed."""
    for power in ("pages", "bundles"):
        monkeypatch.setattr(MemoryTier, power, object(), raising=False)
    monkeypatch.setattr(bookkeeping, part, unmade)
    with pytest.raises(UnmadeError):
        factory.build_cache(settings)
    assert list(open_things.values()) == []


@pytest.mark.parametrize(
    "what", [(custody, "highest_keyset"), (custody, "key_wrapper"), (storage, "_sealed"), (TeamLine, "settle")]
)
def test_whatever_fails_before(settings, tier, open_things, monkeypatch, what):
    """What guards the key, the directory, the limits of the server."""
    monkeypatch.setattr(*what, unmade)
    with pytest.raises(UnmadeError):
        factory.build_cache(settings)
    assert list(open_things.values()) == []


def test_a_team_that_refuses_leaves_no_connection(settings, tier, open_things, monkeypatch):
    """Who works alone, and will not try again, keeps no way to the tier."""

    def refuses(*_, **__):
        raise StoreDenied("the password is not accepted")

    monkeypatch.setattr(TeamLine, "settle", refuses)
    with factory.build_cache(settings):
        assert MemoryTier not in {type(one) for one in open_things.values()}
    assert list(open_things.values()) == []


def test_an_attempt_to_join_that_can_not_begin(settings, tier, open_things, monkeypatch):
    """No thread can be started: the cache that was made is closed, and so is the way to the team."""
    tier.is_away = True
    monkeypatch.setattr(Joining, "start", unmade)
    with pytest.raises(UnmadeError):
        factory.build_cache(settings)
    assert list(open_things.values()) == []


@pytest.mark.parametrize("part", ["Entries", "CacheParts"])
def test_a_team_that_can_not_be_joined_later(settings, tier, open_things, monkeypatch, part):
    """What failed in the background is closed, and said; the cache goes on alone with what it has."""
    monkeypatch.setattr(joining, "_SHORTEST_PAUSE_S", 0.0)
    tier.is_away = True
    told, is_told = [], threading.Event()

    def hears(event):
        told.append(event.message)
        if "joining" in event.message:
            is_told.set()

    with factory.build_cache(settings, on_event=hears) as cache:
        before = set(map(id, open_things.values()))
        monkeypatch.setattr(factory, part, unmade)
        tier.is_away = False
        for one in open_things.values():
            if isinstance(one, MemoryTier):
                one.is_away = False
        assert is_told.wait(30)
        cache.set("name", "value")
        assert cache.get("name") == "value"
        for thread in threading.enumerate():
            if thread.name == "genai-cache-joining":
                thread.join(30)
        assert {type(one) for one in open_things.values() if id(one) not in before} == set()
        assert MemoryTier not in {type(one) for one in open_things.values()}
    assert list(open_things.values()) == []


def test_one_that_is_closed_before_it_joined(settings, tier, open_things):
    """The way to the team is given up with the cache."""
    tier.is_away = True
    factory.build_cache(settings).close()
    assert list(open_things.values()) == []


def test_what_is_closed_is_closed_whatever_fails(settings, tier, open_things, monkeypatch):
    """One part that can't be closed leaves no other open."""
    monkeypatch.setattr(Catalogue, "close", unmade)
    monkeypatch.setattr(Outbox, "close", unmade)
    cache = factory.build_cache(settings)
    with pytest.raises(UnmadeError):
        cache.close()
    assert {type(one) for one in open_things.values()} == {StateFile}  # the outbox's, which could not be closed
    assert len(open_things) == 1


@pytest.mark.parametrize("name", ["made_home", "StateFile", "Keyset"])
def test_a_keys_command_that_fails(settings, tier, open_things, monkeypatch, name):
    """It gives up the way to the team, and the file."""
    custody.key_wrapper(settings)
    monkeypatch.setattr(keysets, name, unmade)
    with pytest.raises(UnmadeError), keysets.keyset_of(settings, "default"):
        pass
    assert list(open_things.values()) == []


def test_looking_at_an_address_leaves_nothing(settings, tier, open_things):
    """`create_cache` looks at it first, so that a wrong one is an error."""
    create_cache("redis", l2="redis://memory", dir=str(settings.dir), key_file=str(settings.key_file)).close()
    assert list(open_things.values()) == []
