"""What a miss asks of the databases on this machine: one transaction of each, and nothing twice without need."""

from __future__ import annotations

import collections
import sqlite3
import threading

import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome


@pytest.fixture
def statements(monkeypatch):
    """Every statement that the test's own thread runs, with the name of its database."""
    seen = []
    here = threading.get_ident()
    connect = sqlite3.connect

    def traced(database, *args, **options):
        connection = connect(database, *args, **options)
        name = str(database).partition("?")[0].rpartition("/")[2]

        def note(statement):
            if threading.get_ident() == here:
                seen.append((name, statement))

        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return seen


def ask(server, seed):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}], "seed": seed}
    with httpx2.Client() as client:
        return client.post(f"{server.openai_url}/chat/completions", json=body)


@pytest.mark.parametrize(
    ("mode", "databases"), [("use", {"state.db", "cache.db", "ledger.db"}), ("read", {"ledger.db"})]
)
def test_one_transaction_of_each(isolated, unique_server, statements, mode, databases):
    """Each row and each value is written once, and the ledger is before its caller goes on."""
    with llm_cache(mode=mode) as cell:
        for seed in range(2):
            ask(unique_server, seed)
        statements.clear()
        ask(unique_server, 2)
        run = list(statements)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS] * 3
    begun = collections.Counter(name for name, statement in run if statement.startswith("BEGIN"))
    assert begun == dict.fromkeys(databases, 1)
    assert all(statement == "BEGIN IMMEDIATE" for _, statement in run if statement.startswith("BEGIN"))


def test_the_catalogue_says_once_why_it_is_a_miss(isolated, unique_server, statements):
    """A second look, once nobody else asks the same, is one at the store alone."""
    with llm_cache():
        ask(unique_server, 0)
        statements.clear()
        ask(unique_server, 1)
        run = list(statements)
    assert sum("FROM entry e CROSS JOIN root" in statement for _, statement in run) == 1
    assert sum(statement.startswith("SELECT mode, filename") for _, statement in run) == 2


def test_the_catalogue_is_asked_for_a_row_where_it_is_written(isolated, unique_server, statements):
    """What is there under the id is seen in the transaction that writes the row, and once more when the entry is."""
    with llm_cache():
        ask(unique_server, 0)
        statements.clear()
        ask(unique_server, 1)
        run = [statement for name, statement in statements if name == "state.db"]
    begun, ended = run.index("BEGIN IMMEDIATE"), run.index("COMMIT")
    looks = [at for at, statement in enumerate(run) if " FROM entry WHERE id = " in statement]
    assert [begun < at < ended for at in looks] == [True, False]
