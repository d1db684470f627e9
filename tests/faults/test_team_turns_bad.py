"""A tier that turns bad in the middle of a notebook, over real sockets: cells go on, and it is left alone."""

from __future__ import annotations

import os

import openai
import pytest
from certificates import make_certificate
from faults.fault_proxy import FaultProxy
from services import started

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.testing.servers import AZURITE_ACCOUNT, AZURITE_KEY, RedisServer, free_port

CALLS = 5
MOST_CONNECTIONS = 12
"""Those of a pool, and a probe or two: not one for each call."""

WAYS = ("silent", "dripping", "cutting", "resetting", "slow")
REDIS = {
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "moved": b"-MOVED 3999 127.0.0.1:{port}\r\n",
    "oom": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "readonly": b"-READONLY You can't write against a read only replica.\r\n",
    "noperm": b"-NOPERM User default has no permissions to run the 'eval' command\r\n",
    "clusterdown": b"-CLUSTERDOWN The cluster is down\r\n",
    "rubbish": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}
HTTP = {
    status: f"HTTP/1.1 {status} Because\r\nConnection: close\r\nContent-Length: 0\r\n{more}\r\n".encode()
    for status, more in ((401, ""), (403, ""), (429, "Retry-After: 1\r\n"), (500, ""), (503, ""))
}

pytestmark = pytest.mark.service


@pytest.fixture
def ask(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        yield lambda text: client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}]).id


def goes_on(ask, proxy, fault):
    """Ask before, while and after the tier is bad; return what the cell in the middle said of it."""
    with llm_cache():
        before = ask("before")
    assert current_session().cache(os.environ["GENAI_CACHE_NAMESPACE"])._team is not None
    proxy.count = 0
    proxy.fault = fault
    with llm_cache() as cell:
        first = [ask(f"question {number}") for number in range(CALLS)]
        assert [ask(f"question {number}") for number in range(CALLS)] == first
        assert ask("before") == before
    assert (cell.hits, cell.misses) == (CALLS + 1, CALLS)
    assert proxy.count <= MOST_CONNECTIONS
    proxy.fault = None
    with llm_cache():
        assert [ask(f"question {number}") for number in range(CALLS)] == first
    reset_session()
    return [trouble.message for trouble in cell.troubles if trouble.where == "L2"]


@pytest.mark.parametrize("fault", [*WAYS, *REDIS])
def test_a_redis_that_turns_bad(ask, redis_server, team, monkeypatch, fault):
    """No exception, every answer kept here, few connections; what is merely slow is no trouble."""
    with FaultProxy(redis_server.port) as proxy:
        monkeypatch.setenv("GENAI_CACHE_L2", f"redis://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
        reset_session()
        answer = REDIS.get(fault, b"").replace(b"{port}", str(proxy.port).encode()) or fault
        said = goes_on(ask, proxy, answer)
    assert bool(said) is (fault != "slow")


@pytest.mark.parametrize("fault", [*WAYS, *HTTP])
def test_a_blob_service_that_turns_bad(ask, azurite, team, monkeypatch, fault):
    """The same for every status with which a service refuses."""
    with FaultProxy(azurite.port) as proxy:
        monkeypatch.setenv("GENAI_CACHE_L2", f"http://127.0.0.1:{proxy.port}/{AZURITE_ACCOUNT}/turns-bad")
        monkeypatch.setenv("GENAI_CACHE_L2_ACCOUNT_KEY", AZURITE_KEY)
        monkeypatch.setenv("GENAI_CACHE_L2_CREATE_CONTAINER", "true")
        monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
        reset_session()
        said = goes_on(ask, proxy, HTTP.get(fault, fault))
    assert bool(said) is (fault != "slow")


def test_an_expired_certificate(ask, tmp_path, monkeypatch):
    """A cell goes on with what is here, and says that the certificate is not accepted."""
    make_certificate(tmp_path, "expired", days=-1)
    files = ("--tls-cert-file", f"{tmp_path}/expired.pem", "--tls-key-file", f"{tmp_path}/expired.key")
    port = free_port()
    tls = ("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", *files)
    with started(lambda: RedisServer(*tls, port=port)):
        monkeypatch.setenv("GENAI_CACHE_L2", f"rediss://localhost:{port}")
        monkeypatch.setenv("GENAI_CACHE_L2_CA_FILE", f"{tmp_path}/expired.pem")
        reset_session()
        with llm_cache() as cell:
            assert ask("question") == ask("question")
        reset_session()
    assert (cell.hits, cell.misses) == (1, 1)
    (said,) = [trouble.message for trouble in cell.troubles if trouble.where == "L2"]
    assert "certificate is not accepted" in said
