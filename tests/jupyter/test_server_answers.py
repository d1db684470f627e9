"""What the server's routes answer about a cache, without HTTP."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from types import SimpleNamespace

import pytest
from machines import Origin, Team

from genai_cache_magic import create_cache
from genai_cache_magic.core.model import EntryId, Metadata
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.jupyter.server import answers, workers
from genai_cache_magic.jupyter.server.caches import Caches, NotHere, OtherCache, Unusable

PIECE = 16


@pytest.fixture
def caches(isolated):
    opened = Caches()
    yield opened
    opened.close()


@pytest.fixture
def cache(isolated):
    with create_cache() as cache:
        yield cache


def over(cache):
    """Return what stands for the caches of a server that has but one."""
    return SimpleNamespace(cache=lambda _place: cache)


def test_ten_thousand_entries_are_paged(isolated, monkeypatch):
    """Each is on one page, the newest first; beyond the end there is nothing."""
    with create_cache("memory") as cache:
        rows = cache.catalogue.rows
        header = cache._entries.header(cache.birth(), ttl_s=3600, tags=[cache._keys.tag("user", "all")])

        rows.record(
            [
                (EntryId(f"{n:064x}"), header, Metadata(surface="value", key=f"key {n:05}", tags=("all",)))
                for n in range(10_000)
            ]
        )
        monkeypatch.setattr(cache.catalogue, "_settle", lambda: None)  # which would miss their answers
        first = answers.entries(over(cache), {"limit": "500"})
        assert first["total"] == 10_000
        names = [item["name"] for item in first["entries"]]
        assert names == [f"key {n:05}" for n in range(9_999, 9_499, -1)]
        last = answers.entries(over(cache), {"offset": "9990", "limit": "500"})
        assert [item["name"] for item in last["entries"]] == [f"key {n:05}" for n in range(9, -1, -1)]
        assert answers.entries(over(cache), {"offset": "10000"})["entries"] == []
        found = answers.entries(over(cache), {"search": "KEY 0001", "tag": "all", "limit": "3"})
        assert (found["total"], len(found["entries"])) == (10, 3)


def test_filters_choose_by_all_that_is_given(caches, cache):
    """Search, tag and namespace; what carries one tag of two is not shown."""
    cache.mset({"a 1": 1, "a 2": 2}, tags=["x", "y"])
    cache.mset({"a 3": 3, "b 4": 4}, tags=["x"])

    def names(**given):
        return [item["name"] for item in answers.entries(caches, given)["entries"]]

    assert names(tag="x") == ["b 4", "a 3", "a 2", "a 1"]
    assert names(tag="y", search="A") == ["a 2", "a 1"]
    assert names(tag="z") == []
    assert names(run="x") == []
    assert names(namespace="elsewhere") == []


def test_stats_count_by_tag(caches, cache):
    """Tags come with how many valid answers carry them; what is invalid is not counted, nor is an expired one."""
    cache.mset({"a": 1, "b": 2}, tags=["x", "y"])
    cache.set("c", 3, tags=["x"])
    assert {tag["name"]: tag["count"] for tag in answers.stats(caches, {})["tags"]} == {"x": 3, "y": 2}
    cache.invalidate("c")
    found = answers.stats(caches, {})
    assert (found["entries"], found["store"], found["namespace"]) == (2, cache.fingerprint, "default")
    assert {tag["name"]: tag["count"] for tag in found["tags"]} == {"x": 2, "y": 2}


def test_usage_is_that_of_the_ledger(caches, cache):
    """What the calls of any kernel came to is told by day, model or whoever is asked for."""
    for outcome in (Outcome.MISS, Outcome.HIT, Outcome.HIT):
        price = Decimal("0.25")
        saved = price if outcome is Outcome.HIT else Decimal(0)  # as a miss is told
        call = CallRecord(outcome, model="m", spent_usd=price, saved_usd=saved)
        cache.ledger.books.note(call, run="", person="")
    cache.ledger.books.flush()
    found = answers.usage(caches, {"since": "today", "by": "model"})
    (row,) = found["rows"]
    assert (row["model"], row["misses"], row["hits"], row["spent_usd"], row["saved_usd"]) == ("m", 1, 2, "0.25", "0.5")


def test_an_entry_and_its_body(caches, cache):
    """An id goes out as 16 hex digits, by which it is found again; the answer is text whatever it holds."""
    cache.set("k", "<img src=x onerror=alert(1)>", tags=["t"])
    (item,) = answers.entries(caches, {})["entries"]
    assert len(item["id"]) == PIECE
    assert answers.entry(caches, {"entry": item["id"]})["entry"] == item
    assert answers.body(caches, {"entry": item["id"]})["text"] == "<img src=x onerror=alert(1)>"
    assert "asked" not in item
    cache.set("k", b"\0\1\2")
    assert answers.body(caches, {"entry": item["id"]})["text"] == "(3 bytes that are no text)"


def test_an_entry_that_went_meanwhile_is_said_to_be_gone(caches, cache):
    """Whoever looks at a list that is no longer true gets a sentence."""
    cache.mset({"a": 1, "b": 2})
    ids = [item["id"] for item in answers.entries(caches, {})["entries"]]
    cache.delete("a")
    (gone,) = [i for i in ids if answers.live(caches, {"entries": [i]})["entries"][i]["state"] == "absent"]
    for route in (answers.entry, answers.body):
        with pytest.raises(NotHere, match="not in the cache any more"):
            route(caches, {"entry": gone})
    assert answers.explain(caches, {"entry": gone})["notes"] != []  # what became of it
    with pytest.raises(NotHere, match="nothing to compare"):
        answers.explain(caches, {"entry": "0" * 16})
    found = answers.invalidate(caches, {"entries": ids, "dry_run": False})
    assert found["count"] == 1
    assert "1 answer is not in the cache any more" in found["sentence"]
    assert answers.invalidate(caches, {"entries": [gone]})["count"] == 0


def test_what_is_alive_has_an_age_and_a_latency(caches, cache):
    """Of an entry that is named by the notebook it is said how old it is; others are not spoken of."""
    cache.mset({"a": 1, "b": 2})
    (item, _) = answers.entries(caches, {})["entries"]
    (facts,) = answers.live(caches, {"entries": [item["id"]]})["entries"].values()
    assert facts["state"] == "valid"
    assert facts["age_s"] >= 0
    assert facts["latency_s"] == 0
    assert facts["tier"] == "L1"


def test_the_rule_is_proposed_where_noise_is_all_that_differs(isolated):
    """To everyone: it holds no word of a prompt."""
    with create_cache("memory") as cache:
        header = cache._entries.header(cache.birth(), ttl_s=3600, tags=[])
        parts = [{"surface": "aa" * 8, "body.messages": f"0{n}" * 8} for n in range(2)]
        cache.catalogue.rows.record(
            [
                (EntryId(f"{n:064x}"), header, Metadata(surface="s", components=parts[n], without_noise={"uuid": "ab"}))
                for n in range(2)
            ]
        )
        cache.catalogue._settle = lambda **_: None
        notes = answers.explain(over(cache), {"entry": f"{1:064x}"})["notes"]
    assert notes[-1].startswith("the two differ only in a uuid: --ignore uuid would make this a hit")


def test_what_differs_is_shown_to_those_who_may_read_it(isolated):
    """Names to everyone; words of prompts, without what an address carries, with leave alone."""
    with create_cache("memory") as cache:
        header = cache._entries.header(cache.birth(), ttl_s=3600, tags=[])
        parts = [{"surface": "aa" * 8, "body.messages": f"0{n}" * 8} for n in range(2)]
        texts = ["look at https://ann:secret@example.com/a?key=1", "look at https://example.com/b"]
        cache.catalogue.rows.record(
            [
                (EntryId(f"{n:064x}"), header, Metadata(surface="s", preview=texts[n], components=parts[n]))
                for n in range(2)
            ]
        )
        given = {"entry": f"{1:064x}"}
        cache.catalogue._settle = lambda **_: None  # which would miss their answers
        named = answers.explain(over(cache), given)
        assert named["differs"] == ["body.messages"]
        assert named["diff"][0].startswith("the beginning of the prompt: ")
        assert "example" not in str(named)
        assert "authorizer" in named["notes"][-1]
        shown = answers.explain(over(cache), given, shows_text=True)
        assert shown["diff"] == ["- look at https://example.com/a", "+ look at https://example.com/b"]
        assert not any("authorizer" in note for note in shown["notes"])


def test_what_the_team_alone_has_is_said_to_lie_there(tmp_path, monkeypatch):
    """A server knows where an answer lies now: on its own machine, or in the team's tier."""
    team = Team(tmp_path, monkeypatch)
    ada, ben = team.machine("ada"), team.machine("ben")
    ada.ask(Origin())
    ada.told()
    ben.sees()
    (item,) = answers.entries(over(ben.cache), {})["entries"]

    def tier(machine):
        return answers.live(over(machine.cache), {"entries": [item["id"]]})["entries"][item["id"]]["tier"]

    assert (tier(ada), tier(ben)) == ("L1", "L2")
    ben.ask(Origin())
    assert tier(ben) == "L1"
    team.close()


@pytest.mark.parametrize(
    ("by", "count"), [({"tag": "x"}, 2), ({"pattern": "a*"}, 1), ({"older_than": "1h"}, 0), ({"run": "r"}, 0)]
)
def test_invalidation_is_counted_first(caches, cache, by, count):
    """Nothing is changed unless the request says that it is no dry run, and then what was counted is invalid."""
    cache.mset({"a": 1, "b": 2}, tags=["x"])
    counted = answers.invalidate(caches, by)
    assert (counted["count"], counted["known"], counted["dry_run"]) == (count, 2, True)
    assert cache.mget(["a", "b"]) == [1, 2]
    done = answers.invalidate(caches, {**by, "dry_run": False, "store": cache.fingerprint})
    assert (done["count"], done["published"]) == (count, "local")
    assert sum(value is None for value in cache.mget(["a", "b"])) == count


def test_another_cache_is_refused(caches, cache, tmp_path):
    """A notebook that was run with another store invalidates nothing here."""
    cache.set("a", 1, tags=["x"])
    with create_cache(dir=tmp_path / "other", key_file=tmp_path / "keys" / "other") as other:
        elsewhere = {"tag": "x", "dry_run": False, "store": other.fingerprint}
    with pytest.raises(OtherCache, match="another cache"):
        answers.invalidate(caches, elsewhere)
    assert cache.get("a") == 1


def test_a_name_space_of_this_directory_is_found_by_its_fingerprint(caches, cache):
    """A cell that named another name space has its buttons too."""
    cache.set("a", 1)
    with create_cache(namespace="second") as second:
        second.set("b", 2, tags=["x"])
        done = answers.invalidate(caches, {"tag": "x", "dry_run": False, "store": second.fingerprint})
        assert (done["namespace"], done["count"]) == ("second", 1)
        assert second.get("b") is None
    assert cache.get("a") == 1


def test_settings_are_read_anew_while_they_are_wrong(caches, monkeypatch):
    """Whoever mends a setting need not start the server anew."""
    monkeypatch.setenv("GENAI_CACHE_TTL", "soon")
    with pytest.raises(Unusable, match="soon"):
        answers.stats(caches, {})
    assert answers.health(caches, {})["l1"]["state"] == "broken"
    monkeypatch.setenv("GENAI_CACHE_TTL", "1d")
    assert answers.stats(caches, {})["entries"] == 0


def test_settings_are_read_anew_where_they_lead_elsewhere(isolated, monkeypatch, tmp_path):
    """A kernel that was started with a new directory is found, though not at every question."""
    now = [0.0]
    caches = Caches(clock=lambda: now[0])
    answers.stats(caches, {})
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "moved"))
    with create_cache() as moved:
        with pytest.raises(OtherCache):
            answers.stats(caches, {"store": moved.fingerprint})
        now[0] += 60
        assert answers.stats(caches, {"store": moved.fingerprint})["store"] == moved.fingerprint
    caches.close()


def test_the_config_is_masked(caches, monkeypatch):
    """No credential is among the settings, and this machine is not named."""
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://ann:secret-1@127.0.0.1:1/0")
    monkeypatch.setenv("GENAI_CACHE_L2_PASSWORD", "secret-2")
    shown = str(answers.config(caches, {})) + str(answers.doctor(caches, {})) + str(answers.health(caches, {}))
    assert "secret-" not in shown
    assert "l2_password" in shown


def test_a_team_that_can_not_be_reached_is_told_of(tmp_path, isolated, monkeypatch):
    """L2 is said to be well, unreachable, or behind with what it has to be told."""
    team = Team(tmp_path, monkeypatch)
    machine = team.machine("a")
    caches = SimpleNamespace(
        cache=lambda _place: machine.cache,
        told=lambda _name: [],
        session=lambda: SimpleNamespace(settings=SimpleNamespace(l2=("redis://x",))),
    )
    try:
        machine.ask(Origin(), tags=["t"])
        assert answers.health(caches, {})["l2"] == {"state": "ok", "sentence": ""}
        machine.tier.is_away = True
        assert answers.health(caches, {})["l2"]["state"] == "unreachable"
        done = answers.invalidate(caches, {"tag": "t", "dry_run": False})
        assert done["published"] == "queued"
        assert "can't be reached" in done["sentence"]
    finally:
        machine.tier.is_away = False
        team.close()


async def test_more_work_than_can_be_done_is_refused(monkeypatch):
    """Questions wait in threads of our own, never in the event loop, and not without bound."""
    monkeypatch.setattr(workers, "MOST_WAITING", 4)
    pool = workers.Workers()
    go_on = threading.Event()
    waiting = [asyncio.create_task(pool.run(go_on.wait)) for _ in range(4)]
    await asyncio.sleep(0)  # the loop goes on while they wait, and each of them has begun
    with pytest.raises(workers.Busy, match="try again"):
        await pool.run(go_on.wait)
    go_on.set()
    assert await asyncio.gather(*waiting) == [True] * 4
    assert await pool.run(lambda: 7) == 7
    pool.close()


@pytest.mark.parametrize("given", [{"offset": True}, {"limit": 1.5}, {"search": 3}, {"tag": ["x"]}, {"limit": "٣"}])
def test_wrong_parameters_are_refused_by_name(caches, given):
    """The sentence names what is wrong."""
    (name,) = given
    with pytest.raises(ConfigurationError, match=name):
        answers.entries(caches, given)
