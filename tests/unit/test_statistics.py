"""How a cache is used is counted behind, kept within bounds, and told with advice that applies nothing."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import Decimal

import openai
import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api import insight
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.core.policy import Why
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.jupyter.arguments import parse_insight
from genai_cache_magic.jupyter.commands import _stats
from genai_cache_magic.jupyter.shown.insight import advice_report, hit_line, log_note, tables
from genai_cache_magic.ledger import statistics
from genai_cache_magic.ledger.accounts import DAY_MS
from genai_cache_magic.ledger.advice import Facts, KnownEntry, advise
from genai_cache_magic.ledger.statistics import AGES_H, REASONS, Measure, Statistics, latency_bucket, latency_of

MODEL = "gpt-4.1-mini"
NOW_MS = 20_000 * DAY_MS
HOUR_MS = 3_600_000


def entry_id(n):
    return f"{n:064x}"


def miss(n=1, *, spent="0.5", reason="", outcome=Outcome.MISS, **more):
    price = None if spent is None else Decimal(spent)
    said = {"stored": True, "model": MODEL, "entry_id": entry_id(n), "spent_usd": price, "latency_s": 1.0, **more}
    return CallRecord(outcome, reason=reason, **said)


def hit(n=1, *, tier=Tier.L1, **more):
    said = {"model": MODEL, "entry_id": entry_id(n), "saved_usd": Decimal("0.5"), "latency_s": 0.001, **more}
    return CallRecord(Outcome.HIT, tier=tier, **said)


@pytest.fixture
def counted():
    file = StateFile(None, statistics.SCHEMA, columns=statistics.COLUMNS)
    return Statistics(file, ColumnSeal(b"k" * 32), keyed=lambda digest: digest[:16])


def of(counted, measure, day=NOW_MS // DAY_MS):
    return {one.bucket: (one.calls, one.spent) for one in counted.between(0, day) if one.measure == measure}


def facts(*, measured=(), entries=(), read=frozenset(), since_ms=0, sizes=None, ttl_s=86_400):
    return Facts(ttl_s, "1 GiB", NOW_MS, measured, entries, read, since_ms, sizes or {})


@pytest.mark.parametrize("latency_s", [0.0, 1e-6, 0.000_4, 0.03, 1.0, 37.5, 3600.0])
def test_a_latency_is_told_to_a_tenth(latency_s):
    """Whatever its size; nothing is faster than a microsecond."""
    told = latency_of(latency_bucket(latency_s))
    assert told == pytest.approx(max(latency_s, 1e-6), rel=0.1)


def test_what_is_counted_of_a_call(counted):
    """Its tier and latency, why it missed, which sample was stored, and how often its entry is read."""
    counted.add([(NOW_MS, miss(1)), (NOW_MS, miss(2, sample=1)), (NOW_MS, hit(1)), (NOW_MS, hit(1, tier=Tier.L2))])
    counted.add([(NOW_MS, hit(2, tier=Tier.FILE)), (NOW_MS, miss(3, outcome=Outcome.ERROR))])
    assert of(counted, Measure.MODEL) == {latency_bucket(1.0): (2, 10**12)}
    assert [sum(n for n, _ in of(counted, m).values()) for m in (Measure.L1, Measure.L2, Measure.FILE)] == [1, 1, 1]
    assert of(counted, Measure.SAMPLE) == {0: (1, 5 * 10**11), 1: (1, 5 * 10**11)}
    (use,) = counted.most_read(5)  # a run file names requests, which are no entries
    assert (use.entry_id, use.reads, use.saved) == (entry_id(1), 2, 10**12)
    assert counted.read_ids() == ({entry_id(1)}, NOW_MS)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (miss(9), "new"),
        (miss(1), "evicted"),
        (miss(1, reason="expired on 2026-05-01", outcome=Outcome.STALE), "expired"),
        (miss(1, reason="cleared", outcome=Outcome.STALE), "cleared"),
        (miss(1, reason="invalidated by tag baseline", outcome=Outcome.STALE), "invalidated"),
        (miss(1, reason="something new", outcome=Outcome.STALE), "other"),
        (miss(1, reason=Why.REFRESH.value), "refreshed"),
        (miss(1, reason=Why.DAMAGED.value), "damaged"),
        (miss(1, reason=Why.UNSUITED.value), "unsuited"),
        (miss(1, reason=Why.UNCONFIRMED.value), "unconfirmed"),
        (miss(1, reason="truncated", outcome=Outcome.REFUSED, stored=False), "refused"),
    ],
)
def test_why_a_model_was_asked(counted, call, why):
    """By the reason of its record, and by whether its answer was stored before."""
    counted.add([(NOW_MS - DAY_MS, miss(1))])
    counted.add([(NOW_MS, call)])
    found = {one.bucket for one in counted.between(NOW_MS // DAY_MS, NOW_MS // DAY_MS) if one.measure == Measure.WHY}
    assert found == {REASONS.index(why)}


def test_how_old_was_what_had_expired(counted):
    """It is known of what was stored here, and grows with each refill."""
    stale = miss(1, reason="expired on 2026-05-01", outcome=Outcome.STALE)
    counted.add([(NOW_MS, miss(1)), (NOW_MS + 30 * HOUR_MS, stale), (NOW_MS + 400 * HOUR_MS, stale)])
    counted.add([(NOW_MS, miss(2, reason="expired on 2026-05-01", outcome=Outcome.STALE))])
    found = of(counted, Measure.EXPIRED, day=NOW_MS // DAY_MS + 30)
    assert sorted(found) == [AGES_H.index(48), AGES_H.index(720)]


def test_it_stays_within_bounds(counted, monkeypatch):
    """Of many entries those are forgotten that nobody has asked for longest, and so are days long past."""
    monkeypatch.setattr(statistics, "MOST_ENTRIES", 20)
    monkeypatch.setattr(statistics, "_PRUNE_EVERY", 1)
    counted.add([(NOW_MS, hit(0))])
    later_ms = NOW_MS + (statistics.KEPT_DAYS + 1) * DAY_MS
    counted.add([(later_ms + n, hit(n)) for n in range(1, 31)])
    assert {use.entry_id for use in counted.most_read(100)} == {entry_id(n) for n in range(21, 31)}
    assert len(counted.between(0, NOW_MS // DAY_MS)) == 0
    assert counted.read_ids()[1] == later_ms + 21


def test_no_number_is_too_large(counted):
    """Whatever a bill or a clock says, it is counted within what the database holds."""
    counted.add([(NOW_MS, miss(n, spent="2000000", latency_s=float("inf"))) for n in range(5)])
    counted.add([(NOW_MS, hit(n, saved_usd=Decimal("1e300"), latency_s=float("nan"))) for n in range(5)])
    ((calls, spent),) = of(counted, Measure.MODEL).values()
    assert (calls, spent) == (5, 2**62)
    assert [use.saved for use in counted.most_read(9)] == [0] * 5


def test_nothing_is_readable_at_rest(tmp_path):
    """Models are sealed; who has another key reads no names."""
    file = StateFile(tmp_path / "s.db", statistics.SCHEMA, columns=statistics.COLUMNS)
    Statistics(file, ColumnSeal(b"k" * 32), keyed=lambda digest: digest[:16]).add([(NOW_MS, miss(1))])
    assert all(MODEL.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    other = Statistics(file, ColumnSeal(b"o" * 32), keyed=lambda digest: digest[:16])
    assert {one.model for one in other.between(0, NOW_MS)} == {""}
    file.close()


def test_advice_on_the_time_to_live(counted):
    """The shortest one that would have kept nearly all, with calls and money."""
    ages_h = [*[50] * 8, 160, 4000]
    for n, age_h in enumerate(ages_h):
        counted.add([(NOW_MS - age_h * HOUR_MS, miss(n, spent="0"))])
        counted.add([(NOW_MS, miss(n, reason="expired on 2026-05-01", outcome=Outcome.STALE))])
    counted.add([(NOW_MS, miss(100, spent=None, reason="expired on 2026-05-01", outcome=Outcome.STALE))])
    (advice,) = advise(facts(measured=counted.between(0, NOW_MS)))
    assert advice.says == "a ttl of 3d instead of 1d would have turned 8 misses into hits"
    assert (advice.about, advice.write, advice.calls, advice.saved_usd) == ("ttl", 'ttl = "3d"', 8, Decimal(4))
    (advice,) = advise(facts(measured=counted.between(0, NOW_MS), ttl_s=30 * 86_400))
    assert (advice.write, "where a shorter one was asked for" in advice.says) == ("--ttl 3d", True)
    assert advise(facts()) == ()


def test_advice_on_eviction(counted):
    """What was stored and is asked for again costs what it did."""
    counted.add([(NOW_MS, miss(n)) for n in (1, 2, 1, 2)])
    (advice,) = advise(facts(measured=counted.between(0, NOW_MS)))
    assert (advice.about, advice.calls, advice.saved_usd) == ("eviction", 2, Decimal(1))
    assert "1 GiB" in advice.says


def test_advice_on_noise():
    """The fewest rules that join requests, each counted once; the first of them was to be asked."""
    keys = [
        {"uuid": "a"},
        {"uuid": "a"},
        {"uuid": "a"},
        {"uuid": "b", "iso-time+uuid": "z"},
        {"iso-time+uuid": "z"},
        {},
    ]
    entries = [KnownEntry(entry_id(n), n, Decimal("0.25"), without_noise=one) for n, one in enumerate(keys)]
    first, second = advise(facts(entries=entries))
    assert (first.about, first.write, first.calls, first.saved_usd) == ("noise", "--ignore uuid", 2, Decimal("0.5"))
    assert (second.write, second.calls) == ("--ignore iso-time --ignore uuid", 1)


def test_advice_on_fields_that_differ_each_time():
    """Of those that are named like a note about a call; a sweep over what is asked is none."""

    def entries(field, values, **same):
        parts = [{"body.messages": "m", "body.messages[0]": "x", f"body.{field}": value, **same} for value in values]
        return [KnownEntry(entry_id(n), n, None, components=one) for n, one in enumerate(parts)]

    (advice,) = advise(facts(entries=entries("request_id", "abcd")))
    assert (advice.about, advice.calls, advice.unknown) == ("field", 3, 3)
    assert advice.write == 'key_exclude = ["request_id"], if it decides nothing'
    assert advise(facts(entries=entries("seed", "abc")))[0].write == "one seed, or none"
    assert advise(facts(entries=entries("user", "ab"))) == ()
    assert advise(facts(entries=entries("user", "aabbcc"))) == ()
    assert advise(facts(entries=entries("temperature", "abcd"))) == ()


def test_advice_on_what_nobody_reads():
    """Where most of what is old was never read since it is noted, and how much room it takes."""
    old_ms = NOW_MS - 9 * DAY_MS
    entries = [KnownEntry(entry_id(n), old_ms + n, None) for n in range(20)]
    entries += [KnownEntry(entry_id(99), NOW_MS, None)]
    read = {entry_id(n) for n in range(5)}
    (advice,) = advise(facts(entries=entries, read=read, sizes={entry_id(7): 3 * 1024**2}))
    assert "15 of 20 answers that are older than 7 days" in advice.says
    assert "3.0 MB" in advice.says
    assert advise(facts(entries=entries, read={entry_id(n) for n in range(11)})) == ()
    assert advise(facts(entries=entries, since_ms=NOW_MS)) == ()
    assert advise(facts(entries=entries, since_ms=None)) == ()


def ask(url, text, **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more).id


@pytest.fixture
def used(isolated, server):
    """A cache with three answers, one of them read twice."""
    for text in ("a", "a", "a", "b"):
        with llm_cache(tags=("baseline",), run="sweep"):
            ask(server.openai_url, text)
    with llm_cache(samples="distinct"):
        for _ in range(2):
            ask(server.openai_url, "sampled")
    return current_session().cache("default").insight


def test_statistics_of_a_cache(used):
    """From the first call on, without waiting for what is counted behind."""
    found = used.statistics()
    assert (found.hits, found.misses, round(found.hit_rate, 2)) == (2, 4, 0.33)
    assert [(row.model, row.hits, row.misses) for row in found.models] == [(MODEL, 2, 4)]
    assert [(one.why, one.calls) for one in found.reasons] == [("new", 4)]
    assert [(one.tier, one.calls) for one in found.latencies] == [("L1", 2), ("model", 4)]
    assert all(one.p50_s <= one.p90_s <= one.p99_s for one in found.latencies)
    assert (found.samples, round(found.samples_per_request, 2)) == ({0: 3, 1: 1}, 1.33)
    (popular,) = found.popular
    assert (popular.reads, popular.tags, popular.name.partition(":")[0]) == (2, ("baseline",), MODEL)
    assert popular.saved_usd == 0  # of a server on this machine
    held = {(one.kind, one.name): (one.entries, one.size_bytes > 0) for one in found.holdings}
    assert held == {("model", MODEL): (4, True), ("tag", "baseline"): (2, True), ("run", "sweep"): (2, True)}
    assert json.loads(json.dumps(found.as_json()))["hits"] == 2
    assert hit_line(found).startswith("33% of calls were hits since ")
    assert [heading for heading, _ in tables(found)] == [
        "why models were asked",
        "how long calls took",
        "answers that are read most",
        "what is kept",
    ]


def test_a_long_name_makes_no_wide_table(used):
    """In a terminal and as HTML; scripts get all of it."""
    found = used.statistics()
    name = "a key " * 1_000
    found = replace(found, popular=(replace(found.popular[0], name=name),))
    (table,) = [table for heading, table in tables(found) if heading == "answers that are read most"]
    assert f"{name[:79]}…" in table.as_text()
    assert max(map(len, table.as_text().splitlines())) < 200
    assert name[:80] not in table.as_html()
    assert found.as_json()["popular"][0]["name"] == name


def test_much_is_counted_by_model_where_it_is_asked_for(used, monkeypatch, capsys):
    """Else the command says how to ask, and is as quick as ever."""
    monkeypatch.setattr(insight, "_FEW", 3)
    assert used.statistics().holdings is None
    assert len(used.statistics(has_holdings=True).holdings) == 3
    for words, counted in ((), False), (("--holdings",), True):
        with pytest.raises(SystemExit):
            main(("stats", *words))
        out = capsys.readouterr().out
        assert ("what is kept\n" in out, "--holdings counts it" in out) == (counted, not counted)


def test_a_log_is_no_answer(isolated, capsys):
    """What few answers take is said, as their limit counts it; what the database's log takes beside them, by itself."""
    with create_cache("disk", size_limit="4MiB") as cache:
        cache.set("first", 1)
        assert log_note(cache.stats()) == ()
        cache.mset({f"key {n}": random.Random(n).randbytes(30_000) for n in range(100)})
        cache.clear()
        cache.catalogue.sweeper.wait()
        cache.mset({"a": 1, "b": 2, "c": 3})
        found = cache.stats()
        assert (found.entries, found.size_bytes < 100_000, found.log_bytes > 1_000_000) == (3, True, True)
        assert cache.insight.growth(found.size_bytes).size_bytes < 100_000
        with pytest.raises(SystemExit):
            main(("stats",))
        said = capsys.readouterr().out
        assert f"3 answers, {found.size_bytes / 1000:.1f} kB" in said
        assert "the database's log takes " in said
        assert _stats("").notes.count(*log_note(found)) == 1
        with pytest.raises(SystemExit):
            main(("stats", "--json"))
        told = json.loads(capsys.readouterr().out)
        assert (told["size_bytes"] < 100_000, told["log_bytes"] > 1_000_000) == (True, True)
    current_session().close()
    with create_cache("disk") as cache:
        assert log_note(cache.stats()) == ()


def test_statistics_of_nothing(isolated):
    """A cache that nobody has used says so."""
    with create_cache("memory") as cache:
        found = cache.insight.statistics()
        assert (found.hit_rate, found.samples_per_request, tables(found)) == (None, None, ())
        assert hit_line(found).startswith("no calls since")
        assert cache.insight.optimize() == ()
        with pytest.raises(ConfigurationError, match="is no day"):
            cache.insight.optimize("soon")


def test_advice_changes_nothing(isolated, server):
    """What differs in a note alone is named; who asks for advice has applied none of it."""
    with llm_cache():
        for n in range(4):
            ask(server.openai_url, "a", extra_body={"trace_id": f"trace-{n}"})
    cache = current_session().cache("default")
    before = (cache.stats().entries, cache.key_for({"a": 1}))
    (advice,) = cache.insight.optimize()
    assert (advice.about, advice.calls) == ("field", 3)
    assert "1 thing could be otherwise; nothing was changed" in advice_report([advice]).title
    assert (cache.stats().entries, cache.key_for({"a": 1})) == before
    assert advice_report([]).table is None


def test_trouble_with_the_statistics_is_nobodys(isolated, server, monkeypatch):
    """The books are kept, calls are answered, and what could not be counted is counted with what comes next."""
    with llm_cache():
        ask(server.openai_url, "a")
    cache = current_session().cache("default")
    assert cache.insight.statistics().reasons[0].calls == 1

    def fails(_):
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Statistics, "add", lambda _, noted: fails(noted))
        with llm_cache():
            ask(server.openai_url, "b")
        cache.ledger.books.count()
        assert cache.usage().total.misses == 2
    assert cache.insight.statistics().reasons[0].calls == 2


def test_the_commands(used, capsys):
    """In words and for scripts."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return ended.value.code, captured.out + captured.err

    used.statistics()
    code, out = run("stats", "--since", "7d")
    assert (code, "33% of calls were hits" in out, "answers that are read most" in out) == (0, True, True)
    found = json.loads(run("stats", "--json")[1])
    assert (found["entries"], found["hits"], found["by_model"]) == (4, 2, {MODEL: 4})
    assert "nothing was seen that could be otherwise" in run("optimize")[1]
    assert json.loads(run("optimize", "--json")[1]) == {"namespace": "default", "advice": []}
    assert run("optimize", "--since", "soon")[0] == 2


def test_the_magic_s_words():
    """The first day that counts, and whether to count what is kept."""
    assert (parse_insight("optimize", "").since, parse_insight("stats", "--since 7d").since) == (None, "7d")
    assert parse_insight("stats", "--holdings").holdings
    with pytest.raises(ConfigurationError, match="--sinc"):
        parse_insight("optimize", "--sinc 7d")
