"""The simulated model server over plain HTTP: its answers, routes and framing."""

import json
import socket
import struct
from base64 import b64decode

import httpx
import pytest
from model_clients import (
    ASK,
    CALLS,
    CHAT,
    STREAM,
    STREAMED,
    events,
    plain_client,  # noqa: F401 - a fixture
)

from genai_cache_magic.testing.model_server import SimulatedModelServer

# Answers


@pytest.mark.parametrize("path", CALLS)
def test_equal_requests_get_equal_bytes(client, path):
    """Deterministic answers are equal to the byte, ids and times included."""
    first, second = (client.post(path, json=CALLS[path]) for _ in range(2))
    assert first.status_code == 200
    assert first.content == second.content


@pytest.mark.parametrize("path", CALLS)
def test_unique_answers_differ_for_equal_requests(path):
    """In unique mode no answer is like another, in its id where it has one and in what it says."""
    with SimulatedModelServer(answers="unique") as server:
        first, second = (httpx.post(server.url + path, json=CALLS[path]).json() for _ in range(2))
    assert first.get("id", "") != second.get("id", "") or path == "/v1/embeddings"
    said = [json.dumps({k: v for k, v in one.items() if k not in {"id", "created"}}) for one in (first, second)]
    assert said[0] != said[1]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4.1"},
        {"temperature": 0.5},
        {"user": "me"},
        {"messages": [{"role": "system", "content": "x"}, *ASK["messages"]]},
        {"unknown_field": None},
    ],
)
def test_a_different_request_gets_a_different_answer(client, change):
    """Whatever differs in the body shows in the text."""
    texts = {
        client.post(CHAT, json=body).json()["choices"][0]["message"]["content"].partition(",")[2]
        for body in (ASK, {**ASK, **change})
    }
    assert len(texts) == 2


def test_query_and_semantic_headers_count_and_credentials_do_not(client):
    """A version in the query or a beta header makes another request, another key does not."""
    ids = [
        client.post(path, json=ASK, headers=headers).json()["id"]
        for path, headers in (
            (CHAT, {}),
            (CHAT, {"authorization": "Bearer someone-else"}),
            (f"{CHAT}?api-version=1", {}),
            (CHAT, {"openai-beta": "x"}),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("path", CALLS)
def test_every_answer_says_that_it_is_simulated(client, path):
    """No answer can be mistaken for a model's: the header says so, and every text."""
    response = client.post(path, json=CALLS[path])
    assert response.headers["x-simulated"] == "1"
    assert "[simulated]" in response.text or path == "/v1/embeddings"


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_has_at_least_five_pieces_and_ends_with_its_terminal_event(client, path):
    """Streams are long enough to be interrupted, and end as the real API's do."""
    response = client.post(path, json={**CALLS[path], "stream": True})
    data = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert len(data) >= 7
    assert any(end in data[-1] for end in ("[DONE]", '"response.completed"', '"message_stop"'))


def test_the_usage_event_comes_exactly_as_asked(client):
    """Usage is null on the way and comes last without choices, and only where it was asked for."""
    plain = [json.loads(data) for data in events(client.post(CHAT, json=STREAM).text)[:-1]]
    asked = {**STREAM, "stream_options": {"include_usage": True}}
    counted = [json.loads(data) for data in events(client.post(CHAT, json=asked).text)[:-1]]
    assert all("usage" not in chunk and chunk["choices"] for chunk in plain)
    assert all(chunk["usage"] is None for chunk in counted[:-1])
    assert counted[-1]["choices"] == []
    assert counted[-1]["usage"] == client.post(CHAT, json=ASK).json()["usage"]


def test_both_encodings_of_an_embedding_are_one_unit_vector(client):
    """Base64 holds the same float32 numbers as the list, in the asked size and of length one."""
    body = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 64}
    plain = client.post("/v1/embeddings", json=body).json()["data"]
    coded = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"]
    for number, code in zip(plain, coded, strict=True):
        decoded = struct.unpack("<64f", b64decode(code["embedding"]))
        assert decoded == struct.unpack("<64f", struct.pack("<64f", *number["embedding"]))
        assert sum(x * x for x in decoded) == pytest.approx(1, abs=1e-6)
    assert plain[0]["embedding"] != plain[1]["embedding"]


def test_texts_that_share_words_are_nearer(client):
    """Embeddings carry enough sense for a semantic look-up to be shown."""
    texts = ["how do I reset my password", "how can I reset the password", "weather in Lisbon tomorrow"]
    data = client.post("/v1/embeddings", json={"model": "m", "input": texts}).json()["data"]
    first, near, far = (one["embedding"] for one in data)
    assert sum(map(float.__mul__, first, near)) > 0.4
    assert sum(map(float.__mul__, first, far)) < 0.2


# Routes


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21",
        "/openai/v1/chat/completions",
        "/openai/v1/responses",
        "/openai/responses?api-version=2025-03-01-preview",
        "/openai/deployments/my%20gpt/embeddings?api-version=1",
        "/anthropic/v1/messages",
    ],
)
def test_azure_paths_are_served(client, server, path):
    """Azure's present, dated and deployment paths are model calls too."""
    body = next(body for known, body in CALLS.items() if path.partition("?")[0].endswith(known.removeprefix("/v1")))
    assert client.post(path, json=body).status_code == 200
    assert server.requests[0].path == path.partition("?")[0]
    assert server.requests[0].query == path.partition("?")[2]


def test_the_deployment_is_the_model_where_the_body_names_none(client):
    """Azure's old clients name the model in the path only."""
    path = "/openai/deployments/my%20gpt/chat/completions?api-version=1"
    assert client.post(path, json={"messages": ASK["messages"]}).json()["model"] == "my gpt"


def test_only_model_calls_are_counted(client, server):
    """Listing models, counting tokens, redirects and unknown routes leave the count alone."""
    models = client.get("/v1/models").json()
    counted = client.post("/v1/messages/count_tokens", json=CALLS["/v1/messages"]).json()
    assert client.get("/nowhere").status_code == 404
    assert client.put(CHAT, json=ASK).status_code == 404
    assert models["object"] == "list"
    assert counted["input_tokens"] > 0
    assert server.count == 0


def test_a_redirect_leads_back_to_the_same_call(client, server):
    """307 keeps method and body, and the call is counted once."""
    response = client.post(f"/redirect{CHAT}?a=1", json=ASK, follow_redirects=True)
    assert response.history[0].status_code == 307
    assert response.json()["object"] == "chat.completion"
    assert [request.target for request in server.requests] == [f"{CHAT}?a=1"]


def test_a_redirect_never_leaves_this_server(client, server):
    """A path that looks like another host stays a path."""
    location = client.post("/redirect//example.com/v1", json=ASK).headers["location"]
    assert location == f"{server.url}/example.com/v1"


def test_what_arrived_is_kept_in_order(client, server):
    """A received request has its parts: lowercase headers, raw body and parsed JSON."""
    for content in ("one", "two"):
        client.post(CHAT, json={**ASK, "user": content}, headers={"X-Twice": content})
    first, second = server.requests
    assert (first.method, first.path, first.query) == ("POST", CHAT, "")
    assert first.headers["x-twice"] == "one"
    assert json.loads(second.body) == second.json == {**ASK, "user": "two"}


def test_no_credential_or_prompt_is_in_a_repr(client, server):
    """What a failing assertion prints holds no secret."""
    client.post(CHAT, json=ASK, headers={"authorization": "Bearer sk-secret"})
    assert "sk-secret" not in repr(server.requests)
    assert "2 + 2" not in repr((server.requests, server))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b"no json"),
        (CHAT, b"[1]"),
        (CHAT, b'{"model": "m", "messages": []}'),
        (CHAT, b'{"model": "m", "messages": "hi"}'),
        (CHAT, b'{"messages": [{}]}'),
        (CHAT, b'{"model": "m", "messages": [{}], "n": 0}'),
        (CHAT, b'{"model": "m", "messages": [{}], "tools": [{}], "tool_choice": {"function": 1}}'),
        (CHAT, b'{"model": "m", "messages": [{}], "response_format": {"type": "json_schema"}}'),
        ("/v1/messages", b'{"model": "m", "messages": [{}]}'),
        ("/v1/embeddings", b'{"model": "m", "input": []}'),
        ("/v1/embeddings", b'{"model": "m", "input": "a", "encoding_format": "hex"}'),
        ("/v1/responses", b'{"model": "m", "input": 1}'),
        ("/v1/completions", b'{"model": "m"}'),
    ],
)
def test_a_call_that_no_provider_takes_gets_a_400_and_is_counted(client, server, path, body):
    """A malformed call is refused in the API's own error form."""
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert server.count == 1


# HTTP


def test_a_connection_serves_many_calls(server):
    """Keep-alive works: two calls, one connection."""
    connections = []
    with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
        for _ in range(2):
            with client.stream("POST", server.url + CHAT, json=STREAM) as response:
                connections.append(response.extensions["network_stream"].get_extra_info("client_addr"))
                response.read()
    assert connections[0] == connections[1]


def test_a_chunked_request_is_read(client, server):
    """A client that streams its body is understood."""
    body = json.dumps(ASK).encode()
    response = client.post(CHAT, content=iter([body[:20], body[20:]]), headers={"content-type": "application/json"})
    assert response.status_code == 200
    assert server.requests[0].body == body


@pytest.mark.parametrize(
    "framing",
    ["Content-Length: -1", "Content-Length: many", "Content-Length: 99999999999", "Transfer-Encoding: chunked"],
)
def test_malformed_framing_is_refused_and_the_connection_closed(server, framing):
    """A length that can't be trusted ends the connection with a 400, and nothing is counted."""
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), timeout=30) as raw:
        raw.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\nzz\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert server.count == 0


def test_every_answer_carries_what_must_not_be_stored(client):
    """A cookie, a request id and a processing time come along, another cookie each time."""
    first, second = (client.post(CHAT, json=ASK).headers for _ in range(2))
    assert first["set-cookie"].startswith("session=")
    assert first["set-cookie"] != second["set-cookie"]
    assert first["x-request-id"] != second["x-request-id"]
    assert "openai-processing-ms" in first


@pytest.mark.parametrize("body", [ASK, STREAM])
def test_gzip_is_used_where_asked_and_accepted(client, body):
    """Compressed answers, whole or streamed, decode to the same bytes."""
    plain = client.post(CHAT, json=body)
    squeezed = client.post(CHAT, json=body, headers={"x-simulate-gzip": "1"})
    refused = client.post(CHAT, json=body, headers={"x-simulate-gzip": "1", "accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert squeezed.headers["content-encoding"] == "gzip"
    assert squeezed.content == plain.content == refused.content


def test_gzip_can_be_the_servers_habit():
    """The constructor's gzip compresses every answer."""
    with SimulatedModelServer(gzip=True) as server:
        assert httpx.post(server.url + CHAT, json=ASK).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("gzip", ["0", "1"])
def test_events_leave_one_by_one(client, server, gzip):
    """An event reaches the client before the next one is made, compressed or not."""
    server.hold(after_events=3)
    with client.stream("POST", CHAT, json=STREAM, headers={"x-simulate-gzip": gzip}) as response:
        lines = (line for line in response.iter_lines() if line)
        early = [next(lines) for _ in range(3)]
        server.release()
        late = list(lines)
    assert all(line.startswith("data: {") for line in early)
    assert late[-1] == "data: [DONE]"
