"""The budget of a run over real tiers: one for all machines of a team, at one time and one after the other."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import openai
import pytest
from priced_model import asked_as_openai

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.errors import BudgetExceeded, StoreUnavailable
from genai_cache_magic.testing.servers import AZURITE_KEY

pytestmark = [pytest.mark.service, pytest.mark.timeout(170)]

_WAIT_S = 60
MODEL = "gpt-4.1-mini"
LIMIT = 1_000_000
"""Tokens that a call may answer with: at $1.60 a million it reserves $1.60 and a little for its question."""
EACH = Decimal("1.61")
"""What is enough for one such call."""


@pytest.fixture(params=["redis", "cluster", "blob"])
def l2(request):
    if request.param == "blob":
        return f"{request.getfixturevalue('azurite').account_url}/budgets"
    return request.getfixturevalue("redis_nodes" if request.param == "cluster" else "redis_server").url


@pytest.fixture
def on(isolated, team, unique_server, monkeypatch):
    """Go on as another machine of the team, which has a directory of its own."""
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    monkeypatch.setenv("GENAI_CACHE_L2_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("GENAI_CACHE_L2_CREATE_CONTAINER", "true")
    asked_as_openai(unique_server, monkeypatch)

    def machine(name, l2):
        reset_session()
        monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / name))
        monkeypatch.setenv("GENAI_CACHE_L2", l2)
        join(team)

    yield machine
    reset_session()


def join(team):
    """Wait until this process has joined its team: on a loaded machine it may have to try again."""
    give_up_at = time.monotonic() + _WAIT_S
    while current_session().cache(team).team is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def ask(text):
    with openai.OpenAI(max_retries=0) as client:
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model=MODEL, max_tokens=LIMIT, messages=messages).id


def test_a_run_has_one_budget_on_all_machines(on, l2, unique_server):
    """What one machine has spent another one can't spend again, and each says what was spent in all."""
    on("a", l2)
    with llm_cache(run="r", budget=EACH) as first:
        ask("one")
    on("b", l2)
    enough_alone = "1.60003"
    with pytest.raises(BudgetExceeded, match="run r") as stopped, llm_cache(run="r", budget=enough_alone):
        ask("two")
    assert (stopped.value.spent_usd, unique_server.count) == (first.spent_usd, 1)
    with llm_cache(run="another", budget=enough_alone):
        ask("two")
    with llm_cache(run="r", budget=enough_alone) as again:  # what the team has by now costs nothing
        ask("one")
        ask("two")
    assert (again.hits, unique_server.count) == (2, 2)


ASKING = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from contract.test_team_budgets import ask, join
from genai_cache_magic import llm_cache
from genai_cache_magic.errors import BudgetExceeded

def told(text):
    try:
        ask(text)
    except BudgetExceeded:
        os.write(1, b"stopped\\n")  # whole, whichever thread it is

join(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with llm_cache(run="r", budget=sys.argv[2]), ThreadPoolExecutor(4) as pool:
        list(pool.map(told, [f"{sys.argv[3]} {number}" for number in range(4)]))
except BudgetExceeded:
    pass
"""


@pytest.mark.parametrize("l2", ["redis", "blob"], indirect=True)
def test_machines_at_one_time_spend_no_money_twice(on, l2, team, unique_server, monkeypatch):
    """Of eight calls that two machines make at once no more are at the model than there is money for."""
    on("a", l2)  # whoever comes first makes the container
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    unique_server.hold()
    said, machines, readers = queue.Queue(), [], []
    try:
        for name in ("a", "b"):
            monkeypatch.setenv("GENAI_CACHE_DIR", str(Path(name).absolute()))
            words = [sys.executable, "-c", ASKING, team, str(2 * EACH), name]
            machine = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            machines.append(machine)
            readers.append(threading.Thread(target=lambda lines: [*map(said.put, lines)], args=(machine.stdout,)))
            readers[-1].start()
        assert [said.get(timeout=_WAIT_S), said.get(timeout=_WAIT_S)] == ["ready\n"] * 2
        for machine in machines:
            machine.stdin.write("go\n")
            machine.stdin.flush()
        stopped = [said.get(timeout=_WAIT_S) for _ in range(6)]  # while what got through is at the model
        assert stopped == ["stopped\n"] * 6
        assert unique_server.wait_for(2)
        assert unique_server.count == 2
        unique_server.release()
        assert [machine.wait(timeout=_WAIT_S) for machine in machines] == [0, 0]
    finally:
        for machine, reader in zip(machines, readers, strict=True):
            machine.kill()
            machine.wait()
            reader.join()
            machine.stdin.close()
            machine.stdout.close()


def test_what_was_spent_while_the_tier_was_away_is_the_runs_afterwards(on, redis_server, unique_server, team):
    """A cell is then held to the budget for itself, and says so once; the next one counts what it spent."""
    on("a", redis_server.url)
    counts = current_session().cache(team).counts
    with pytest.MonkeyPatch.context() as away, llm_cache(run="r", budget=2 * EACH) as alone:
        away.setattr(counts, "_counters", Away())
        ask("one")
        ask("two")
    assert ["held to the budget for itself" in trouble.message for trouble in alone.troubles] == [True]
    with pytest.raises(BudgetExceeded, match="run r"), llm_cache(run="r", budget="1.60003"):
        ask("three")
    assert unique_server.count == 2


class Away:
    """Counters that nobody can reach."""

    def add(self, *_, **__):
        raise StoreUnavailable("away")

    add_within = add
