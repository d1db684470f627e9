"""A team's tier is backed up with what a machine has beside it, and restored into another one; containers hold both."""

from __future__ import annotations

import pytest
from backups import Machine, values

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.ops.backup_place import records_at
from genai_cache_magic.testing.servers import AZURITE_KEY

pytestmark = pytest.mark.service

SECONDS = {"connect_timeout": "30s", "command_timeout": "30s"}


@pytest.fixture(params=["redis", "blob"])
def tier(request):
    """Settings that lead to a tier of one kind."""
    if request.param == "redis":
        return {"l2": request.getfixturevalue("redis_server").url, **SECONDS}
    azurite = request.getfixturevalue("azurite")
    return {
        "l2": f"{azurite.account_url}/backed-up",
        "l2_account_key": AZURITE_KEY,
        "l2_create_container": True,
        **SECONDS,
    }


@pytest.fixture
def container(azurite):
    """Settings for, and the address of, a container that backups go into."""
    how = {"l2_account_key": AZURITE_KEY, "l2_create_container": True, **SECONDS}
    return how, f"{azurite.account_url}/backups"


def test_a_tier_and_its_machines(tier, isolated, team, redis_server):
    """What another machine has given to the team is in the backup, and comes back with its keyset and invalidations."""
    file = isolated / "team.backup"
    a, b = Machine(isolated / "a", **tier), Machine(isolated / "b", **tier)
    a.store("of a", "gone", namespace=team, tags=["t"])
    b.store("of b", namespace=team)
    with b.cache(team) as cache:
        cache.delete("gone")
    assert a.backs_up(file, namespace=team).answers >= 2
    assert a.backs_up(file, namespace=team).added == 0

    another = {"l2": f"{redis_server.url.rpartition('/')[0]}/1", **SECONDS}
    other_tier = Machine(isolated / "c", **another)
    assert other_tier.restores(file, namespace=team).stored == 2
    reader = Machine(isolated / "d", **another)
    assert reader.found("of a", "of b", "gone", namespace=team) == [*values("of a", "of b"), None]


def test_nothing_comes_back_to_a_team_that_went_on(tier, isolated, team):
    """What the team has invalidated since, on whatever machine, stays a miss, and what it refreshed stays as it is."""
    file = isolated / "team.backup"
    a, b = Machine(isolated / "a", **tier), Machine(isolated / "b", **tier)
    a.store("kept", "old", namespace=team)
    a.store("tagged", namespace=team, tags=["t"])
    a.backs_up(file, namespace=team)
    with b.cache(team) as cache:
        cache.invalidate_tag("t")
        cache.set("old", "newer")
    done = Machine(isolated / "c", **tier).restores(file, namespace=team)
    assert (done.stored, done.kept, done.invalid) == (0, 1, 2)
    found = Machine(isolated / "d", **tier).found("kept", "old", "tagged", namespace=team)
    assert found == [*values("kept"), "newer", None]


def test_a_tier_that_is_away_is_not_left_out(isolated, team, redis_server):
    """Without the team's answers a backup would not be one: it is refused, and says why."""
    there = Machine(isolated / "a", l2=redis_server.url, **SECONDS)
    there.store("a", namespace=team)
    file = isolated / "team.backup"
    away = Machine(isolated / "a", l2="redis://127.0.0.1:1", **SECONDS)
    with pytest.raises(StoreUnavailable, match="the team's answers can't be backed up now"):
        away.backs_up(file, namespace=team)
    assert not file.exists()


def test_a_container_holds_a_backup(container, isolated, team):
    """Incremental, readable elsewhere, for one namespace each; what is not behind the record before it is refused."""
    how, address = container
    machine, other = Machine(isolated / "a"), Machine(isolated / "b")
    settings = Machine(isolated / "a", **how).settings

    def at():
        return records_at(address, settings, team)

    machine.store("a", "b", namespace=team)
    with at() as records:
        assert machine.backs_up(records, namespace=team).added == 2
        assert machine.backs_up(records, namespace=team).added == 0
    machine.store("c", namespace=team)
    with at() as records:
        assert machine.backs_up(records, namespace=team).added == 1
        assert other.restores(records, namespace=team).stored == 3
    assert other.found("a", "c", namespace=team) == values("a", "c")
    with at() as records, records._connection.use() as client:
        client.delete_blob(records._name(1))
        with pytest.raises(ConfigurationError, match="record 1 is missing"):
            Machine(isolated / "c").restores(records, namespace=team)
    with at() as late, at() as records:
        late._count = 0
        with pytest.raises(StoreUnavailable, match="another process"):
            late.append(b"a record of another number")
        assert records.name == f"{address} ({team})"
