"""What is good for so long is so on a machine that sleeps, too: a lid that is closed stops no clock of anybody else."""

from __future__ import annotations

import sys
import threading

import pytest

from genai_cache_magic import create_cache, host
from genai_cache_magic.crypto.held_keys import HeldKeys
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.monitoring.watching import AlertWatch
from genai_cache_magic.settings.monitoring import AlertRule
from genai_cache_magic.stores.private import PrivateOnly

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its clock counts sleep without being asked")
NIGHT_S = 13 * 3600.0
SOON_S = 30.0


class Sleeper:
    """A machine whose clock that counts sleep goes on alone while it sleeps."""

    def __init__(self):
        self.slept_s = 0.0

    def sleep(self, seconds=NIGHT_S):
        self.slept_s += seconds

    def clock_gettime(self, clock):
        assert clock == "boot"
        return host.time.monotonic() + self.slept_s


@pytest.fixture
def machine(monkeypatch):
    sleeper = Sleeper()
    monkeypatch.setattr(host.time, "CLOCK_BOOTTIME", "boot", raising=False)
    monkeypatch.setattr(host.time, "clock_gettime", sleeper.clock_gettime, raising=False)
    return sleeper


def test_a_key_is_held_for_so_long(machine):
    """Else who lost the right to unwrap reads on for as many days as half of each is slept through."""
    asked, keys = [], HeldKeys()
    for _ in range(2):
        keys.get(b"wrapped", lambda: asked.append(1) or b"secret")
    assert len(asked) == 1
    machine.sleep()
    keys.get(b"wrapped", lambda: asked.append(1) or b"secret")
    assert len(asked) == 2


def test_a_cache_whose_keys_are_held_for_too_long_is_opened_anew(machine, isolated, monkeypatch):
    """So the next cell asks the vault."""
    monkeypatch.setattr("genai_cache_magic.api.factory.is_remote", lambda _: True)
    with create_cache("disk", dir=str(isolated / "cache")) as cache:
        assert not cache.is_superseded
        machine.sleep()
        assert cache.is_superseded


def test_a_private_address_is_looked_up_anew(machine):
    """A laptop wakes up in another network."""
    found = [("10.0.0.4",)]
    only = PrivateOnly("the tier", resolve=lambda _: found[0])
    only.ensure("cache.example.org")
    found[0] = ("203.0.113.7",)
    only.ensure("cache.example.org")
    machine.sleep(60)
    with pytest.raises(StoreUnavailable, match="at a public address"):
        only.ensure("cache.example.org")


def test_what_was_yesterday_is_in_no_window(machine):
    """It says "of the last 5m"."""
    watch = AlertWatch([AlertRule.model_validate("HighMissRate")])
    for _ in range(20):
        watch.note(CallRecord(Outcome.MISS))
    assert watch.look() != ()
    machine.sleep()
    assert watch.look() == ()
    watch.note(CallRecord(Outcome.HIT))
    assert watch.look() == ()


@pytest.fixture
def credentials(monkeypatch):
    """An identity whose tokens live for an hour; `issued` counts them."""
    entra = pytest.importorskip("genai_cache_magic.stores.redis.entraid")
    pytest.importorskip("redis.credentials", reason="pip install redis")
    found = entra.EntraCredentials(lambda: None)
    found.issued = 0

    def requested():
        found.issued += 1
        return entra.Token("user", f"token {found.issued}", 3600.0, host.seconds_awake_or_asleep() + 3600.0)

    monkeypatch.setattr(found, "_requested", requested)
    monkeypatch.setattr(entra, "_LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(entra, "_SHORTEST_PAUSE_S", 0.01)
    yield found
    found.stop()


def test_a_token_that_ended_meanwhile_is_sent_to_no_redis(machine, credentials):
    """It would be refused, and the team's tier be without it for as long as the token seemed to live."""
    assert credentials.get_credentials() == ("user", "token 1")
    assert credentials.get_credentials() == ("user", "token 1")
    machine.sleep()
    assert credentials.get_credentials()[1] != "token 1"


def test_open_connections_hear_of_a_new_token_at_waking(machine, credentials):
    """And not when it would have been due without the sleep."""
    heard = threading.Event()
    credentials.on_next(lambda _: heard.set())
    credentials.get_credentials()
    assert credentials.issued == 1
    machine.sleep()
    assert heard.wait(SOON_S)
    credentials.stop()
    assert credentials.issued == 2
