"""What one machine adds to a vector cache another finds, and what one invalidates no other finds any more."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from services import started

from genai_cache_magic import create_vector_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

pytestmark = pytest.mark.service
DIMENSION = 8


@pytest.fixture(scope="module")
def guarded_redis():
    """A Redis that asks for a key, as Azure's does."""
    with started(lambda: RedisServer("--requirepass", "s3cret")) as server:
        yield server


@pytest.fixture(params=["redis", "azure_redis", "azure_storage"])
def machines(request, isolated, tmp_path, team):
    """Two machines of a team, over a real tier."""
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        given = {"connection": {"endpoint": f"127.0.0.1:{server.port}"}}
    elif request.param == "azure_redis":
        server = request.getfixturevalue("guarded_redis")
        given = {"connection": {"endpoint": f"127.0.0.1:{server.port}", "key": "s3cret", "ssl": False}}
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
            request.param,
            dimension=DIMENSION,
            namespace=team,
            dir=tmp_path / name,
            connect_timeout="30s",
            command_timeout="30s",
            on_event=told.append,
            **given,
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


def test_a_teammates_question_is_found(isolated, team, redis_server, unique_server, monkeypatch):
    """What one machine was answered another gets for a question in other words, until it is invalidated for all."""
    from guard_pairs import SAME

    from genai_cache_magic.api import similar
    from genai_cache_magic.vectors.guard import differs

    one, other = next((one, other) for one, other in SAME if differs(one, other) is None)
    monkeypatch.setattr(similar, "_local", lambda: lambda texts: [[1.0] * similar.DIMENSION for _ in texts])
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url)
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)

    def asked(machine: str, text: str) -> tuple[Any, str]:
        reset_session()
        monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / machine))
        messages: Any = [{"role": "user", "content": text}]
        with (
            llm_cache(semantic=0.9, mode="read" if machine == "b" else "use") as cell,
            openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client,
        ):
            made = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
        assert cell.troubles == ()
        told = current_session().cache(team).team
        assert told is not None
        assert told._drain.finish(within_s=30)
        return cell.calls[0].outcome, made.choices[0].message.content or ""

    _, answer = asked("a", one)
    give_up_at = time.monotonic() + 30
    while (found := asked("b", other))[0] is Outcome.MISS and time.monotonic() < give_up_at:
        pass  # the first listing of a tier is waited for a moment only, and goes on behind
    assert found == (Outcome.SIMILAR, answer)
    current_session().cache(team).clear()
    assert asked("b", other)[0] is Outcome.MISS
