"""The routes of the server extension, asked over HTTP: who is refused, and what others learn."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest
import requests
from jupyter_servers import API, REPOSITORY, JupyterServer, isolated_server

from genai_cache_magic.testing.model_server import SimulatedModelServer

pytestmark = pytest.mark.service

READ = [
    "health",
    "stats",
    "usage",
    "entries",
    "entries/0123456789abcdef",
    "entries/0123456789abcdef/body",
    "config",
    "doctor",
]
ASKED = ["invalidate", "live", "explain"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
ALL = [(route, method) for route in READ + ASKED for method in METHODS]
WANTED = [("GET", route) for route in READ] + [("POST", route) for route in ASKED]


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    running = JupyterServer(tmp_path_factory.mktemp("jupyter"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def browser(jupyter):
    return jupyter.browser()


def asked(jupyter, method, route, session=requests, *, headers=None, json=None):
    return session.request(method, jupyter.url + API + route, headers=headers, json=json, timeout=60)


def test_every_route_is_among_those_that_are_tried_here():
    """A route that is added is tried without token, without XSRF and from elsewhere too."""
    from genai_cache_magic.jupyter.server.handlers import ROUTES

    tried = {route.replace("0123456789abcdef", "([0-9A-Za-z]+)") for route in READ + ASKED}
    assert tried == {"/".join(pattern) for pattern in ROUTES}


@pytest.mark.parametrize("token", ["", "token 0000", "Bearer 0000"])
def test_nobody_without_the_token_learns_or_changes_anything(jupyter, token):
    """Each route refuses each method."""
    for route, method in ALL:
        answer = asked(jupyter, method, route, headers={"Authorization": token} if token else {}, json={})
        assert answer.status_code in {403, 405}, (route, method)
        assert "entries" not in answer.text


def test_a_page_that_lacks_the_xsrf_token_changes_nothing(jupyter, browser):
    """A cookie alone, which a browser sends for any page, is no leave to post."""
    for route, method in ALL:
        if method in {"GET", "HEAD"}:
            continue
        answer = asked(jupyter, method, route, browser, json={})
        assert answer.status_code == 403, (route, method)
    wrong = {"X-XSRFToken": "2|00000000|00000000000000000000000000000000|1700000000"}
    assert all(asked(jupyter, "POST", route, browser, headers=wrong, json={}).status_code == 403 for route in ASKED)


def test_a_page_of_another_origin_learns_and_changes_nothing(jupyter, browser):
    """Not even with the cookie and the XSRF token."""
    elsewhere = {"Origin": "https://elsewhere.example", "X-XSRFToken": browser.cookies["_xsrf"]}
    for route, method in ALL:
        answer = asked(jupyter, method, route, browser, headers=elsewhere, json={})
        assert answer.status_code in {403, 404, 405}, (route, method)
        assert "entries" not in answer.text
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_browser_that_is_logged_in_is_answered(jupyter, browser):
    """Below the base URL, and nowhere else."""
    with_xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
    assert asked(jupyter, "GET", "health", browser).json()["l1"]["state"] == "ok"
    assert (
        asked(jupyter, "POST", "invalidate", browser, headers=with_xsrf, json={"pattern": "*"}).json()["dry_run"]
        is True
    )
    root = jupyter.url.removesuffix("/user/ann/")
    assert requests.get(f"{root}/{API}health", headers=jupyter.with_token, timeout=30).status_code == 404


@pytest.mark.parametrize(("method", "route"), WANTED)
def test_the_authorizer_is_asked(jupyter, method, route):
    """Who is let in may still be kept from reading answers, from the catalogue, or from invalidating."""
    resource = "genai-cache-body" if route.endswith("body") else "genai-cache"
    allowed = asked(jupyter, method, route, headers=jupyter.with_token, json={})
    assert allowed.status_code in {200, 400, 404}
    refused = asked(jupyter, method, route, headers={**jupyter.with_token, "X-Deny": resource}, json={})
    assert refused.status_code == 403
    other = asked(jupyter, method, route, headers={**jupyter.with_token, "X-Deny": "kernels"}, json={})
    assert other.status_code == allowed.status_code
    reader = asked(jupyter, method, route, headers={**jupyter.with_token, "X-Deny": "write:genai-cache"}, json={})
    assert (reader.status_code == 403) is (route == "invalidate")


@pytest.mark.parametrize(
    ("method", "route", "given", "status"),
    [
        ("GET", "entries?limit=0", None, 400),
        ("GET", "entries?offset=-1", None, 400),
        ("GET", "entries?limit=1e3", None, 400),
        ("GET", "entries?search=" + "x" * 501, None, 400),
        ("GET", "entries?namespace=..", None, 400),
        ("GET", "usage?since=soon", None, 400),
        ("GET", "usage?by=moon", None, 400),
        ("GET", "entries/xyz", None, 400),
        ("GET", "entries/0123456789abcdef", None, 404),
        ("GET", "stats?store=nothex", None, 400),
        ("GET", "stats?store=0123456789abcdef", None, 409),
        ("POST", "invalidate", {}, 400),
        ("POST", "invalidate", [], 400),
        ("POST", "invalidate", {"tag": "a", "run": "b"}, 400),
        ("POST", "invalidate", {"tag": 7}, 400),
        ("POST", "invalidate", {"tag": ""}, 400),
        ("POST", "invalidate", {"tag": "a", "dry_run": "false"}, 400),
        ("POST", "invalidate", {"all": True}, 400),
        ("POST", "invalidate", {"older_than": "soon"}, 400),
        ("POST", "invalidate", {"entries": ["*"]}, 400),
        ("POST", "invalidate", {"entries": "0123456789abcdef"}, 400),
        ("POST", "live", {"entries": [None]}, 400),
        ("POST", "explain", {"entry": {}}, 400),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(jupyter, method, route, given, status):
    """No wrong parameter shows a stack trace, a path of the package or another format than JSON."""
    answer = asked(jupyter, method, route, headers=jupyter.with_token, json=given)
    assert answer.status_code == status
    said = answer.json()["message"]
    assert 15 < len(said) < 400
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text


@pytest.mark.parametrize(("method", "route"), WANTED)
def test_a_parameter_that_is_not_known_is_refused(jupyter, method, route):
    """A misspelt one must not answer another question: each route, in its query and in its document; once is enough."""
    wrong = ["tagg=x", "tag%00=x", "entry=0123456789abcdef", "123=x", "=x", "dry_run=", f"{'n' * 999}=1"]
    wrong += ["limit=1&limit=2", "tag=a&tag="] if route == "entries" else ["limit=1"]
    for query in wrong:
        answer = asked(jupyter, method, f"{route}?{query}", headers=jupyter.with_token, json={})
        assert answer.status_code == 400, query
        assert 15 < len(answer.json()["message"]) < 400
    usual = asked(jupyter, method, route, headers=jupyter.with_token, json={})
    also = f"{route}?token={jupyter.token}&1764383000000"  # as links have it, and as JupyterLab asks
    assert asked(jupyter, method, also, headers=jupyter.with_token, json={}).status_code == usual.status_code
    if method == "POST":
        for document in ('{"tagg": "x"}', '{"store": "", "store": ""}', '{"": 1}', '{"limit": 1}'):
            url = jupyter.url + API + route
            answer = requests.post(url, data=document, headers=jupyter.with_token, timeout=60)
            assert answer.status_code == 400, document
            assert 15 < len(answer.json()["message"]) < 400


def test_what_is_no_json_is_said_in_a_sentence(jupyter):
    """A body that can't be read is refused, and the server goes on."""
    for body in (b"{", b"\xff\xfe", b"[" * 100_000, b"{}" + b" " * 2**20):
        answer = requests.post(jupyter.url + API + "invalidate", data=body, headers=jupyter.with_token, timeout=60)
        assert answer.status_code == 400
        assert "JSON" in answer.text or "bytes" in answer.text
    assert "Traceback" not in jupyter.log


def test_words_of_prompts_are_told_to_who_may_read_them(jupyter):
    """`explain` names parts to everyone who may ask; its authorizer is asked before it shows words."""
    environment = {name: value for name, value in jupyter.environment.items() if name != "PYTHONPATH"}
    with SimulatedModelServer() as model:
        code = ASKING.format(url=model.openai_url)
        subprocess.run([sys.executable, "-c", code], env=environment | {"PYTHONPATH": str(REPOSITORY)}, check=True)
    (newest, _) = asked(jupyter, "GET", "entries?limit=2", headers=jupyter.with_token).json()["entries"]

    def diff(deny):
        headers = {**jupyter.with_token, "X-Deny": deny}
        answer = asked(jupyter, "POST", "explain", headers=headers, json={"entry": newest["id"]})
        assert answer.json()["differs"] == ["body.messages[0]"]
        return answer.json()["diff"]

    assert "two" in diff("")[-1]
    assert "two" not in str(diff("genai-cache-body"))


ASKING = """
import openai
from genai_cache_magic import llm_cache
with openai.OpenAI(base_url={url!r}, api_key="k", max_retries=0) as client, llm_cache():
    for text in ("say one", "say two"):
        client.chat.completions.create(model="gpt-4.1-mini", messages=[{{"role": "user", "content": text}}])
"""

WRONG = {
    "GENAI_CACHE_TTL": "soon",
    "GENAI_CACHE_DIR": "/proc/nowhere",
    "GENAI_CACHE_L2": "gopher://there",
    "GENAI_CACHE_NO_SUCH_SETTING": "1",
    "GENAI_CACHE_KEY_FILE": "/proc/nowhere/key",
}

LOADED = """
import json, os, sys, tornado.web, types
import genai_cache_magic
from importlib import import_module
from genai_cache_magic.jupyter.server import answers, caches
(point,) = genai_cache_magic._jupyter_server_extension_points()
said = {}
for name, value in json.loads(sys.argv[1]).items():
    os.environ[name] = value
    app = tornado.web.Application([], base_url="/")
    import_module(point["module"])._load_jupyter_server_extension(types.SimpleNamespace(web_app=app))
    opened = caches.Caches()
    said[name] = [answers.health(opened, {}), answers.doctor(opened, {})]
    opened.close()
    del os.environ[name]
print(json.dumps(said))
"""


def loaded(place, wrong, **variables):
    """Return what health and doctor say in a process that loads the extension with each of some settings."""
    ran = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(wrong)],
        env=isolated_server(place, **variables),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_wrong_setting_stops_no_server(tmp_path):
    """The extension loads whatever is configured, and health and doctor say what is wrong."""
    for name, (health, doctor) in loaded(tmp_path, WRONG).items():
        if name == "GENAI_CACHE_L2":
            assert (health["l1"]["state"], health["l2"]["state"]) == ("ok", "unreachable")
            assert "address" in health["l2"]["sentence"]
            continue
        assert health["l1"]["state"] == "broken", name
        assert len(health["l1"]["sentence"]) > 20
        found = {finding["severity"] for finding in doctor["findings"]}
        assert found - {"ok"} or name == "GENAI_CACHE_DIR", name  # which nothing is made in for a look


def test_a_server_that_is_to_replay_is_none_the_worse(tmp_path):
    """A mode that puts a whole process in force does so in the server too, and its routes answer."""
    (said,) = loaded(tmp_path, {"GENAI_CACHE_PERSON": "ann"}, GENAI_CACHE_MODE="replay").values()
    assert said[0]["l1"]["state"] == "ok"
    assert "error" not in {finding["severity"] for finding in said[1]["findings"]}


def test_the_file_that_enables_it_names_what_can_be_loaded():
    """Installing the wheel enables the extension: its file names the package, which names the module."""
    import genai_cache_magic

    path = REPOSITORY / "jupyter-config" / "jupyter_server_config.d" / "genai_cache_magic.json"
    assert json.loads(path.read_text())["ServerApp"]["jpserver_extensions"] == {genai_cache_magic.__name__: True}
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    source, target = next(pair for pair in wheel["shared-data"].items() if pair[1].startswith("etc/"))
    assert path.parent.samefile(REPOSITORY / source)
    assert target == "etc/jupyter/jupyter_server_config.d"
