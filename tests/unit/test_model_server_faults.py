"""What goes wrong on purpose: held answers, faults on the wire, and the server's own end."""

import json
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

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

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer, main


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("simulated-model")]


# Gate


def test_held_calls_are_counted_and_answered_after_release(server):
    """`hold` keeps answers back and not arrivals; `wait_for` sees them arrive."""
    server.hold()
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(httpx.post, server.url + CHAT, json=ASK, timeout=30) for _ in range(8)]
        assert server.wait_for(8)
        assert not any(call.done() for call in calls)
        server.release()
        assert {call.result().status_code for call in calls} == {200}


def test_wait_for_says_when_calls_do_not_come(server):
    """Waiting ends with False, not with an error."""
    assert server.wait_for(0)
    assert not server.wait_for(1, timeout_s=0.01)


def test_reset_makes_a_fresh_server(client, server):
    """After `reset` no call, no fault and no hold is left."""
    client.post(CHAT, json=ASK)
    server.fail_next(Fault.SERVER_ERROR)
    server.hold()
    server.reset()
    assert server.count == 0
    assert client.post(CHAT, json=ASK).status_code == 200


# Faults


def test_faults_come_in_the_order_they_were_queued(client, server):
    """Each call takes one fault, then answers are good again; other routes take none."""
    server.fail_next(Fault.TOO_MANY_REQUESTS, times=2)
    server.fail_next(Fault.SERVER_ERROR)
    client.get("/v1/models")
    responses = [client.post(CHAT, json=ASK) for _ in range(4)]
    assert [response.status_code for response in responses] == [429, 429, 500, 200]
    assert responses[0].headers["retry-after"] == "0"


def test_a_fault_by_header_leaves_the_queue_alone(client, server):
    """The header's fault is for its own call only."""
    server.fail_next(Fault.SERVER_ERROR)
    own = client.post(CHAT, json=ASK, headers={"x-simulate-fault": "Too-Many-Requests"})
    assert own.status_code == 429
    assert client.post(CHAT, json=ASK).status_code == 500


@pytest.mark.parametrize(
    "headers", [{"x-simulate-fault": "flood"}, {"x-simulate-latency-s": "nan"}, {"x-simulate-latency-s": "soon"}]
)
def test_a_wrong_simulation_header_is_said(client, headers):
    """A typo gets a 400 that names the header, never an unsimulated answer."""
    response = client.post(CHAT, json=ASK, headers=headers)
    assert response.status_code == 400
    assert next(iter(headers)) in response.json()["error"]["message"]


@pytest.mark.parametrize("path", STREAMED)
def test_a_cut_stream_breaks_the_connection(client, path):
    """The client sees that the body ended early, after half of the events."""
    with (
        client.stream(
            "POST", path, json={**CALLS[path], "stream": True}, headers={"x-simulate-fault": "stream_cut"}
        ) as r,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        r.read()


@pytest.mark.parametrize("path", STREAMED)
def test_a_cleanly_cut_stream_lacks_only_its_terminal_event(client, path):
    """The body ends well formed, so that only a reader of events can tell."""
    body = {**CALLS[path], "stream": True}
    whole = client.post(path, json=body).text
    cut = client.post(path, json=body, headers={"x-simulate-fault": "stream_clean_cut"}).text
    assert whole.startswith(cut)
    assert len(events(cut)) == len(events(whole)) - 1


@pytest.mark.parametrize("path", STREAMED)
def test_bad_json_in_a_stream_is_one_event(client, path):
    """One event can't be parsed, and the stream goes on to its end."""
    body = {**CALLS[path], "stream": True}
    data = events(
        client.post(path, json=body, headers={"x-simulate-fault": "bad_json"}).content.decode(errors="replace")
    )
    assert sum(not is_json(one) for one in data if one != "[DONE]") == 1
    assert data[-1] == events(client.post(path, json=body).text)[-1]


@pytest.mark.parametrize("fault", ["bad_json", "stream_clean_cut"])
def test_bad_json_is_half_a_body_with_a_true_length(client, fault):
    """The transport finds nothing wrong with it."""
    response = client.post(CHAT, json=ASK, headers={"x-simulate-fault": fault})
    assert response.status_code == 200
    assert client.post(CHAT, json=ASK).content.startswith(response.content)
    assert not is_json(response.content)


def test_a_cut_body_is_shorter_than_it_says(client):
    """A call that isn't streamed is cut in its body."""
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(CHAT, json=ASK, headers={"x-simulate-fault": "stream_cut"})


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_error_body_comes_with_status_200(client, path, is_streamed):
    """Some gateways do just that, and in place of a stream too."""
    body = {**CALLS[path], "stream": is_streamed}
    response = client.post(path, json=body, headers={"x-simulate-fault": "error_body"})
    assert response.status_code == 200
    assert response.json()["error"]["message"].startswith("[simulated]")


@pytest.mark.parametrize("fault", ["truncated", "filtered", "refusal"])
def test_a_fault_unknown_to_an_api_is_said(client, fault):
    """Embeddings can't be truncated, so asking for it fails loudly."""
    body = CALLS["/v1/embeddings"]
    response = client.post("/v1/embeddings", json=body, headers={"x-simulate-fault": fault})
    assert response.status_code == 400
    assert fault in response.json()["error"]["message"]


# Beginning and end


def test_stop_ends_held_calls_open_streams_and_slow_answers():
    """Whatever clients wait for, `stop` returns, no thread is left, and they see a closed connection."""
    server = SimulatedModelServer(latency_s=3000).start()
    before = own_threads()
    server.hold(after_events=2)
    failures = []

    def call(body, headers):
        try:
            httpx.post(server.url + CHAT, json=body, headers=headers, timeout=60)
        except httpx.TransportError as error:
            failures.append(error)

    kinds = [(STREAM, {"x-simulate-latency-s": "0"}), (ASK, {}), (STREAM, {})]
    with ThreadPoolExecutor(3) as pool, httpx.Client() as idle:
        idle.get(f"{server.url}/v1/models")
        for kind in kinds:
            pool.submit(call, *kind)
        assert server.wait_for(3)
        server.stop()
        left = own_threads()  # asked while the idle client still keeps its connection
    assert before
    assert left == []
    assert len(failures) == 3


def test_a_stopped_server_refuses_keeps_its_url_and_starts_again():
    """`stop` frees the port and can be repeated; what was received stays readable."""
    server = SimulatedModelServer()
    with server:
        url = server.url
        httpx.post(url + CHAT, json=ASK)
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.post(url + CHAT, json=ASK)
    assert server.count == 1
    assert server.url == url
    with server:
        assert httpx.post(server.url + CHAT, json=ASK).status_code == 200


def test_a_client_that_leaves_harms_nobody(server, capfd):
    """A connection dropped in the middle of a stream prints nothing, and the next call is served."""
    server.hold(after_events=2)
    with httpx.stream("POST", server.url + CHAT, json=STREAM) as response:
        next(response.iter_lines())
    server.release()
    assert httpx.post(server.url + CHAT, json=ASK).status_code == 200
    server.stop()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "192.168.1.1"},
        {"host": "example.com"},
        {"answers": "random"},
        {"latency_s": -1},
        {"latency_s": float("nan")},
    ],
)
def test_a_wrong_setting_is_refused_at_construction(settings):
    """Above all an address that others could reach."""
    with pytest.raises(ConfigurationError):
        SimulatedModelServer(**settings)


def test_the_socket_is_bound_to_loopback(server):
    """What is promised about reach holds for the socket itself."""
    assert server._server.socket.getsockname()[0] == "127.0.0.1"


def test_a_taken_port_and_a_missing_start_are_said(server):
    """Both have a message, not a bare OSError or None."""
    with pytest.raises(ConfigurationError):
        SimulatedModelServer(port=httpx.URL(server.url).port).start()
    with pytest.raises(ConfigurationError):
        _ = SimulatedModelServer().url


def test_the_command_says_its_urls_and_that_it_is_simulated():
    """Run by hand it prints where it is, serves, and leaves with Ctrl-C."""
    # Where tests run in the background, Ctrl-C is ignored, and children inherit that.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import runpy; runpy.run_module('genai_cache_magic.testing.model_server', run_name='__main__')"
    )
    command = [sys.executable, "-c", program, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            head = process.stdout.readline() + process.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+/v1", head)[0]
            answer = httpx.post(f"{url}/chat/completions", json=ASK)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "imulated" in head
    assert answer.status_code == 200
    assert (process.returncode, errors) == (0, "")


def test_the_command_refuses_a_taken_port(server, capsys):
    """The usual exit status 2 and a sentence."""
    with pytest.raises(SystemExit) as stop:
        main(["--port", str(httpx.URL(server.url).port)])
    assert stop.value.code == 2
    assert "can't be bound" in capsys.readouterr().err
