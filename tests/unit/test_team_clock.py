"""The time by a shared tier's clock, on a machine that sleeps."""

from __future__ import annotations

from genai_cache_magic import host
from genai_cache_magic.entries.team.clock import TeamClock


def test_it_goes_on_while_the_machine_sleeps(monkeypatch):
    """What the tier's clock has come to is told by a clock that counts sleep, whatever this machine's shows."""
    counted_s = [100.0]
    monkeypatch.setattr(host.time, "CLOCK_BOOTTIME", "boot", raising=False)
    monkeypatch.setattr(host.time, "clock_gettime", lambda clock: {"boot": counted_s[0]}[clock], raising=False)
    clock = TeamClock()
    clock.hear(1_000_000.0)
    counted_s[0] += 8 * 3600.0
    assert clock.earliest_ms() == 1_000_000_000 + 8 * 3_600_000


def test_where_no_clock_counts_sleep_one_that_never_jumps_is_asked(monkeypatch):
    """As on Windows, whose own does."""
    monkeypatch.delattr(host.time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(host.sys, "platform", "win32")
    monkeypatch.setattr(host.time, "monotonic", lambda: 7.0)
    assert host.seconds_awake_or_asleep() == 7.0


def test_a_mac_is_asked_for_the_clock_that_nobody_sets(monkeypatch):
    """Its others stop while it sleeps, or move with the time of day."""
    monkeypatch.delattr(host.time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(host.sys, "platform", "darwin")
    monkeypatch.setattr(host.time, "CLOCK_MONOTONIC_RAW", "raw", raising=False)
    monkeypatch.setattr(host.time, "clock_gettime", lambda clock: {"raw": 9.0}[clock], raising=False)
    assert host.seconds_awake_or_asleep() == 9.0


def test_a_clock_that_a_sandbox_does_not_know_is_done_without(monkeypatch):
    """Python knows its name by the headers that it was built with."""

    def refuse(clock):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(host.time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(host.time, "clock_gettime", refuse, raising=False)
    monkeypatch.setattr(host.time, "monotonic", lambda: 7.0)
    assert host.seconds_awake_or_asleep() == 7.0
