"""A tier that is named wrongly, or that a newer version filled: cells go on, and commands name the fix."""

from __future__ import annotations

import contextlib
import json

import pytest
from certificates import make_certificate
from services import started
from wrong_tiers import CASES, CLOSED, SECRET, wrong

from genai_cache_magic import create_cache
from genai_cache_magic.crypto.document_mac import protect_document
from genai_cache_magic.jupyter.shown.summary import without_places
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.servers import RedisServer, free_port

pytestmark = pytest.mark.service

PATIENT = {"connect_timeout": "10s", "command_timeout": "30s"}
"""None of these tiers is slow: what is said of them must not depend on how busy this machine is."""
SET = """
import os
get_ipython().run_line_magic("unload_ext", "genai_cache_magic")
for name in [name for name in os.environ if name.startswith(("GENAI_CACHE_", "AZURE_"))]:
    del os.environ[name]
os.environ.update({settings!r})
"""


@pytest.fixture(scope="module")
def closed():
    """A server that wants a password, and knows one who may only read."""
    with started(lambda: RedisServer(*CLOSED)) as server:
        yield server


@pytest.fixture(scope="module")
def shell(make_kernel, preamble):
    """A kernel that knows how to ask."""
    kernel = make_kernel()
    assert kernel.run(preamble).status == "ok"
    return kernel


@pytest.fixture
def notebook(shell, tmp_path):
    """Load the extension with given settings, in an empty cache; return how to run a cell, and all that was put out."""
    seen = []

    def run(source):
        ran = shell.run(source)
        seen.append(json.dumps([ran.reply, ran.outputs]))
        assert ran.status == "ok", ran.error
        assert ran.error == ""
        return ran

    def load(settings):
        given = {"dir": str(tmp_path / "cache"), "key_file": str(tmp_path / "key"), **PATIENT, **settings}
        shell.run(SET.format(settings={f"GENAI_CACHE_{name.upper()}": str(value) for name, value in given.items()}))
        assert run("%load_ext genai_cache_magic").outputs == []
        return run, seen

    return load


def goes_on(load, settings, said, *, text):
    """Assert that cells go on with what is here and say why, and that both commands say so; return all put out."""
    run, seen = load(settings)
    ran = run(f"%%llm_cache\nask({text!r})")
    assert ran.counts == (0, 1)
    assert without_places(said) in "\n".join(ran.badges[0]["troubles"])
    assert run(f"%%llm_cache\nask({text!r})").counts == (1, 0)
    for command in ("config", "doctor"):
        assert said in "\n".join(run(f"%llm_cache {command}").shown), command
    return "".join(seen)


@pytest.mark.parametrize("case", CASES)
def test_the_setting_and_the_fix_are_named(notebook, closed, redis_server, azurite, case):
    """In each of three places, without the secret."""
    settings, said = wrong(case, closed=closed, redis_server=redis_server, azurite=azurite)
    assert SECRET.rstrip("=") not in goes_on(notebook, settings, said, text=case)


@pytest.mark.parametrize("days", [1, -1])
def test_a_certificate_that_is_not_accepted(notebook, tmp_path, days):
    """Nobody vouches for it, or it has expired."""
    make_certificate(tmp_path, "localhost", days=days)
    files = ("--tls-cert-file", f"{tmp_path}/localhost.pem", "--tls-key-file", f"{tmp_path}/localhost.key")
    port = free_port()
    tls = ("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *files)
    with started(lambda: RedisServer(*tls, port=port)):
        settings = {"l2": f"rediss://:{SECRET}@localhost:{port}"}
        seen = goes_on(notebook, settings, "certificate is not accepted", text=f"certificate {days}")
    assert "l2_ca_file" in seen
    assert SECRET.rstrip("=") not in seen


@pytest.fixture
def filled(redis_server, team, tmp_path):
    """The settings of a tier that somebody has filled, and what it lies in."""
    settings = {"l2": redis_server.url, "namespace": team, "key_file": str(tmp_path / "key"), **PATIENT}
    with create_cache("redis", dir=str(tmp_path / "teammate"), **settings) as cache:
        cache.set("a", 1)
        live = cache._entries.generations
    with contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as connection:
        yield settings, RedisTier(connection, team), live


@pytest.mark.parametrize("what", ["keyset", "generations"])
def test_a_record_of_a_newer_version(notebook, filled, what):
    """It is left alone, and the fix is to update."""
    settings, tier, live = filled
    document = tier.document(what)
    before = document.load()
    newer = before[:4] + b"\x02" + before[5:]
    if what == "generations":
        newer = protect_document(live._mac_key, live._context, b"GCGD\x02 and more")
    assert document.replace(newer, expected=before)
    goes_on(notebook, settings, "update genai-cache-magic", text=f"newer {what}")
    assert document.load() == newer
