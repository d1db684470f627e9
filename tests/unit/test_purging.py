"""An edge is told to forget what was invalidated, where that is allowed; nothing waits for it or depends on it."""

from __future__ import annotations

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from genai_cache_magic.api.team.edge import _endpoint_of, _purge
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.edge.fetching import Site
from genai_cache_magic.stores.edge.purging import AzureProfile, Purger, by_azure, by_http
from genai_cache_magic.testing.servers import free_port

WAIT_S = 30


class Listener:
    """Notes requests and answers each with `status`. A context manager."""

    def __init__(self, status=200):
        self.requests = []
        self.heard = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_PURGE(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                listener.requests.append((self.command, self.path, self.headers.get("Authorization", ""), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                listener.heard.set()

            do_POST = do_PURGE  # noqa: N815 - as the base class names them

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Identity:
    def get_token(self, *scopes):
        assert scopes == ("https://management.azure.com/.default",)

        class Token:
            token = "t0ken"

        return Token


def azure(url, host="https://content-a1b2.z01.azurefd.net/llm"):
    site = Site(host, "cdn.endpoint")
    return AzureProfile("sub", "group", "llm-cdn", "content", site, Identity, management_url=url)


def test_a_cache_is_asked_by_its_own_method():
    """``PURGE`` on the very address of each answer; what would need a pattern is left out."""
    with Listener() as listener:
        purges = by_http(Site(f"{listener.url}/llm", "cdn.endpoint"))
        assert purges(["e/one", "e/two", "e/*"]) == 200
    assert [request[:2] for request in listener.requests] == [("PURGE", "/llm/e/one"), ("PURGE", "/llm/e/two")]


@pytest.mark.parametrize(
    ("host", "kind", "body"),
    [
        (
            "https://content-a1b2.z01.azurefd.net/llm",
            "afdEndpoints",
            {"contentPaths": ["/llm/e/one", "/llm/e/*"], "domains": ["content-a1b2.z01.azurefd.net"]},
        ),
        ("https://content.azureedge.net/llm", "endpoints", {"contentPaths": ["/llm/e/one", "/llm/e/*"]}),
    ],
)
def test_azure_is_asked_by_its_management(host, kind, body):
    """One request for all, as whoever signs in, to the profile that is named."""
    pytest.importorskip("azure.core", reason="pip install 'genai-cache-magic[azure]'")
    with Listener(202) as listener:
        assert by_azure(azure(listener.url, host))(["e/one", "e/*"]) == 202
    ((method, path, authorization, sent),) = listener.requests
    assert method == "POST"
    assert path.partition("?")[0] == (
        f"/subscriptions/sub/resourceGroups/group/providers/Microsoft.Cdn/profiles/llm-cdn/{kind}/content/purge"
    )
    assert authorization == "Bearer t0ken"
    assert json.loads(sent) == body


def test_who_may_not_purge_hears_so_once():
    """What is refused is said, with what to do, and not tried again."""
    told, said = [], threading.Event()

    def tell(sentence):
        told.append(sentence)
        said.set()

    with Listener(403) as listener:
        purger = Purger(listener.url, by_http(Site(listener.url, "cdn.endpoint")), tell=tell)
        purger(["e/one"])
        assert said.wait(WAIT_S)
        purger(["e/two"])
        purger.close()
    assert len(listener.requests) == 1
    (sentence,) = told
    assert "status 403" in sentence
    assert "cdn.purge" in sentence


def test_an_edge_that_is_away_is_no_trouble_of_the_call():
    """Nothing is raised where nobody listens."""
    said = threading.Event()
    url = f"http://127.0.0.1:{free_port()}"
    purger = Purger(url, by_http(Site(url, "cdn.endpoint")), tell=lambda _: said.set())
    purger(["e/one"])
    assert said.wait(WAIT_S)
    purger.close()


def test_what_waits_goes_together():
    """What is invalidated while a purge is on its way is one request afterwards, and each name is in one."""
    gate, batches, begun, done = threading.Event(), [], threading.Event(), threading.Event()

    def purge(names):
        batches.append(list(names))
        begun.set()
        assert gate.wait(WAIT_S)
        if len(batches) == 2:
            done.set()
        return 200

    purger = Purger("edge", purge)
    purger(["e/0"])
    assert begun.wait(WAIT_S)
    for number in range(1, 40):
        purger([f"e/{number}", "e/1"])
    gate.set()
    assert done.wait(WAIT_S)
    purger.close()
    assert sorted(name for batch in batches for name in batch) == sorted(f"e/{number}" for number in range(40))


def test_whatever_a_library_raises_is_said():
    """What nobody foresaw is said as the rest is, and what comes later is not kept for ever."""
    said = threading.Event()

    def purge(_):
        raise LookupError("whatever a library says")

    purger = Purger("edge", purge, tell=lambda _: said.set())
    purger(["e/one"])
    assert said.wait(WAIT_S)
    purger(["e/two"])
    assert not purger._waiting
    purger.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_purges_by_itself():
    """A purge that was on its way in the parent is none of the child's."""
    parent, gate, begun = os.getpid(), threading.Event(), threading.Event()
    in_child = threading.Event()

    def purge(_):
        if os.getpid() == parent:
            begun.set()
            assert gate.wait(WAIT_S)
        in_child.set()
        return 200

    purger = Purger("edge", purge)
    purger(["e/parent"])
    assert begun.wait(WAIT_S)
    child = os.fork()
    if child == 0:
        try:
            purger(["e/child"])
            os._exit(not in_child.wait(WAIT_S))
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    gate.set()
    purger.close()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://content-a1b2.z01.azurefd.net/llm", "content"),
        ("https://my-content-a1b2c3.z01.azurefd.net", "my-content"),
        ("https://content.azurefd.net", "content"),
        ("https://my-content.azureedge.net", "my-content"),
    ],
)
def test_the_endpoint_is_told_by_azures_host_names(url, name):
    """Front Door adds a digest to the endpoint's name, the older CDN does not."""
    assert _endpoint_of(url) == name


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "cdn.subscription"),
        ({"subscription": "s"}, "cdn.resource_group"),
        ({"subscription": "s", "resource_group": "g"}, "cdn.profile"),
        ({"subscription": "s", "resource_group": "g", "profile": "p"}, "PROFILE/ENDPOINT"),
    ],
)
def test_what_azure_has_to_be_told(isolated, more, says):
    """Each name that is missing is named."""
    cdn = load_settings(cdn={"endpoint": "cache.example.com", "purge": "azure", **more}).cdn
    with pytest.raises(ConfigurationError, match=says):
        _purge(cdn, Site(cdn.endpoint, "cdn.endpoint"), Identity, print)
