"""A value that is set while the team is away holds on its machine, and reaches the team unless that has ruled since."""

from __future__ import annotations

import contextlib
import itertools
import uuid

import pytest
from machines import Team
from simulated import Network, Reached, SharedMemory, Simulated, Time, nothing_by_itself, value_id

from genai_cache_magic import cached, llm_cache
from genai_cache_magic.entries import drain
from genai_cache_magic.entries import team as teams
from genai_cache_magic.entries.drain import Drain
from genai_cache_magic.entries.link import Link
from genai_cache_magic.entries.outbox import Outbox
from genai_cache_magic.entries.placing import Places
from genai_cache_magic.entries.settling import Settling
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.azure_blob import BlobTier
from genai_cache_magic.stores.azure_connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis import RedisTier
from genai_cache_magic.stores.redis_connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.snapshot import SnapshotDocument
from genai_cache_magic.testing.servers import AZURITE_KEY
from genai_cache_magic.testing.tier import MemoryServer, MemoryTier

_TIERS = (
    "memory",
    pytest.param("redis", marks=pytest.mark.service),
    pytest.param("azurite", marks=pytest.mark.service),
)


class Cut(Reached):
    """A tier through a network that can be cut."""

    def __init__(self, inner):
        super().__init__(inner, Network())

    @property
    def is_away(self):
        return self._network.is_cut

    @is_away.setter
    def is_away(self, is_away):
        self._network.is_cut = is_away


@pytest.fixture(params=_TIERS)
def tier(request, monkeypatch):
    """Return ways to one tier, which is waited for however loaded this machine is."""
    monkeypatch.setitem(Link.__init__.__kwdefaults__, "deadline_s", 90)
    monkeypatch.setattr(teams, "DEADLINE_S", 90)
    namespace = f"n{uuid.uuid4().hex}"
    with contextlib.ExitStack() as undo:
        if request.param == "memory":
            server = MemoryServer()
            yield lambda: MemoryTier(server)
        elif request.param == "redis":
            target = RedisTarget(
                request.getfixturevalue("redis_server").url, connect_timeout_s=30, command_timeout_s=30
            )
            connection = undo.enter_context(contextlib.closing(RedisConnection(target)))
            yield lambda: RedisTier(connection, namespace)
        else:
            url = f"{request.getfixturevalue('azurite').account_url}/away"
            patience = {"connect_timeout_s": 30, "command_timeout_s": 30}
            blobs = BlobConnection(BlobTarget(url, account_key=AZURITE_KEY, create_container=True, **patience))
            undo.callback(blobs.close)
            with blobs.use():
                pass
            yield lambda: BlobTier(blobs, namespace, patience_s=30)


@pytest.fixture
def team(tmp_path, isolated, monkeypatch, tier):
    team = Team(tmp_path, monkeypatch, way=lambda: Cut(tier()))
    yield team
    team.close()


@pytest.fixture
def a(team):
    return team.machine("a")


@pytest.fixture
def b(team, a):
    return team.machine("b")


def not_kept(machine):
    """Return what a machine was told of values that are not kept."""
    return [event.message for event in machine.events if isinstance(event, Trouble) and event.error == "NotKept"]


def lost_at_once(machine):
    return [event for event in machine.events if isinstance(event, Trouble) and "set and are not kept" in event.message]


def everywhere(machines, key):
    """Return what each machine gets, once it has seen what is valid."""
    for machine in machines:
        machine.goes_stale()
    return [machine.cache.get(key) for machine in machines]


@contextlib.contextmanager
def away(*machines):
    for machine in machines:
        machine.tier.is_away = True
        machine.goes_stale()
    yield
    for machine in machines:
        machine.tier.is_away = False


def test_it_holds_here_at_once(team, a):
    """For this process, another one of the machine, and one that begins later; and over what was there."""
    a.cache.set("known", "old")
    a.told()
    other = team.machine("a")
    assert other.cache.get("known") == "old"
    with away(a, other):
        a.cache.set("known", "new")
        a.cache.mset({"another": 1, "more": [2]}, tags=["t"])
        a.cache.pipeline().set("piped", 3).set("known too", 4).delete("known too").expire("piped", "1d").execute()
        for process in (a, other):
            assert process.cache.mget(["known", "another", "more", "piped"]) == ["new", 1, [2], 3]
            assert process.cache.exists("known")
        third = team.machine("a", is_away=True)
        assert third.cache.mget(["known", "another", "more", "piped"]) == ["new", 1, [2], 3]
        assert third.cache.get("known too") is None
        a.cache.set("known", "newer")
        assert other.cache.get("known") == "newer"
        assert not lost_at_once(a)
    third.tier.is_away = False
    a.told()
    for process in (a, other, third):
        assert process.cache.get("known") == "newer"
        assert not not_kept(process)


def test_it_reaches_a_team_that_has_changed_nothing(a, b, monkeypatch):
    """In place of what was there before, and where nothing was; more than are told in one go."""
    a.cache.set("known", "old")
    a.told()
    assert everywhere([b], "known") == ["old"]
    monkeypatch.setattr(drain, "_VALUES", 10)
    values = {f"key {number}": number for number in range(25)}
    with away(b):
        b.cache.set("known", "new")
        b.cache.mset(values)
    b.told()
    assert everywhere([a, b], "known") == ["new", "new"]
    for machine in (a, b):
        assert machine.cache.mget(values) == list(values.values())
        assert not not_kept(machine)
    a.cache.set("known", "newest")
    a.told()
    assert everywhere([a, b], "known") == ["newest", "newest"]


def test_what_the_team_has_set_meanwhile_counts(a, b):
    """Its value stays, also here, and it is said how many of one's own are not kept."""
    for key in ("one", "two"):
        a.cache.set(key, "old")
    a.told()
    with away(b):
        b.cache.mset({"one": "mine", "two": "mine", "three": "mine"})
        a.cache.mset({"one": "team's", "two": "team's"})
        a.told()
        assert b.cache.get("one") == "mine"
    b.told()
    assert everywhere([a, b], "one") == ["team's", "team's"]
    assert everywhere([a, b], "two") == ["team's", "team's"]
    assert everywhere([a, b], "three") == ["mine", "mine"]
    (said,) = not_kept(b)
    assert "not kept: 2;" in said


@pytest.mark.parametrize(
    "how",
    [
        lambda cache: cache.delete("key"),
        lambda cache: cache.invalidate("key"),
        lambda cache: cache.invalidate_tag("t"),
        lambda cache: cache.clear(),
    ],
    ids=["delete", "pattern", "tag", "clear"],
)
def test_what_the_team_has_invalidated_meanwhile_is_not_kept(a, b, how):
    """Nobody gets it afterwards, nor what it was to replace, and that is said."""
    a.cache.set("key", "old", tags=["t"])
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b):
        b.cache.set("key", "mine", tags=["t"])
        how(a.cache)
        a.told()
        assert b.cache.get("key") == "mine"
    b.sees()
    assert b.cache.get("key") is None  # also before the team was told
    b.told()
    assert everywhere([a, b], "key") == [None, None]
    (said,) = not_kept(b)
    assert "not kept: 1;" in said


@pytest.mark.parametrize("there", [None, "old"])
def test_of_two_machines_that_were_away_the_first_to_tell_counts(a, b, there):
    """The other one is told that its value is not kept."""
    if there:
        a.cache.set("key", there)
        a.told()
    assert everywhere([a, b], "key") == [there, there]
    with away(a, b):
        a.cache.set("key", "a's")
        b.cache.set("key", "b's")
        assert [machine.cache.get("key") for machine in (a, b)] == ["a's", "b's"]
    b.told()
    a.told()
    assert everywhere([a, b], "key") == ["b's", "b's"]
    assert [len(not_kept(machine)) for machine in (a, b)] == [1, 0]


def test_what_is_invalidated_here_afterwards_is_no_news(a, b):
    """It is gone at once, never comes back, and nobody is told of what he did himself."""
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b):
        b.cache.mset({"key": "mine", "tagged": "mine"}, tags=["t"])
        b.cache.delete("key")
        b.cache.invalidate_tag("t")
        assert b.cache.mget(["key", "tagged"]) == [None, None]
    b.told()
    assert everywhere([a, b], "key") == [None, None]
    assert everywhere([a, b], "tagged") == [None, None]
    assert not not_kept(b)


def test_over_an_invalidation_that_waits_it_is_not_kept(a, b):
    """It could not be told from what that was about; it is said at once, and it can be set again afterwards."""
    with away(b):
        b.cache.clear()
        b.cache.set("key", "mine")
        assert b.cache.get("key") is None
        assert len(lost_at_once(b)) == 1
    b.told()
    b.cache.set("key", "again")
    b.told()
    assert everywhere([a, b], "key") == ["again", "again"]


@pytest.mark.parametrize("tags", [[], ["t"]])
def test_over_an_invalidation_that_another_process_has_queued_it_is_not_kept(team, a, b, tags):
    """That is said at once too, and not found out when both are told."""
    b.cache.set("key", "old", tags=tags)
    b.told()
    other = team.machine("b")
    with away(b, other):
        other.cache.invalidate_tag("t") if tags else other.cache.clear()
        b.cache.set("key", "mine", tags=tags)
        assert len(lost_at_once(b)) == 1
        assert b.cache.get("key") is None
    b.told()
    assert everywhere([a, b, other], "key") == [None, None, None]


def test_what_is_set_again_with_the_team_takes_its_place(a, b, monkeypatch):
    """What waited is not told, and not missed."""
    monkeypatch.setattr(Drain, "poke", lambda _: None)
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b):
        b.cache.set("key", "mine")
    b.cache.set("key", "later")
    b.told()
    assert everywhere([a, b], "key") == ["later", "later"]
    assert not not_kept(b)


def test_computed_values_too(a, b):
    """What `@cached` and `map` keep is shared later; what `map` computes anew replaces what was there."""
    computed = itertools.count()

    @cached(cache=b.cache)
    def numbered(_):
        return next(computed)

    def double(item):
        return [item, next(computed)]

    first = b.cache.map(double, [1], name="double", progress=False)
    b.told()
    assert a.cache.map(double, [1], name="double", progress=False) == first
    with away(b):
        kept = numbered("x")
        assert numbered("x") == kept
        with llm_cache(mode="refresh"):
            again = b.cache.map(double, [1], name="double", progress=False)
        assert again != first
        assert b.cache.map(double, [1], name="double", progress=False) == again
    b.told()
    a.goes_stale()
    assert a.cache.map(double, [1], name="double", progress=False) == again
    assert not not_kept(b)


def test_who_joins_sees_what_is_valid(team, a):
    """A machine knows the team's document as soon as its cache is open, so what it sets can be judged later."""
    a.cache.set("key", "old")
    a.told()
    c = team.machine("c")
    with away(c):
        c.cache.set("new", 1)
        assert c.cache.get("new") == 1
    c.told()
    assert everywhere([a], "new") == [1]


class Killed(BaseException):
    """Stands for the end of a process."""


_STEPS = (
    (Outbox, "add_values"),
    (Outbox, "settle_values"),
    (Places, "place"),
    (Places, "remove"),
    (SnapshotDocument, "replace"),
)


def dies_at(point, patch):
    """Let whatever is done die at its step `point`, before it or after."""
    step = itertools.count()

    def stepping(done):
        def stepped(*args, **more):
            if next(step) == point:
                raise Killed
            result = done(*args, **more)
            if next(step) == point:
                raise Killed
            return result

        return stepped

    for owner, name in _STEPS:
        patch.setattr(owner, name, stepping(getattr(owner, name)))


@pytest.mark.parametrize("point", range(4))
def test_killed_while_it_is_set(team, a, b, monkeypatch, point):
    """It is as if it had never been set, or it arrives: in the end everybody has the same."""
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    b.cache._entries.settle()
    with away(b), monkeypatch.context() as patch:
        dies_at(point, patch)
        with contextlib.suppress(Killed):
            b.cache.set("key", "mine")
    again = team.machine("b")
    again.told()
    b.told()
    found = everywhere([a, again], "key")
    assert found in (["old"] * 2, ["mine"] * 2)
    assert not not_kept(again)


@pytest.mark.parametrize(("point", "has_changed"), list(itertools.product(range(12), (False, True))))
def test_killed_while_it_is_told(team, monkeypatch, point, has_changed):
    """The next process of the machine tells it, or says that it is not kept; what was there never comes back."""
    a, b = team.machine("a"), team.machine("b")
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b), monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        b.cache.set("key", "mine")
        if has_changed:
            a.cache.set("key", "team's")
            assert a.cache.team.tell(within_s=30)
    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        dies_at(point, patch)
        with contextlib.suppress(Killed):
            b.cache._team._drain.once()
    again = team.machine("b")
    again.told()
    b.told()
    found = everywhere([a, again], "key")
    said = [*not_kept(b), *not_kept(again)]
    if has_changed:
        assert found == ["team's", "team's"]
        assert said
    else:
        assert found == ["mine"] * 2 or (found == [None] * 2 and said)


def test_over_what_another_process_has_set_with_the_team_it_is_not_kept(team, a, b):
    """What this process knows of what is valid is older than that, so it would not hold here: that is said at once."""
    other = team.machine("b")
    b.cache.set("key", "old")
    b.told()
    assert everywhere([a, other], "key") == ["old", "old"]
    with away(other):
        b.cache.set("key", "older")
        b.told()
        other.cache.set("key", "newer")
        assert len(lost_at_once(other)) == 1
        assert other.cache.get("key") is None
    other.told()
    assert everywhere([a, b, other], "key") == [None, None, None]
    assert b.cache.team.waiting() == (0, 0)


def test_what_is_set_while_the_one_before_is_told_is_not_hidden_by_it(team, a, b, monkeypatch):
    """By another process of the machine, which does not reach the team yet: the older one is served to nobody."""
    other = team.machine("b")
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b, other], "key") == ["old", "old"]
    settle = Outbox.settle_values

    def overtaken(outbox, settled, queued):
        patch.setattr(Outbox, "settle_values", settle)
        with away(other):
            other.cache.set("key", "newer")
        return settle(outbox, settled, queued)

    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        patch.setattr(Outbox, "settle_values", overtaken)
        with away(b, other):
            b.cache.set("key", "older")
        b.cache._team._drain.once()
        assert Outbox.settle_values is settle
    b.told()
    found = everywhere([a, b, other], "key")
    assert found in ([None] * 3, ["newer"] * 3)
    assert found[0] or not_kept(b)


# In simulated time


@pytest.fixture
def simulated(isolated, monkeypatch):
    time = Time()
    shared = SharedMemory(time)
    with nothing_by_itself(monkeypatch):

        def machine(name, **more):
            made = Simulated(shared, time, name, **more)
            made.look()
            return made

        yield time, machine


def told_of(machine):
    return [event for event in machine.events if isinstance(event, Trouble) and event.error == "NotKept"]


@pytest.mark.parametrize("skew_s", [0.0, 86_000.0, -86_000.0])
@pytest.mark.parametrize("apart_s", [-3_600.0, -3.0, 3.0, 3_600.0])
def test_where_nothing_was_the_order_decides(simulated, apart_s, skew_s):
    """A value that a teammate set where nothing was leaves no record: the tier's time decides, if it can."""
    time, machine = simulated
    a, b = machine("a", skew_s=-skew_s), machine("b", skew_s=skew_s)
    b.network.is_cut = True
    actions = [lambda: a.set_value("key", 1) or a.tell(), lambda: b.set_value("key", 2)]
    for action in actions if apart_s < 0 else reversed(actions):
        action()
        time.now_s += abs(apart_s)
    assert b.get_value("key") == 2
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    found = [a.get_value("key"), b.get_value("key")]
    if abs(apart_s) < 10:
        assert found == [None, None]
    else:
        assert found == ([2, 2] if apart_s < 0 else [1, 1])
    assert bool(told_of(b)) is (found != [2, 2])


def test_a_clock_that_is_set_meanwhile_decides_nothing(simulated):
    """A machine's own clock may jump while it is away: what the team set later counts all the same."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    b.network.is_cut = True
    b.skew_s = 7_200.0
    b.set_value("key", 2)
    time.now_s += 60
    a.set_value("key", 1)
    assert a.tell()
    b.network.is_cut = False
    assert b.tell()
    assert [a.get_value("key"), b.get_value("key")] == [1, 1]
    assert told_of(b)


def test_a_process_that_began_without_the_tier_knows_no_time(simulated):
    """What is there in the state that it knew may be later or not: nobody gets either, and that is said."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    time.now_s += 3_600
    b.network.is_cut = True
    b.start()
    assert b.set_value("key", 2) == 0
    assert b.get_value("key") == 2
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert told_of(b)


def test_until_it_is_told_what_the_team_has_is_not_taken_in(simulated):
    """Even if what was set here has expired or was evicted: what it replaced does not come back for a moment."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    assert b.get_value("key") == 1
    b.network.is_cut = True
    b.set_value("key", 2)
    b.disk.store.delete(value_id("key"))
    b.start()
    b.network.is_cut = False
    time.now_s += 6
    assert b.get_value("key") is None
    assert b.tell()
    assert [b.get_value("key"), a.get_value("key")] == [2, 2]


def test_set_again_with_the_team_after_it_was_evicted_here(simulated):
    """What the team has is invalidated though it is not taken in."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    b.network.is_cut = True
    b.set_value("key", 2)
    b.disk.store.delete(value_id("key"))
    b.network.is_cut = False
    b.set_value("key", 3)
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [3, 3]
    assert not told_of(b)


def test_a_machine_that_never_saw_the_document_keeps_none(simulated, monkeypatch):
    """Nothing could be compared later; it is as it was: said at once, and what the team has is invalidated."""
    time, machine = simulated
    a = machine("a")
    a.set_value("key", 1)
    assert a.tell()
    with monkeypatch.context() as patch:
        patch.setattr(Simulated, "look", lambda _: None)
        b = machine("b")
    b.network.is_cut = True
    assert b.set_value("key", 2) == 1
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]


def test_after_more_than_a_day_it_is_not_kept(simulated):
    """Records live as long; what it replaced is gone all the same."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    assert b.get_value("key") == 1
    b.network.is_cut = True
    b.set_value("key", 2)
    time.now_s += 25 * 3_600
    b.network.is_cut = False
    assert b.tell()
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert told_of(b)


def test_a_floor_that_rose_meanwhile(simulated):
    """Records that a teammate's `gc` has dropped can't be judged by: it is not kept, and said."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    b.network.is_cut = True
    b.set_value("key", 2)
    a.invalidate_tag("other")
    assert a.team.prune(lowest=None).records == 1
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert told_of(b)


def test_what_is_stored_in_the_middle_of_it_was_set_later(simulated, monkeypatch):
    """A teammate who sets between the look and the publication loses to nobody who set before: both are misses."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    b.network.is_cut = True
    b.set_value("key", 2)
    time.now_s += 60
    b.network.is_cut = False
    looked, looks = Settling._theirs, itertools.count()

    def theirs(self, ids):
        found = looked(self, ids)
        if not next(looks):
            a.set_value("key", 1)
            assert a.tell()
        return found

    monkeypatch.setattr(Settling, "_theirs", theirs)
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert told_of(b)
