"""A run that one machine records is its team's: listed, compared, exported and replayed by another, over real tiers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import open_cell
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.runs import team_pins
from genai_cache_magic.testing.servers import AZURITE_KEY

pytestmark = pytest.mark.service

MODEL = "gpt-4.1-mini"
_WAIT_S = 60

EXECUTE = """
import json, sys
import openai
from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.errors import ReplayMiss

url, mode, run, *texts = sys.argv[1:]
said = []
with llm_cache(run=run, mode=mode) as cell:
    client = openai.OpenAI(base_url=url, max_retries=0)
    for text in texts:
        answer = client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": text}])
        said.append(answer.model_dump_json())
print(json.dumps({"said": said, "hits": cell.hits, "misses": cell.misses}))
"""


@pytest.fixture(params=["redis", "cluster", "blob"])
def l2(request):
    blob = "" if request.param in {"redis", "cluster"} else f"{request.getfixturevalue('azurite').account_url}/runs"
    if request.param == "blob":
        return blob
    redis = request.getfixturevalue("redis_nodes" if request.param == "cluster" else "redis_server").url
    return ",".join(filter(None, (redis, blob)))


@pytest.fixture
def on(isolated, team, monkeypatch):
    """Go on as another machine of the team, which has a directory of its own."""
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    monkeypatch.setenv("GENAI_CACHE_L2_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("GENAI_CACHE_L2_CREATE_CONTAINER", "true")

    def machine(name, l2):
        reset_session()  # which tells the team what waits
        monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / name))
        monkeypatch.setenv("GENAI_CACHE_PERSON", name)
        monkeypatch.setenv("GENAI_CACHE_L2", l2)
        cache = current_session().cache(team)
        give_up_at = time.monotonic() + _WAIT_S
        while cache.team is None:  # on a loaded machine it may have to try again
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        return cache

    return machine


def ask(url, text, **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more).id


def execute(url, *texts, run="sweep", **options):
    with llm_cache(run=run, **options):
        return [ask(url, text) for text in texts]


def in_a_process(url, mode, run, *texts, **more):
    """Execute calls as a process of its own; one that replays has no key."""
    environment = {**os.environ, **more}
    environment.pop("OPENAI_API_KEY", None)
    if mode != "replay":
        environment["OPENAI_API_KEY"] = "k"
    words = [sys.executable, "-c", EXECUTE, url, mode, run, *texts]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("l2", ["redis", "blob"], indirect=True)
def test_a_colleague_replays_a_run_without_a_key(on, l2, isolated, unique_server):
    """Two processes that share nothing but the tier: no call goes to a model, and every answer is the same."""
    on("ann", l2)
    first = in_a_process(unique_server.openai_url, "use", "sweep", "a", "b", "c")
    assert (first["hits"], first["misses"]) == (0, 3)
    asked = unique_server.count
    cache = on("bob", l2)
    replayed = in_a_process(unique_server.openai_url, "replay", "sweep", "a", "b", "c")
    assert replayed == {**first, "hits": 3, "misses": 0}
    assert unique_server.count == asked == 3
    (listed,) = cache.runs.list()
    assert (listed.name, listed.calls, listed.persons) == ("sweep", 3, ("ann",))  # who replays leaves it as it is


def test_a_colleague_lists_shows_compares_and_exports(on, l2, isolated, unique_server):
    """As on the machine that recorded it; the answers are fetched from the tier."""
    url = unique_server.openai_url
    on("ann", l2)
    execute(url, "a", "b")
    bob = on("bob", l2)
    (listed,) = bob.runs.list()
    assert (listed.name, listed.calls, listed.models, listed.persons) == ("sweep", 2, (f"{MODEL}",), ("ann",))
    found = bob.runs.show("sweep")
    assert [call.outcome for call in found.calls] == ["miss", "miss"]
    assert found.summary == listed
    execute(url, "a", "changed", run="mine")
    diff = bob.runs.diff("sweep", "mine")
    assert (diff.same, [pair.parts for pair in diff.differing]) == (1, [("body.messages[0]",)])
    assert bob.runs.export("sweep", "theirs.jsonl", plaintext=True).count == 2
    on("ann", l2).runs.export("sweep", "own.jsonl", plaintext=True)
    assert Path("theirs.jsonl").read_bytes() == Path("own.jsonl").read_bytes()
    with pytest.raises(ConfigurationError, match="there is a run 'mine' of your team"):
        current_session().cache(current_session().settings.namespace).runs.import_("own.jsonl", "mine")
    bob = on("bob", l2)
    with pytest.raises(ConfigurationError, match="there is no run 'swep'; known are mine, sweep"):
        bob.runs.show("swep")


@pytest.mark.parametrize("l2", ["cluster", "blob", "both"], indirect=True)
def test_a_pin_is_the_teams(on, l2, isolated, unique_server):
    """A colleague's replay gives its answers past clear, refresh, expiry and eviction, until one of them unpins it."""
    url = unique_server.openai_url
    ann = on("ann", l2)
    first = execute(url, "a", "b")
    done = ann.runs.pin("sweep")
    assert (done.count, done.is_told) == (2, True)
    ann.clear()
    execute(url, "a", run="other", mode="refresh")
    bob = on("bob", l2)
    assert bob.runs.list()[-1].is_pinned
    asked = unique_server.count
    assert replayed(url, "a", "b") == first
    on("cem", l2)
    assert replayed(url, "b") == first[1:]
    assert unique_server.count == asked
    assert on("bob", l2).runs.unpin("sweep")
    for name in ("ann", "bob", "cem"):
        runs = on(name, l2).runs
        assert runs.pinned("sweep") is None
        assert not runs.show("sweep").summary.is_pinned
        assert not runs.unpin("sweep")


def test_a_newer_pin_takes_the_place_of_an_older_one(on, redis_server, isolated, unique_server):
    """On every machine, whoever of them pinned it, and nothing is left of the older one."""
    url, l2 = unique_server.openai_url, redis_server.url
    on("ann", l2)
    first = execute(url, "a")
    current_session().cache(os.environ["GENAI_CACHE_NAMESPACE"]).runs.pin("sweep")
    bob = on("bob", l2)
    assert replayed(url, "a") == first
    (second,) = execute(url, "a", mode="refresh")
    bob.runs.pin("sweep")
    on("ann", l2)
    assert replayed(url, "a") == [second]
    assert len(pinned_groups(redis_server)) == 1


def replayed(url, *texts):
    with llm_cache(run="sweep", mode="replay") as cell:
        said = [ask(url, text) for text in texts]
    assert {call.reason for call in cell.calls} == {"from pinned run sweep"}
    return said


def pinned_groups(server):
    """Return the keys under which parts of pinned runs are: those that never expire, but the list of them."""
    redis = pytest.importorskip("redis", reason="pip install redis")
    with redis.Redis.from_url(server.url) as client:
        keys = client.scan_iter(match=f"genai-cache:1:{os.environ['GENAI_CACHE_NAMESPACE']}:p:*")
        endless = [key for key in keys if client.ttl(key) == -1]
        return [key for key in endless if any(len(value) > 600 for value in client.hvals(key))]


@pytest.mark.parametrize("how", ["rubbish", "swapped", "gone"])
def test_parts_that_can_not_be_used_are_said(on, redis_server, isolated, unique_server, how):
    """Replay goes on from the cache, and the cell says why; to pin again mends it."""
    redis = pytest.importorskip("redis", reason="pip install redis")
    url, l2 = unique_server.openai_url, redis_server.url
    on("ann", l2)
    first = execute(url, "a", "b")
    runs = current_session().cache(os.environ["GENAI_CACHE_NAMESPACE"]).runs
    runs.pin("sweep")
    (key,) = pinned_groups(redis_server)
    with redis.Redis.from_url(l2) as client:
        for name, value in client.hgetall(key).items():
            if how == "gone":
                client.delete(key)
            else:
                client.hset(key, name, b"rubbish" if how == "rubbish" else value[:-4] + bytes(4))
    on("bob", l2)
    with llm_cache(run="sweep", mode="replay") as cell:
        assert [ask(url, text) for text in ("a", "b")] == first
    assert any("the team's pinned answers of run 'sweep' can't be used" in one.message for one in cell.troubles)
    on("ann", l2).runs.pin("sweep")
    on("bob", l2)
    assert replayed(url, "a", "b") == first


def test_a_run_that_is_too_large_is_pinned_here_alone(on, redis_server, isolated, unique_server, monkeypatch):
    """Which is said, and holds on this machine."""
    monkeypatch.setattr(team_pins, "_MOST_PARTS", 0)
    url = unique_server.openai_url
    ann = on("ann", redis_server.url)
    first = execute(url, "a")
    assert ann.runs.pin("sweep").is_told is None
    ann.clear()
    assert replayed(url, "a") == first
    assert not on("bob", redis_server.url).runs.list()[0].is_pinned


def test_what_was_imported_stays_here(on, redis_server, isolated, unique_server):
    """Its file answers a replay on this machine, and no teammate hears of it."""
    url = unique_server.openai_url
    ann = on("ann", redis_server.url)
    first = execute(url, "a")
    ann.runs.export("sweep", "sweep.jsonl", plaintext=True)
    bob = on("bob", redis_server.url)
    bob.runs.import_("sweep.jsonl", "theirs")
    bob.clear()
    with llm_cache(run="theirs", mode="replay"):
        assert ask(url, "a") == first[0]
    assert [run.name for run in bob.runs.list()] == ["sweep", "theirs"]
    assert [run.name for run in on("ann", redis_server.url).runs.list()] == ["sweep"]


def test_a_pin_is_told_after_an_outage(on, isolated, unique_server):
    """It holds here at once and says so; a tier that lost everything gets it again."""
    from services import started

    from genai_cache_magic.testing.servers import RedisServer

    url = unique_server.openai_url
    with started(RedisServer) as server:
        ann = on("ann", server.url)
        first = execute(url, "a")
        server.stop()
        assert ann.runs.pin("sweep").is_told is False
        assert replayed(url, "a") == first
        server.start()
        give_up_at = time.monotonic() + 2 * _WAIT_S
        while not ann.runs._team_pins.is_told("sweep"):
            assert time.monotonic() < give_up_at
            ann.ledger.shared.tell_now(within_s=1)
            time.sleep(0.2)
        ann.clear()
        on("bob", server.url)
        assert replayed(url, "a") == first
        server.stop()  # it keeps nothing
        server.start()
        ann = on("ann", server.url)
        assert replayed(url, "a") == first
        ann.ledger.shared.lost()
        ann.ledger.shared.tell_now(within_s=_WAIT_S)
        on("cem", server.url)
        assert replayed(url, "a") == first


def test_a_run_of_two_machines_is_one(on, redis_server, isolated, unique_server):
    """Of a cell the last execution counts, on whichever machine it was; other cells stay."""
    url, l2 = unique_server.openai_url, redis_server.url

    def cell(name, *texts):
        session = current_session()
        opened = open_cell(session, session.options(run="sweep"), cell=name)
        try:
            return [ask(url, text) for text in texts]
        finally:
            opened.close()

    on("ann", l2)
    cell("one", "a", "b")
    cell("two", "c")
    on("bob", l2)
    cell("one", "a", "changed")
    for name in ("ann", "bob"):
        runs = on(name, l2).runs
        found = runs.show("sweep")
        assert sorted((call.cell, call.person, call.outcome) for call in found.calls) == [
            ("one", "bob", "hit"),
            ("one", "bob", "miss"),
            ("two", "ann", "miss"),
        ]
        assert runs.list() == (found.summary,)


def test_names_are_read_by_nobody_else(on, redis_server, isolated, unique_server):
    """Neither the name of a run nor what is noted of it stands readable in a tier."""
    on("ann", redis_server.url)
    execute(unique_server.openai_url, "secret prompt", run="secret-run")
    reset_session()
    redis = pytest.importorskip("redis", reason="pip install redis")
    with redis.Redis.from_url(redis_server.url) as client:
        keys = list(client.scan_iter(match=f"genai-cache:1:{os.environ['GENAI_CACHE_NAMESPACE']}:p:*"))
        assert len(keys) == 3  # usage, runs, and this run
        for key in keys:
            for part in (key, *(part for pair in client.hgetall(key).items() for part in pair)):
                for name in (b"secret", b"gpt-4", b"openai"):
                    assert name not in part


def test_offline_the_last_known_runs_are_shown(on, isolated, unique_server, capsys):
    """With what could not be asked; to export what is not here says so too."""
    from services import started

    from genai_cache_magic.testing.servers import RedisServer

    with started(RedisServer) as server:
        on("ann", server.url)
        execute(unique_server.openai_url, "a", "b")
        bob = on("bob", server.url)
        bob.runs.show("sweep")
        bob.runs.list()
        server.stop()
        (listed,) = bob.runs.list()
        assert listed.calls == 2
        (note,) = bob.runs.notes
        assert note.startswith("what other machines have recorded is as of 20")
        assert bob.runs.show("sweep").summary == listed
        with pytest.raises(StoreUnavailable, match=r"2 of 2 answers of run 'sweep' .* the team can't be asked"):
            bob.runs.export("sweep", "theirs.jsonl", plaintext=True)
        with contextlib.suppress(SystemExit):
            main(["runs", "list"])
        assert "what other machines have recorded is" in capsys.readouterr().out
