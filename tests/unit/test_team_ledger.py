"""The ledgers of a team's machines add up: each call once, whatever becomes of a page, and whoever forges one."""

from __future__ import annotations

import itertools
import threading
import zlib
from datetime import UTC, date, datetime
from decimal import Decimal

import orjson
import pytest
from ledgers import ALL, KEYS, Machine, Tier

from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.keys import Keys
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.ledger import team_usage
from genai_cache_magic.ledger.pages import MAX_CONTENT_BYTES, PageSeal, Place
from genai_cache_magic.ledger.sharer import Sharer
from genai_cache_magic.stores.disk.locks import FileLock

NOON_MS = int(datetime(2026, 5, 31, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
MISS = CallRecord(
    Outcome.MISS, provider="openai.chat", model="m", input_tokens=3, output_tokens=2, spent_usd=Decimal("0.001")
)
HIT = CallRecord(Outcome.HIT, provider="openai.chat", model="m", spent_usd=Decimal(0), saved_usd=Decimal("0.002"))


@pytest.fixture
def clock():
    class Clock:
        now_ms = NOON_MS

        def __call__(self):
            return self.now_ms

    return Clock()


@pytest.fixture
def tier():
    return Tier()


@pytest.fixture
def machine(tmp_path, tier, clock, monkeypatch):
    """Return a machine by name; the same name again is another process of it."""
    monkeypatch.setattr(Sharer, "poke", lambda _: None)
    made = []

    def make(name, **more):
        made.append(Machine(tmp_path / name, tier, clock, **more))
        return made[-1]

    yield make
    tier.is_away = tier.is_mute = False
    for one in made:
        one.close()


def test_a_team_adds_up(machine):
    """Everybody sees what all have counted, by whatever is asked for, with this machine's part beside."""
    a, b = machine("a"), machine("b")
    a.note(MISS, HIT, run="sweep")
    b.note(MISS, MISS, person="bob")
    a.tell()
    b.tell()
    for one, here in ((a, 1), (b, 2)):
        found = one.usage(("person", "run"))
        assert {(row.person, row.run): row.misses for row in found.rows} == {("ann", "sweep"): 1, ("bob", ""): 2}
        assert (found.total.misses, found.total.hits, found.total.spent_usd) == (3, 1, Decimal("0.003"))
        assert (found.team.machines, found.team.here.misses, found.team.trouble) == (2, here, "")
        assert one.ledger.usage(ALL, ()).total.misses == here


def test_pages_are_refused_while_others_are_read(machine):
    """Two threads may ask at once: what the one refuses does not disturb the other."""
    sharing = machine("a").shared.sharing
    refused = [Place(char * 64, "0" * 64) for char in "ab"]
    sharing._refused[refused[0]] = "1", "another key"

    class Asked(list):
        """The groups that are asked for, while another thread refuses a page."""

        def __contains__(self, group):
            sharing._refused[refused[1]] = "1", "another key"
            return super().__contains__(group)

    assert sharing.learn(Asked([refused[0].group]), "usage").ignored == ("another key",)


def test_who_waits_for_another_process_to_tell_gives_up(machine, tmp_path):
    """And so does its thread, however long that process holds the lock."""
    one, before = machine("a"), set(threading.enumerate())
    with FileLock(tmp_path / "a" / "shared.lock").hold(timeout_s=30):
        one.shared.tell_now(within_s=0.01)
        left = set(threading.enumerate()) - before
        for thread in left:
            thread.join(30)
        assert not any(thread.is_alive() for thread in left)


def test_what_is_not_told_yet_is_seen_here(machine):
    """A machine's own calls are counted from its own ledger, told or not, and never beside what was told of them."""
    a = machine("a")
    a.note(MISS)
    a.tell()
    a.note(MISS)
    assert a.counted() == (2, 0)
    assert a.usage().team.machines == 1


def test_nothing_is_told_twice(machine, tier):
    """Where nothing changed nothing is sent, by another process neither."""
    a = machine("a")
    a.note(MISS)
    a.tell()
    a.tell()
    machine("a").tell()
    assert len(tier.puts) == 1


def test_what_nobody_knows_is_told_again_and_counts_once(machine, tier):
    """A page whose outcome is unknown is set as a whole once more, also by the process that comes after a kill."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    tier.is_mute = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            a.tell()
        assert a.counted() == (1, 0)  # what is there is its own
    tier.is_mute = False
    assert b.counted() == (1, 0)
    again = machine("a")
    again.tell()
    again.note(MISS)
    again.tell()
    assert b.counted() == (2, 0)


def test_an_outage_loses_nothing(machine, tier, clock):
    """What was counted meanwhile is told afterwards, for the days on which it was counted."""
    a, b = machine("a"), machine("b")
    tier.is_away = True
    for _ in range(40):
        a.note(MISS)
        with pytest.raises(StoreUnavailable):
            a.tell()
        clock.now_ms += DAY_MS
    tier.is_away = False
    machine("a").tell()
    found = b.usage(("day",))
    assert [row.misses for row in found.rows] == [1] * 40
    assert found.rows[0].day == date(2026, 5, 31)


def test_offline_the_last_known_is_said_to_be_that(machine, tier, clock):
    """With the time at which the team was last asked; before that it is said that not all is known."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    a.tell()
    tier.is_away = True
    team = b.usage().team
    assert (team.machines, team.known_at, team.trouble) == (1, None, "the tier can't be reached")
    tier.is_away = False
    assert b.counted() == (1, 0)
    seen = datetime.fromtimestamp(clock.now_ms / 1000, UTC)
    clock.now_ms += DAY_MS
    tier.is_away = True
    found = machine("b").usage()
    assert (found.total.misses, found.team.known_at) == (1, seen)
    assert "can't be reached" in found.team.trouble


@pytest.mark.parametrize("how", ["told again", "looked at"])
def test_a_tier_that_lost_everything_gets_it_again(machine, tier, clock, how):
    """From each machine that has something new to tell or looks at the numbers; others count what they knew."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    clock.now_ms += 9 * DAY_MS
    a.note(MISS)
    a.tell()
    assert b.counted() == (2, 0)
    tier.inner.groups.clear()
    assert b.counted() == (2, 0)
    if how == "told again":
        a.note(MISS)
    else:
        a.counted()
    a.tell()
    fresh = machine("c")
    assert fresh.counted() == (3 if how == "told again" else 2, 0)


def test_a_ledger_that_starts_anew_is_another_machines(machine, tmp_path):
    """What a lost one had told stays counted, and nothing of it is counted twice."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    a.tell()
    a.close()
    for file in (tmp_path / "a").glob("ledger.db*"):
        file.unlink()
    again = machine("a")
    again.note(MISS)
    again.tell()
    assert again.counted() == b.counted() == (2, 0)
    assert b.usage().team.machines == 3


def test_processes_of_a_machine_are_one(machine):
    """They share its ledger, and whichever tells tells all of it."""
    one, other, b = machine("a"), machine("a"), machine("b")
    one.note(MISS)
    other.note(MISS)
    one.tell()
    other.tell()
    assert b.counted() == (2, 0)
    assert b.usage().team.machines == 2


def only(tier):
    """Return the one page there is, and where."""
    ((group, pages),) = [(group, pages) for group, pages in tier.inner.groups.items() if pages]
    ((name, (page, _)),) = pages.items()
    return Place(group, name), page.blob


def rewritten(place, blob, **changes):
    """Return a page of our own key that says something else."""
    seal = ColumnSeal(KEYS.mac_key)
    bound = f"page {place.group} {place.name}".encode()
    page = orjson.loads(zlib.decompress(seal.open(blob, place=bound)))
    return seal.seal(zlib.compress(orjson.dumps({**page, **changes})), place=bound)


def row_with(**changes):
    return [20_604, "p", "m", "", "", {"misses": 5, **changes}]


FORGERIES = {
    "rubbish": lambda place, blob: b"rubbish",
    "empty": lambda place, blob: b"",
    "changed": lambda place, blob: blob[:-1] + bytes([blob[-1] ^ 1]),
    "cut short": lambda place, blob: blob[:40],
    "another key": lambda place, blob: PageSeal(Keys("default", b"x" * 32, b"x" * 32)).seal(
        place, PageSeal(KEYS).open(place, blob)[0], serial=2**61
    ),
    "newer version": lambda place, blob: rewritten(place, blob, version=2, serial=2**61),
    "not packed": lambda place, blob: ColumnSeal(KEYS.mac_key).seal(
        b"[]", place=f"page {place.group} {place.name}".encode()
    ),
    "a list": lambda place, blob: ColumnSeal(KEYS.mac_key).seal(
        zlib.compress(b"[]"), place=f"page {place.group} {place.name}".encode()
    ),
    "a bomb": lambda place, blob: ColumnSeal(KEYS.mac_key).seal(
        zlib.compress(bytes(MAX_CONTENT_BYTES + 1)), place=f"page {place.group} {place.name}".encode()
    ),
    "no serial": lambda place, blob: rewritten(place, blob, serial="1"),
    "a serial beyond all": lambda place, blob: rewritten(place, blob, serial=2**63),
    "no rows": lambda place, blob: rewritten(place, blob, rows={}),
    "no writer": lambda place, blob: rewritten(place, blob, writer=None),
}
WRONG_ROWS = {
    "no account": [[1]],
    "a text": ["x"],
    "no day": [["20604", "p", "m", "", "", {}]],
    "a day far away": [[10**9, "p", "m", "", "", {}]],
    "a name that is none": [[20_604, 1, "m", "", "", {}]],
    "a long name": [[20_604, "p", "m" * 2_000, "", "", {}]],
    "half a call": [row_with(misses=0.5)],
    "fewer than none": [row_with(misses=-1)],
    "beyond counting": [row_with(spent=2**63)],
    "one of many": [row_with(), row_with(hits="many")],
}


@pytest.mark.parametrize("how", FORGERIES)
def test_what_is_no_page_of_the_team_is_ignored_with_a_reason(machine, tier, how):
    """And takes nothing away from what was known; who never saw another counts none of it."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    a.tell()
    assert b.counted() == (1, 0)
    place, blob = only(tier)
    tier.inner.put(place.group, {place.name: FORGERIES[how](place, blob)}, ttl_s=60)
    for one, misses in ((b, 1), (machine("c"), 0)):
        for _ in range(2):
            found = one.usage()
            assert found.total.misses == misses
            assert found.team.trouble == ""
            assert len(found.team.ignored) == 1
    a.note(MISS)
    a.tell()
    assert b.counted() == (2, 0)
    assert b.usage().team.ignored == ()


@pytest.mark.parametrize("rows", WRONG_ROWS.values(), ids=WRONG_ROWS)
def test_rows_that_can_be_none_are_ignored_with_a_reason(machine, tier, rows):
    """The page as a whole: half of it would be a wrong sum."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    a.tell()
    place, blob = only(tier)
    tier.inner.put(place.group, {place.name: rewritten(place, blob, rows=rows, serial=2**61)}, ttl_s=60)
    found = b.usage()
    assert (found.total.misses, found.team.ignored) == (0, ("no page of this format",))


def test_what_a_newer_version_counts_beside_is_passed_over(machine, tier):
    """A count that this version does not know breaks nothing."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    a.tell()
    place, blob = only(tier)
    rows = [row_with(thoughts=7)]
    tier.inner.put(place.group, {place.name: rewritten(place, blob, rows=rows, serial=2**61)}, ttl_s=60)
    assert b.counted() == (5, 0)


def test_an_older_page_that_is_put_back_is_ignored(machine, tier):
    """By who saw the newer one; its owner puts that back, and then everybody has it."""
    a, b = machine("a"), machine("b")
    a.note(MISS)
    a.tell()
    place, older = only(tier)
    a.note(MISS)
    a.tell()
    assert b.counted() == (2, 0)
    tier.inner.put(place.group, {place.name: older}, ttl_s=60)
    assert b.counted() == (2, 0)
    assert b.usage().team.ignored == ("older than what was there before: somebody put it back",)
    a.counted()
    a.tell()
    assert machine("c").counted() == b.counted() == (2, 0)


def test_a_page_of_another_place_is_ignored(machine, tier):
    """Two machines' pages can't be put in each other's place, and none can be there twice."""
    a, b, c = machine("a"), machine("b"), machine("c")
    a.note(MISS)
    a.tell()
    place, blob = only(tier)
    b.note(MISS, MISS)
    b.tell()
    (other,) = tier.inner.groups[place.group].keys() - {place.name}
    tier.inner.put(place.group, {other: blob, "0" * 64: blob}, ttl_s=60)
    found = c.usage()
    assert (found.total.misses, len(found.team.ignored)) == (1, 2)


def test_a_page_stays_within_bounds(machine, tier, monkeypatch):
    """Of very many accounts the sums are told without their runs, then without persons: they stay right."""
    monkeypatch.setattr(team_usage, "_MOST_ACCOUNTS", 5)
    a, b = machine("a"), machine("b")
    for number in range(8):
        a.note(MISS, run=f"run {number}", person=f"person {number % 2}")
    a.tell()
    assert {row.person: row.misses for row in b.usage(("person",)).rows} == {"person 0": 4, "person 1": 4}
    assert {row.run for row in b.usage(("run",)).rows} == {""}
    for number in range(8):
        a.note(MISS, run=f"run {number}", person=f"another {number}")
    a.tell()
    assert b.counted() == (16, 0)
    assert {row.person for row in b.usage(("person",)).rows} == {""}


def test_names_are_read_by_nobody_else(machine, tier):
    """Neither names nor numbers stand readable in a tier, and each name there is keyed."""
    a = machine("a")
    a.note(MISS, run="secret run", person="secret person")
    a.tell()
    place, blob = only(tier)
    for text in (b"secret", b"openai", b"usage", b"misses"):
        assert text not in blob
    another = PageSeal(Keys("default", b"x" * 32, KEYS.mac_key))
    assert place.group not in {another.key("usage", str(n)) for n in range(1_000)}


def test_the_sums_are_those_of_any_order(machine, tier, clock):
    """However machines, kills and outages take turns, everybody comes to what was counted."""
    expected = 0
    for turn, (name, is_away, is_mute) in enumerate(itertools.product("ab", (False, True), (False, True))):
        one = machine(name)
        tier.is_away, tier.is_mute = is_away, is_mute
        one.note(*[MISS] * (turn + 1))
        expected += turn + 1
        clock.now_ms += 5 * DAY_MS
        if is_away or is_mute:
            with pytest.raises(StoreUnavailable):
                one.tell()
        else:
            one.tell()
    tier.is_away = tier.is_mute = False
    for name in "ab":
        machine(name).tell()
    assert {machine(name).counted() for name in "abc"} == {(expected, 0)}
