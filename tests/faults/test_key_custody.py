"""Encryption is on and the key can't be had: nothing is stored or served, calls go on, and the cell says why."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api import factory
from genai_cache_magic.api.scopes import opening
from genai_cache_magic.api.scopes.process import process
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.api.team import custody
from genai_cache_magic.api.team.keysets import keyset_of
from genai_cache_magic.crypto.held_keys import HeldKeys
from genai_cache_magic.errors import ConfigurationError, KeyThrottled, KeyUnavailable, ReplayMiss
from genai_cache_magic.jupyter.shown.badge import bundle
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.testing.azure.roles import Role
from genai_cache_magic.testing.vault_server import VaultFault

QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "a question that nobody else asks"}]}
WAIT_S = 30


@pytest.fixture
def sealed(isolated, vault, monkeypatch):
    """A vault with both keys, and this process as a machine whose cache it guards."""
    vault.create_key("cache-key", key_ops=["wrapKey", "unwrapKey"])
    vault.create_key("cache-key-sign", key_ops=["sign", "verify"])
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "key-vault")
    monkeypatch.setenv("GENAI_CACHE_KEY_VAULT_URL", vault.url)
    start_anew(monkeypatch)
    yield vault
    vault.reset()
    reset_session()


def start_anew(monkeypatch) -> None:
    """Begin as a new process does: with nothing in memory."""
    reset_session()
    monkeypatch.setattr(custody, "_held", HeldKeys())


def ask(server, question=QUESTION, **options):
    """Ask a model in a cell, and return its call's record, and what the cell shows."""
    with llm_cache(**options) as cell, httpx.Client(timeout=60) as client:
        assert client.post(f"{server.url}/v1/chat/completions", json=question).status_code == 200
    return cell.calls[0], bundle(summarise(cell))["text/plain"]


def opened() -> None:
    """Wait until the cache is open, as long as that takes on a busy machine."""
    current_session().cache("default")


def test_what_one_kernel_stored_the_next_one_serves(sealed, server, monkeypatch):
    """Through the vault; the second kernel asks it to unwrap, once, and nothing else."""
    opened()
    assert ask(server)[0].outcome == "miss"
    start_anew(monkeypatch)
    sealed.reset()
    opened()
    assert ask(server)[0].outcome == "hit"
    assert [request.operation for request in sealed.requests if request.operation != "challenge"] == ["unwrapKey"]


def broken_by(vault, identity, how):
    match how:
        case "no right":
            vault.revoke(identity.principal)
        case "no right to unwrap":
            vault.revoke(identity.principal)
            vault.grant(identity.principal, Role.READER)
        case "disabled":
            vault.set_attributes("cache-key", enabled=False)
        case "down":
            vault.stop()
        case _:
            vault.fail(VaultFault(how), times=None)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no right", "az role assignment create"),
        ("disabled", "disabled"),
        ("down", "refuses connections"),
        ("foreign_challenge", "token for another service"),
        ("firewall", "firewall"),
        ("cut", "vault"),
        ("bad_json", "does not answer as Key Vault does"),
        ("server_error", "status 500"),
    ],
)
def test_a_vault_that_gives_no_key_closes_the_cache_and_stops_no_call(  # noqa: PLR0917 - fixtures
    sealed, identity, server, monkeypatch, isolated, how, words
):
    """The call is made, nothing is stored or served, and the cell says what is wrong and what to do."""
    opened()
    ask(server)
    start_anew(monkeypatch)
    broken_by(sealed, identity, how)
    with pytest.raises(KeyUnavailable):
        opened()
    record, shown = ask(server)
    assert (record.outcome, record.stored) == ("bypass", False)
    assert words in shown
    assert len(server.requests) == 2
    mended(sealed, identity)
    start_anew(monkeypatch)
    opened()
    assert ask(server)[0].outcome == "hit"  # what was stored before, and nothing beside it
    assert current_session().cache("default").stats().entries == 1


def mended(vault, identity) -> None:
    vault.reset()
    vault.start()
    vault.grant(identity.principal, Role.CRYPTO_OFFICER)
    vault.set_attributes("cache-key", enabled=True)


def test_a_version_whose_time_is_over_is_refused_on_a_new_machine(sealed, server, monkeypatch, isolated):
    """Though the vault would unwrap with it, as the real one does."""
    opened()
    sealed.set_attributes("cache-key", exp=1)
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / "another machine"))
    start_anew(monkeypatch)
    with pytest.raises(KeyUnavailable, match="expired"):
        opened()
    assert ask(server)[0].outcome == "bypass"


def test_a_cell_that_calls_no_model_does_not_wait(sealed, monkeypatch):
    """While the vault keeps everyone waiting, a cell without a model call begins and ends."""
    sealed.hold()
    with llm_cache() as cell:
        value = 1 + 1
    assert (cell.calls, value) == ((), 2)
    assert sealed.wait_for("challenge", timeout_s=WAIT_S)
    sealed.release()
    opened()


def test_a_throttled_vault_is_asked_again_when_it_says(sealed, monkeypatch):
    """`Retry-After` is waited for; the key is there after it."""
    opened()
    start_anew(monkeypatch)
    sealed.reset()
    sealed.fail(VaultFault.TOO_MANY_REQUESTS, times=1, operation="unwrapKey")
    opened()
    assert [request.status for request in sealed.requests if request.operation == "unwrapKey"] == [429, 200]


def test_64_threads_ask_the_vault_once(sealed, monkeypatch):
    """However many caches they open, of one namespace or as one session."""
    create_cache("disk").close()
    start_anew(monkeypatch)
    sealed.reset()
    start, failures = threading.Barrier(64), []

    def work(number: int) -> None:
        try:
            start.wait(WAIT_S)
            if number % 8:
                current_session().cache("default").get("absent")
            else:
                create_cache("disk").close()
        except Exception as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert sealed.count("unwrapKey") == 1


def test_calls_wait_for_the_key_no_longer_than_the_deadline(sealed, server, monkeypatch):
    """All together: then they go their way uncached, and are cached as soon as the key is there."""
    monkeypatch.setattr(opening, "DEADLINE_S", 0.2)
    sealed.hold()
    with llm_cache() as cell, httpx.Client(timeout=60) as client:
        for _ in range(3):
            client.post(f"{server.url}/v1/chat/completions", json=QUESTION)
        assert "has not answered yet" in bundle(summarise(cell))["text/plain"]
        sealed.release()
        opened()
        for _ in range(2):
            client.post(f"{server.url}/v1/chat/completions", json=QUESTION)
    assert [call.outcome.value for call in cell.calls] == ["bypass"] * 3 + ["miss", "hit"]


async def test_a_task_awaits_the_key_and_blocks_nobody(sealed, server):
    """While one task waits for the vault, others run; then it is served as any call is."""
    sealed.hold()
    with llm_cache() as cell:
        async with httpx.AsyncClient(timeout=60) as client:
            asked = asyncio.ensure_future(client.post(f"{server.url}/v1/chat/completions", json=QUESTION))
            await asyncio.wait_for(asyncio.to_thread(sealed.wait_for, "challenge", 1, WAIT_S), WAIT_S)
            assert not asked.done()
            sealed.release()
            assert (await asked).status_code == 200
    assert len(cell.calls) == 1


def test_a_replay_without_a_key_calls_no_model(sealed, server, monkeypatch):
    """It ends the cell, with the reason."""
    sealed.stop()
    with pytest.raises(ReplayMiss, match="refuses connections"):
        ask(server, mode="replay")
    assert len(server.requests) == 0


def test_a_long_retry_after_is_obeyed_by_later_cells(sealed, server):
    """Who is told to come in ten minutes is not asked again by every cell."""
    sealed._retry_after_s = 600
    sealed.fail(VaultFault.TOO_MANY_REQUESTS, times=None)
    with pytest.raises(KeyThrottled):
        opened()
    asked = len(sealed.requests)
    for _ in range(2):
        record, shown = ask(server)
        assert (record.outcome, "is busy" in shown) == ("bypass", True)
    assert len(sealed.requests) == asked


def test_each_named_credential_is_taken(sealed, monkeypatch):
    """`managed-identity` opens the cache; one that is not at hand here is a sentence."""
    for name, is_here in (("managed-identity", True), ("environment", False), ("workload-identity", False)):
        monkeypatch.setenv("GENAI_CACHE_KEY_VAULT_CREDENTIAL", name)
        start_anew(monkeypatch)
        if is_here:
            opened()
        else:
            with pytest.raises(KeyUnavailable, match="GENAI_CACHE_KEY_VAULT_CREDENTIAL"):
                opened()


def test_a_vault_elsewhere_is_never_asked_without_its_challenge_checked(sealed, monkeypatch):
    """`verify_challenge=false` is for loopback alone; an address that is none is named."""
    monkeypatch.setenv("GENAI_CACHE_VERIFY_CHALLENGE", "false")
    start_anew(monkeypatch)
    opened()
    for url, words in (
        ("https://team.vault.azure.net", "loopback"),
        ("http://127.0.0.1:1", "no address of a vault"),
        ("https://u:p@127.0.0.1", "no address of a vault"),
        ("", "GENAI_CACHE_KEY_VAULT_URL"),
    ):
        monkeypatch.setenv("GENAI_CACHE_KEY_VAULT_URL", url)
        start_anew(monkeypatch)
        with pytest.raises(ConfigurationError, match=words):
            opened()


def test_keys_that_are_held_for_too_long_are_asked_for_again(sealed, server, monkeypatch):
    """The next cell opens the cache anew: a right that is gone by then is gone here too."""
    opened()
    ask(server)
    monkeypatch.setattr(factory, "MAX_AGE_S", 0.0)
    monkeypatch.setattr(custody, "_held", HeldKeys(max_age_s=0.0))
    sealed.set_attributes("cache-key", enabled=False)
    with pytest.raises(KeyUnavailable, match="disabled"):
        opened()
    assert ask(server)[0].outcome == "bypass"


@pytest.mark.service
def test_a_running_kernel_takes_up_a_rotation(sealed, monkeypatch, redis_server, isolated, team):
    """What a teammate seals with newer keys is looked at anew, at the next cell, but not more than once a minute."""
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url)
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    start_anew(monkeypatch)
    ours = current_session().cache(team)
    elsewhere = isolated / "a teammate's"
    with keyset_of(current_session().settings.model_copy(update={"dir": elsewhere}), team) as keyset:
        keyset.rotate()
    with create_cache("disk", dir=str(elsewhere), namespace=team) as theirs:
        theirs.set("name", "sealed with epoch 2")
        assert theirs._team._drain.finish(within_s=WAIT_S)
    assert ours.get("name") is None
    assert not ours.is_superseded
    monkeypatch.setattr(factory, "_LOOK_AGAIN_S", -1.0)
    assert ours.is_superseded
    assert current_session().cache(team).get("name") == "sealed with epoch 2"


def test_a_process_that_only_replays_opens_its_sealed_cache(sealed, server, monkeypatch):
    """What the process does itself to open it, in threads of its own, is no call of anybody's."""
    opened()
    ask(server)
    monkeypatch.setenv("GENAI_CACHE_MODE", "replay")
    start_anew(monkeypatch)
    process.put_in_force()
    try:
        with httpx.Client(timeout=60) as client:
            answer = client.post(f"{server.url}/v1/chat/completions", json=QUESTION)
    finally:
        process.end()
    assert answer.headers["x-genai-cache"].startswith("hit")
    assert len(server.requests) == 1


def test_what_a_sealed_hit_is_booked_under(sealed, server, monkeypatch):
    """A cell whose cache was opened while it ran tells its store and its books as any other does."""
    opened()
    ask(server)
    start_anew(monkeypatch)
    with llm_cache() as cell, httpx.Client(timeout=60) as client:
        client.post(f"{server.url}/v1/chat/completions", json=QUESTION)
    cache = current_session().cache("default")
    assert (cell.store, cell.books) == (cache.fingerprint, cache.ledger.books)
