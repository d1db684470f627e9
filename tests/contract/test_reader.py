"""A client that may only read its team's tier: it gets the answers, tries no write, and says so."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta

import orjson
import pytest
import redis
from machines import Machine, Origin
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.opening import acquaint
from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.api.team import joining
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.errors import WriteRefused
from genai_cache_magic.events import Outcome, Tier
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.ops.findings import worst
from genai_cache_magic.ops.roles import REDIS_RULES, redis_keys
from genai_cache_magic.testing.servers import AZURITE_ACCOUNT, AZURITE_KEY, RedisServer

pytestmark = pytest.mark.service

PASSWORD = "secret"
WRITING = {"set", "del", "hset", "hincrby", "hdel", "expire", "pexpire", "config", "unlink", "flushdb"}


@pytest.fixture(scope="module")
def own_server():
    """A Redis with a user for each role."""
    with started(RedisServer) as server:
        with redis.Redis.from_url(server.url) as client:
            for role, rules in REDIS_RULES.items():
                client.execute_command("ACL", "SETUSER", role, "reset", "on", f">{PASSWORD}", redis_keys(), *rules)
        yield server


@pytest.fixture
def machine(isolated, own_server, team):
    """Make a machine of the team whose Redis user has a role, and what its settings say of that."""
    with contextlib.ExitStack() as undo:
        number = iter(range(99))

        def make(user, *, role=None, **settings):
            told = []
            given = {"l2": own_server.url, "l2_username": user, "l2_password": PASSWORD, **settings}
            cache = undo.enter_context(
                create_cache(
                    "disk",
                    dir=str(isolated / f"m{next(number)}"),
                    namespace=team,
                    role=role,
                    on_event=told.append,
                    **{name: value for name, value in given.items() if value is not None},
                )
            )
            return Machine(cache, None, None, told)

        yield make


def stored(machine, origin, *texts):
    """Let a writer store answers for the team."""
    writer = machine("Cache.Writer")
    for text in texts:
        writer.ask(origin, text)
    writer.told()
    return writer


def said(machine):
    return [event.message for event in machine.events]


def test_a_reader_gets_what_the_team_has_and_tries_no_write(machine, own_server, monitored):
    """Answers, misses, refreshes and the end of the kernel included; and it is said once, in words."""
    origin = Origin()
    stored(machine, origin, "known")
    with monitored(own_server) as seen:
        reader = machine("Cache.Writer", role="Cache.Reader")  # who might, so that each try is seen
        _, record = reader.ask(origin, "known")
        assert (record.outcome, record.tier) == (Outcome.HIT, Tier.L2)
        _, record = reader.ask(origin, "new")
        assert (record.outcome, record.stored) == (Outcome.MISS, True)
        _, record = reader.ask(origin, "new")
        assert (record.outcome, record.tier) == (Outcome.HIT, Tier.L1)
        reader.ask(origin, "known", mode="refresh")
        ask_heard(reader, origin, "booked", [])
        reader.cache.set("value", 1)
        reader.cache.usage()
        reader.cache.collect()
        for refused in (reader.cache.clear, lambda: reader.cache.hincrby("tokens", "today", 1)):
            with contextlib.suppress(WriteRefused):
                refused()
        reader.cache.close()
        commands = seen()
    assert "eval" in commands
    assert not WRITING & commands
    assert [sentence for sentence in said(reader) if "is only read (role is Cache.Reader)" in sentence] == said(reader)
    assert len(said(reader)) == 1


@pytest.fixture
def monitored():
    """Watch which commands a server carries out, those of scripts included."""

    @contextlib.contextmanager
    def watch(server):
        with redis.Redis.from_url(server.url) as client, client.monitor() as monitor:

            def seen():
                client.echo("enough")
                found = set()
                for line in monitor.listen():
                    words = line["command"].split()
                    found.add(words[0].lower())
                    if words == ["ECHO", "enough"]:
                        return found
                raise AssertionError("the monitor ended")

            yield seen

    return watch


@pytest.mark.parametrize("role", [None, "Cache.Writer"])
def test_who_is_refused_a_write_goes_on_as_a_reader(machine, role):
    """Found out by the first one, which costs no answer: what the team has is served afterwards too."""
    origin = Origin()
    stored(machine, origin, "known", "other")
    reader = machine("Cache.Reader", role=role)
    _, record = reader.ask(origin, "new")
    assert record.outcome is Outcome.MISS
    _, record = reader.ask(origin, "known")
    assert (record.outcome, record.tier) == (Outcome.HIT, Tier.L2)
    assert reader.cache.team.is_reader
    assert reader.cache.team.tell(within_s=30)  # nothing waits that could never be told
    _, record = reader.ask(origin, "other")
    assert (record.outcome, record.tier) == (Outcome.HIT, Tier.L2)
    assert [sentence for sentence in said(reader) if "is only read (it refuses writes)" in sentence] == said(reader)
    assert len(said(reader)) == 1


@pytest.fixture
def member(own_server):
    """A user whose rights change while kernels run; returns what gives it those of a role."""

    def gets(role):
        with redis.Redis.from_url(own_server.url) as client:
            client.execute_command(
                "ACL", "SETUSER", "member", "reset", "on", f">{PASSWORD}", redis_keys(), *REDIS_RULES[role]
            )

    return gets


def test_a_right_that_is_taken_and_given_back_while_a_kernel_runs(machine, member):
    """A write is tried again once a minute at most; what is new is shared then, and so is what is invalidated."""
    origin, now = Origin(), [0.0]
    member("Cache.Writer")
    kernel, colleague = machine("member"), machine("Cache.Writer")
    rights = kernel.cache.team._breaker.rights
    rights._clock = lambda: now[0]
    kernel.ask(origin, "before")
    kernel.told()
    assert colleague.ask(origin, "before")[1].tier is Tier.L2
    member("Cache.Reader")
    kernel.ask(origin, "meanwhile")
    kernel.told()
    assert (kernel.cache.team.is_reader, len(said(kernel))) == (True, 1)
    now[0] += 61.0
    kernel.ask(origin, "still not")  # finds that out, and nothing more is tried for a while
    kernel.told()
    member("Cache.Writer")
    with pytest.raises(WriteRefused, match="is only read"):
        kernel.cache.invalidate_tag("any")
    assert len(said(kernel)) == 1
    now[0] += 61.0
    kernel.ask(origin, "after")
    kernel.told()
    assert not kernel.cache.team.is_reader
    assert [("is only read" in one, "shared from now on" in one) for one in said(kernel)] == [
        (True, False),
        (False, True),
    ]
    assert colleague.ask(origin, "after")[1].tier is Tier.L2
    assert kernel.cache.clear().published == "published"


def test_the_write_that_finds_it_out_names_the_role_that_is_needed(machine):
    """As every later one does: the first command of somebody who may only read says how to get more, and no other."""
    stored(machine, Origin(), "known")
    reader = machine("Cache.Reader")
    for _ in range(2):
        with pytest.raises(WriteRefused, match=r"for that the role Cache\.Writer is needed"):
            reader.cache.invalidate_tag("any")
    (sentence,) = said(reader)
    assert "what is new or refreshed here stays on this machine, and nothing can be invalidated" in sentence


@pytest.mark.parametrize("role", [None, "Cache.Reader"])
def test_what_a_reader_can_not_do_is_refused_with_the_way_out(machine, role):
    """Invalidating, clearing, overwriting and counting: nothing is queued, and nothing changes for the team."""
    origin = Origin()
    writer = stored(machine, origin, "known")
    writer.cache.set("value", 1)
    writer.told()
    reader = machine("Cache.Reader", role=role)
    reader.ask(origin, "known")
    for refused in (
        lambda: reader.cache.invalidate("*"),
        lambda: reader.cache.invalidate_tag("any"),
        reader.cache.clear,
        lambda: reader.cache.set("value", 2),
        lambda: reader.cache.delete("value"),
        lambda: reader.cache.hincrby("tokens", "today", 1),
    ):
        with pytest.raises(WriteRefused, match="is only read"):
            refused()
    assert not reader.cache.team.is_behind
    assert reader.ask(origin, "known")[1].outcome is Outcome.HIT
    assert writer.cache.get("value") == 1


def test_a_refresh_of_a_reader_says_that_it_is_its_own(machine):
    """Under the cell that asks for it; the tier isn't called offline."""
    origin = Origin()
    stored(machine, origin, "known")
    reader = machine("Cache.Reader", role="Cache.Reader")
    seen = []
    text, record = ask_heard(reader, origin, "known", seen)
    assert (text, record.outcome) == ("answer 2", Outcome.MISS)
    (event,) = seen
    assert event.message.startswith("not refreshed for the team")
    assert "offline" not in event.message


def ask_heard(machine, origin, text, heard):
    """Ask in mode refresh, with the call booked, and note the troubles that the cell is told."""
    scope = CellScope(Options(mode=Mode.REFRESH), person="tester")
    acquaint(scope, machine.cache)
    step = machine.waited(machine.begin(scope, text))
    response = origin()
    step.desk.commit(step, response)
    heard += scope.troubles
    return orjson.loads(response.body)["choices"][0]["message"]["content"], scope.calls[-1]


def test_a_reader_before_all_others_works_on_its_own_and_joins_later(machine, settled):
    """Where nothing is stored yet it can't begin, and says so; a writer can, and then the reader has its answers."""
    origin = Origin()
    reader = machine("Cache.Reader", role="Cache.Reader")
    assert reader.ask(origin, "early")[1].outcome is Outcome.MISS
    assert reader.ask(origin, "early")[1].outcome is Outcome.HIT
    assert any("L2 is not used" in sentence for sentence in said(reader))
    stored(machine, origin, "known")
    settled(lambda: reader.cache.team is not None)
    assert reader.ask(origin, "known")[1].tier is Tier.L2


@pytest.fixture
def settled(monkeypatch):
    """Wait until something holds that happens in the background, soon."""
    monkeypatch.setattr(joining, "_SHORTEST_PAUSE_S", 0.02)

    def wait(holds):
        pause = threading.Event()
        for _ in range(3_000):
            if holds():
                return
            pause.wait(0.01)
        raise AssertionError("it does not happen")

    return wait


def test_without_encryption_a_reader_of_an_empty_tier_says_why(machine):
    """And answers from its own machine."""
    origin = Origin()
    reader = machine("Cache.Reader", role="Cache.Reader", encryption="off")
    reader.ask(origin, "early")
    assert reader.ask(origin, "early")[1].outcome is Outcome.HIT


def test_a_wrong_password_makes_nobody_a_reader(machine, isolated):
    """It is told as what it is."""
    wrong = machine("Cache.Reader", l2_password="wrong")
    wrong.ask(Origin(), "new")
    assert ["user name or password" in sentence for sentence in said(wrong)] == [True]


SIGNED = {"read": "rl", "create": "rlc", "write": "rlcw", "all": "rlcwd"}


@pytest.fixture(scope="module")
def container(azurite):
    """A container of its own."""
    from azure.storage.blob import BlobServiceClient

    account = BlobServiceClient.from_connection_string(azurite.connection_string)
    with account, account.create_container("readers") as made:
        yield made


def signed(container, permission, *, hours=1, blob=None):
    """Return the address of the container with a signature for these permissions, or for one blob alone."""
    from azure.storage.blob import generate_blob_sas, generate_container_sas

    named = {"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY, "container_name": container.container_name}
    how = {"permission": permission, "expiry": datetime.now(UTC) + timedelta(hours=hours)}
    token = generate_blob_sas(**named, blob_name=blob, **how) if blob else generate_container_sas(**named, **how)
    return f"{container.url}?{token}"


def on_blob(machine, url, role=None):
    return machine(None, role=role, l2=url, l2_password=None)


def test_a_signature_to_read_makes_a_reader(machine, container):
    """As rights of a Redis do: found out, said, and answers go on."""
    origin = Origin()
    writer = on_blob(machine, signed(container, SIGNED["all"]))
    writer.ask(origin, "known")
    writer.told()
    reader = on_blob(machine, signed(container, SIGNED["read"]))
    assert reader.ask(origin, "known")[1].tier is Tier.L2
    reader.ask(origin, "new")
    reader.told()
    assert reader.cache.team.is_reader
    assert reader.ask(origin, "known")[1].outcome is Outcome.HIT
    assert ["is only read (it refuses writes)" in sentence for sentence in said(reader)] == [True]


def test_a_signature_that_removes_nothing_is_a_writers_all_the_same(machine, container):
    """What it may not remove is left to others, and that is told where somebody asks for it."""
    origin = Origin()
    writer = on_blob(machine, signed(container, SIGNED["write"]))
    writer.ask(origin, "known")
    writer.told()
    assert not writer.cache.team.is_reader
    assert writer.cache.clear().published == "published"
    writer.cache.collect()
    assert not writer.cache.team.is_reader
    assert any("lets us read and write, and not do this" in sentence for sentence in said(writer))
    other = on_blob(machine, signed(container, SIGNED["all"]))
    assert other.ask(origin, "known")[1].outcome is Outcome.STALE


@pytest.mark.parametrize("how", ["expired", "one blob"])
def test_a_signature_that_is_over_or_for_something_else_is_no_readers(machine, container, how):
    """It is told to be refused."""
    url = signed(container, "rlcwd", **({"hours": -1} if how == "expired" else {"blob": "another"}))
    wrong = on_blob(machine, url)
    wrong.ask(Origin(), "new")
    assert ["refuses this identity or key" in sentence for sentence in said(wrong)] == [True]


@pytest.mark.parametrize("role", [None, "Cache.Reader"])
def test_the_doctor_tells_a_reader_from_a_tier_that_can_not_be_used(machine, own_server, team, monkeypatch, role):
    """One that the settings call so is well; one that is found out could have more, and hears what to run."""
    stored(machine, Origin(), "known")
    for name, value in {"L2": own_server.url, "L2_USERNAME": "Cache.Reader", "L2_PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"GENAI_CACHE_{name}", value)
    if role:
        monkeypatch.setenv("GENAI_CACHE_ROLE", role)
    with contextlib.closing(Session()) as session:
        found = [finding for finding in examine(session, team) if finding.part == "L2"]
    assert any("can be read" in finding.says and "written" not in finding.says for finding in found)
    if role:
        assert worst(tuple(found)) is Severity.OK
    else:
        assert worst(tuple(found)) is Severity.WARNING
        assert any("genai-cache access check" in finding.says for finding in found)
