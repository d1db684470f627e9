"""A file that each run uploads anew gets a new id each time, and counts as what it holds: the second run hits."""

from __future__ import annotations

import contextlib
import http.server
import io
import itertools
import json

import httpx
import pytest
from loopback import serving

from genai_cache_magic import llm_cache

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
CHAT = {"object": "chat.completion", "model": "m", "choices": [CHOICE]}
CLAUDE = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
GEMINI = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
STARTED = "start"

pytestmark = pytest.mark.usefixtures("isolated")


class Keeping(http.server.BaseHTTPRequestHandler):
    """Gives every upload an id of its own, and answers every question."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        number = next(self.server.numbers)
        path = self.path.partition("?")[0]
        headers = []
        if path.endswith("/upload/v1beta/files"):
            if STARTED in self.headers["x-goog-upload-command"]:
                headers.append(("x-goog-upload-url", f"{self.server.url}/upload/v1beta/files?upload_id={number}"))
            uri = f"{self.server.url}/v1beta/files/f{number}"
            told = {"file": {"name": f"files/f{number}", "uri": uri, "mimeType": "text/plain"}}
        elif path.endswith("/files"):
            told = {"id": f"file-{number}", "object": "file", "type": "file", "filename": "a", "bytes": 1}
        elif path.endswith("/cachedContents"):
            told = {"name": f"cachedContents/c{number}"}
        else:
            self.server.asked += 1
            told = CLAUDE if path.endswith("/messages") else GEMINI if ":" in path else CHAT
        body = json.dumps(told).encode()
        self.send_response(200)
        for header in (("content-type", "application/json"), ("content-length", str(len(body))), *headers):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    with serving(Keeping, numbers=itertools.count(), asked=0) as running:
        yield running


def by_openai(url, content):
    openai = pytest.importorskip("openai", reason="pip install openai")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k") as client:
        name = client.files.create(file=("a.txt", io.BytesIO(content)), purpose="user_data").id
        part = {"type": "file", "file": {"file_id": name}}
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": [part]}])


def by_anthropic(url, content):
    anthropic = pytest.importorskip("anthropic", reason="pip install anthropic")
    with anthropic.Anthropic(base_url=url, api_key="k") as client:
        name = client.beta.files.upload(file=("a.txt", content, "text/plain")).id
        block = {"type": "document", "source": {"type": "file", "file_id": name}}
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": [block]}])


GOOGLES = {"x-goog-api-client": "google-genai-sdk"}


def by_gemini_pieces(url, content):
    with httpx.Client(headers=GOOGLES) as client:
        start = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": STARTED}
        to = client.post(f"{url}/upload/v1beta/files", json={"file": {}}, headers=start).headers["x-goog-upload-url"]
        last = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
        file = client.post(to, content=content, headers=last).json()["file"]
        parts = [{"fileData": {"mimeType": file["mimeType"], "fileUri": file["uri"]}}]
        client.post(f"{url}/v1beta/models/m:generateContent", json={"contents": [{"parts": parts}]})


def by_gemini_cache(url, content):
    with httpx.Client(headers=GOOGLES) as client:
        contents = [{"parts": [{"text": content.decode()}]}]
        body = {"model": "models/m", "contents": contents, "ttl": "300s"}
        name = client.post(f"{url}/v1beta/cachedContents", json=body).json()["name"]
        asked = {"contents": [{"parts": [{"text": "a"}]}], "cachedContent": name}
        client.post(f"{url}/v1beta/models/m:generateContent", json=asked)


WAYS = (by_openai, by_anthropic, by_gemini_pieces, by_gemini_cache)


@pytest.mark.parametrize("run", WAYS)
def test_file_that_is_uploaded_anew_is_the_same_file(server, run):
    """Each run uploads for itself, in a scope of its own; only what was not asked of this content is asked."""
    cells = []
    for content in (b"one", b"one", b"two"):
        with llm_cache() as cell:
            run(server.url, content)
        cells.append(cell)
    assert [(cell.hits, cell.misses) for cell in cells] == [(0, 1), (1, 0), (0, 1)]
    assert [len(cell.calls) for cell in cells] == [1, 1, 1]
    assert server.asked == 2
    assert all(cell.troubles == () for cell in cells)


@pytest.mark.parametrize("run", WAYS[:3])
def test_upload_goes_on_in_replay(server, run):
    """An upload is no model call: it is sent in mode replay, and the question about its new id hits."""
    with llm_cache():
        run(server.url, b"one")
    with llm_cache(mode="replay") as cell:
        run(server.url, b"one")
    assert (cell.hits, server.asked) == (1, 1)


def test_upload_that_is_changed_on_its_way_is_not_known(server):
    """What a hook makes of an upload is not what was looked at, so its id stands for nothing that we know."""

    def change(request):
        request.headers["content-type"] = "multipart/form-data; boundary=other"

    with llm_cache() as cell, httpx.Client(event_hooks={"request": [change]}) as client:
        for _ in range(2):
            form = {"file": ("a.txt", b"one", "text/plain")}
            name = client.post(f"{server.url}/v1/files", files=form).json()["id"]
            part = {"type": "file", "file": {"file_id": name}}
            with contextlib.suppress(httpx.HTTPError), httpx.Client() as plain:
                body = {"model": "m", "messages": [{"role": "user", "content": [part]}]}
                plain.post(f"{server.url}/v1/chat/completions", json=body)
    assert (cell.hits, cell.misses) == (0, 2)
