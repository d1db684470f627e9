"""Nothing readable leaves a process: unique texts go through the whole package and are looked for wherever it wrote.

Prompts, answers, an API key, a tag, a model, a run, a person and a value go through real SDKs, a vault that guards the
key, a real Redis and a real Azurite (`canary_run.py`); then every file, every key, every blob, our logs, those of the
stores' clients, and whatever was shown are searched, in plain, encoded and compressed forms (`canaries.py`). The same
without encryption shows that the search would find them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from faults.canaries import files_under, found_in, planted, report
from services import started

from genai_cache_magic.testing.azure.service import Listener
from genai_cache_magic.testing.servers import AZURITE_ACCOUNT, AZURITE_KEY, RedisServer
from genai_cache_magic.testing.simulated.replying import Reply, json_reply

RUN = Path(__file__).parent / "canary_run.py"
_WAIT_S = 150
SECRETS = ("prompt", "system", "answer", "api_key", "value", "name")
NAMES = ("model", "tag", "run", "person")


def made():
    """Canaries with letters that JSON, URLs and logs spell differently, but for those that are names of headers."""
    canaries = {name: f'{name} «café "{secrets.token_hex(9)}" été»' for name in SECRETS}
    canaries |= {name: f"{name}-{secrets.token_hex(9)}-canary" for name in NAMES}
    return {**canaries, "api_key": f"sk-{secrets.token_hex(12)}"}


@pytest.mark.parametrize("form", planted("x"))
def test_the_search_finds_what_is_planted(form):
    """Each way to write a text down is seen, so that finding nothing means something."""
    for name, canary in made().items():
        assert found_in(planted(canary)[form], {name: canary}), name
        assert found_in(planted(canary)[form], {name: canary[::-1]}) == set()


class Models:
    """A provider whose every answer holds the canary; a prompt that says so gets a large one."""

    def __init__(self, canaries):
        self._canaries = canaries
        self.calls = 0

    def respond(self, request):
        self.calls += 1
        text = f"{self._canaries['answer']} {self.calls}"
        if "large" in request.body.decode():
            text += secrets.token_hex(1_100_000)  # more than 1 MiB, compressed too: it goes to Blob
        model, usage = request.json["model"], {"input_tokens": 3, "output_tokens": 5}
        if request.path.endswith("/messages"):
            message = {"id": f"msg_{self.calls}", "type": "message", "role": "assistant", "model": model}
            content = [{"type": "text", "text": text}]
            return json_reply(200, {**message, "content": content, "stop_reason": "end_turn", "usage": usage})
        head = {"id": f"chatcmpl-{self.calls}", "created": 1, "model": model}
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        if not request.json.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            return json_reply(200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        chunks = [{"delta": {"role": "assistant", "content": text}}, {"delta": {}, "finish_reason": "stop"}]
        frames = [
            b"data: %b\n\n"
            % json.dumps({**head, "object": "chat.completion.chunk", "choices": [{"index": 0, **chunk}]}).encode()
            for chunk in chunks
        ]
        return Reply(200, (("content-type", "text/event-stream"),), frames=[*frames, b"data: [DONE]\n\n"])


@pytest.fixture
def models():
    canaries = made()
    listener = Listener(0)
    listener.start(Models(canaries))
    yield canaries, listener.url
    listener.stop()


@pytest.fixture
def redis_of_its_own():
    with started(RedisServer) as server:
        yield server


def in_redis(server):
    """Everything that a server holds: names and values of every type."""
    redis = pytest.importorskip("redis", reason="pip install redis")
    with redis.Redis.from_url(server.url) as client:
        for name in client.scan_iter(count=1000):
            kind = client.type(name)
            value = {b"string": client.get, b"hash": client.hgetall}[kind](name)
            parts = [value] if isinstance(value, bytes) else [part for pair in value.items() for part in pair]
            yield f"redis {name.decode()}", b"\n".join([name, *parts])


def in_blob(server, container):
    """Everything in a container: names, metadata, tags and contents."""
    blob = pytest.importorskip("azure.storage.blob", reason="pip install azure-storage-blob")
    credential = {"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY}
    with blob.BlobServiceClient(server.account_url, credential=credential) as service:
        for found in service.get_container_client(container).list_blobs(include=["metadata", "tags"]):
            data = service.get_blob_client(container, found.name).download_blob().readall()
            about = json.dumps([found.name, found.metadata, found.tags], default=str)
            yield f"blob {found.name}", about.encode() + b"\n" + data


def environment(place, canaries, url, l2, more):
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    own = {
        "HOME": place / "home",
        "XDG_CONFIG_HOME": place / "home",
        "IPYTHONDIR": place / "ipython",
        "TMPDIR": place / "tmp",
        "GENAI_CACHE_DIR": place / "cache",
        "GENAI_CACHE_KEY_FILE": place / "keys" / "key",
    }
    for path in own.values():
        (path if path.name != "key" else path.parent).mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        **{name: str(path) for name, path in own.items()},
        **more,
        "PYTHONPATH": str(RUN.parents[2]),
        "GENAI_CACHE_PERSON": canaries["person"],
        "GENAI_CACHE_L2": l2,
        "GENAI_CACHE_L2_ACCOUNT_KEY": AZURITE_KEY,
        "GENAI_CACHE_L2_CREATE_CONTAINER": "true",
        "GENAI_CACHE_STATUS": "static",
        "MODELS_URL": url,
        "CANARIES": json.dumps(canaries),
    }


def run_it(place, env, meanwhile):
    """Run the process, look at the stores while it waits, and let it go on without Redis; return what it showed."""
    work = place / "work"
    work.mkdir()
    errors = place / "errors"
    with (
        errors.open("wb") as log,
        subprocess.Popen(
            [sys.executable, str(RUN)],
            cwd=work,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            said = process.stdout.readline()
            assert said == "told\n", errors.read_text()
            meanwhile()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.wait(timeout=_WAIT_S) == 0, errors.read_text()
        finally:
            process.kill()
    return json.loads((work / "shown.json").read_text("utf-8")), errors.read_bytes()


@pytest.fixture
def scan(tmp_path, models, redis_of_its_own, azurite, team):
    """Run everything with settings; return what was shown, and every place that was written to."""
    canaries, url = models
    container = team.lower()

    def run(**more):
        stores = []

        def look():
            stores.extend(in_redis(redis_of_its_own))
            stores.extend(in_blob(azurite, container))
            redis_of_its_own.stop()

        l2 = f"{redis_of_its_own.url},{azurite.account_url}/{container}"
        shown, errors = run_it(tmp_path, environment(tmp_path, canaries, url, l2, more), look)
        files = [find for name in ("cache", "home", "keys", "tmp") for find in files_under(tmp_path / name)]
        return canaries, shown, errors, files, stores

    return run


@pytest.mark.service
@pytest.mark.timeout(400)
def test_nothing_readable_is_left_anywhere(scan, vault, identity):
    """Sealed by a key that a vault guards: no canary in any file, store, log, message or object, in no form."""
    for name in ("cache-key", "cache-key-sign"):
        vault.create_key(name)
    canaries, shown, errors, files, stores = scan(
        **identity.environment(),
        GENAI_CACHE_ENCRYPTION="key-vault",
        GENAI_CACHE_KEY_VAULT_URL=vault.url,
        GENAI_CACHE_KEY_VAULT_CREDENTIAL="managed-identity",
    )
    assert_everything_was_used(files, stores)
    assert report([*files, *stores], canaries) == set()
    logged = [("logs", shown["logs"].encode()), ("errors", errors)]
    assert {"azure", "urllib3"} <= {line.split(".")[0] for line in shown["logs"].split()}
    assert report(logged, canaries) == set()
    secret = {name: canaries[name] for name in SECRETS}
    said = [
        (f"{kind} {at}", json.dumps(text).encode())
        for kind in ("cells", "raised", "objects")
        for at, text in enumerate(shown[kind])
    ]
    assert report(said, secret) == set()
    assert len(shown["raised"]) >= 2
    assert len(shown["objects"]) >= 30
    assert not re.search("[0-9a-f]{64}", json.dumps([shown["cells"], shown["raised"], shown["objects"]]))
    assert shown["pickles"] == []


@pytest.mark.service
@pytest.mark.timeout(400)
def test_without_encryption_the_same_search_finds_them(scan):
    """What is written plainly is found here and in both stores: the search looks where things are."""
    canaries, _, _, files, stores = scan(GENAI_CACHE_ENCRYPTION="off")
    assert_everything_was_used(files, stores)
    found = report([*files, *stores], canaries)
    for place in ("/l1/", "outbox.db", "redis ", "blob "):
        assert "answer" in {name for where, name, _ in found if place in where}, place
    assert {"prompt", "answer", "model", "tag", "person"} <= {name for _, name, _ in found}
    assert "api_key" not in {name for _, name, _ in found}


def assert_everything_was_used(files, stores):
    """There are databases, entries, a queue, a keyset or none, and both stores hold something."""
    names = {name.rpartition("/")[2] for name, _ in files}
    assert {"state.db", "outbox.db", "ledger.db", "generations"} <= names
    assert [name for name, _ in files if "outbox.db row" in name]
    assert len([name for name, _ in stores if ":e:" in name]) >= 10
    assert [name for name, _ in stores if name.startswith("blob ")]
