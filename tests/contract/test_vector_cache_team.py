"""What one machine adds to a vector cache another finds, and what one invalidates no other finds any more."""

from __future__ import annotations

import pytest

from genai_cache_magic import create_vector_cache
from genai_cache_magic.testing.servers import AZURITE_KEY

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

pytestmark = pytest.mark.service
DIMENSION = 8


@pytest.fixture(params=["redis", "azure_storage"])
def machines(request, isolated, tmp_path, team):
    """Two machines of a team, over a real tier."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        given = {"connection": {"endpoint": f"127.0.0.1:{server.port}"}}
    else:
        azurite = request.getfixturevalue("azurite")
        given = {
            "account": azurite.account_url,
            "container": "vectors",
            "l2_create_container": True,
            "key": AZURITE_KEY,
        }
    told = []
    made = [
        create_vector_cache(
            request.param, dimension=DIMENSION, namespace=team, dir=tmp_path / name, on_event=told.append, **given
        )
        for name in ("a", "b")
    ]
    yield made
    for machine in made:
        machine.close()
    assert told == []


def syncs(machine) -> None:
    """See what the team has now, as after a while in which what is invalid was removed."""
    machine.cache.team._snapshot.look()
    machine.cache.catalogue.collect()
    machine._index._next_settled_at = 0.0
    machine.cache.catalogue._shared._next_at = 0.0


def told(machine) -> None:
    """Wait until the team was told."""
    assert machine.cache.team._drain.finish(within_s=30)


def vector(n: int):
    return np.random.default_rng(n).standard_normal(DIMENSION)


def test_a_team_shares_vectors(machines):
    """Added, found by text and by vector, replaced, invalidated by tag, cleared: on the other machine."""
    a, b = machines
    a.add_many([(f"text {n}", n) for n in range(20)], vectors=[vector(n) for n in range(20)], tags=["t"])
    a.add("kept", "k", vector=vector(100))
    told(a)
    assert [one.value for one in b.nearest("text 3")] == [3]
    syncs(b)
    assert [one.text for one in b.nearest(vector(7))] == ["text 7"]
    assert len(b) == 21

    b.add("of b", "b", vector=vector(200))
    b.add("kept", "changed", vector=vector(101))
    told(b)
    syncs(a)
    assert [one.text for one in a.nearest(vector(200))] == ["of b"]
    assert [one.value for one in a.nearest(vector(101))] == ["changed"]
    assert a.nearest(vector(100)) == []

    a.invalidate_tag("t")
    told(a)
    syncs(b)
    assert b.nearest(vector(7)) == []
    assert [one.text for one in b.nearest(vector(200))] == ["of b"]
    a.clear()
    told(a)
    syncs(b)
    assert b.nearest(vector(200), similarity=-1) == []
    assert len(b) == 0
