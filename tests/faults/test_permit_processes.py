"""Processes of a machine and machines of a team that ask at once are one call; a killed one costs one more."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

THREADS = 8


class Asking:
    """Processes that ask at once."""

    def __init__(self, url, question, environments, latency_s):
        script = Path(__file__).with_name("asks.py")
        command = [sys.executable, str(script), url, question, str(THREADS), str(latency_s)]
        self.processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
            )
            for environment in environments
        ]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n"

    def go(self):
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()

    def answers(self, processes=None):
        found = set()
        for process in self.processes if processes is None else processes:
            output, _ = process.communicate(timeout=60)
            found.update(output.split())
        return found

    def close(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


@pytest.fixture
def asking(isolated, unique_server):
    with contextlib.ExitStack() as ended:

        def start(question, environments, latency_s=0.05):
            asking = Asking(unique_server.openai_url, question, environments, latency_s)
            ended.callback(asking.close)
            return asking

        yield start


def asked(server, question):
    return sum(question in str(request.body) for request in server.requests)


def test_four_processes_of_a_machine_are_one_call(asking, unique_server):
    """Thirty-two askers in four processes that share a directory."""
    processes = asking("the question", [{}] * 4)
    processes.go()
    assert len(processes.answers()) == 1
    assert asked(unique_server, "the question") == 1


@pytest.mark.service
def test_four_machines_of_a_team_are_one_call(asking, unique_server, redis_server, team, tmp_path):
    """Thirty-two askers on four machines that share a Redis."""
    # However loaded this machine is: who does not reach the team asks alone, as it should.
    patience = {"GENAI_CACHE_CONNECT_TIMEOUT": "30s", "GENAI_CACHE_COMMAND_TIMEOUT": "30s"}
    shared = {"GENAI_CACHE_L2": redis_server.url, "GENAI_CACHE_NAMESPACE": team, **patience}
    machines = asking("the question", [{**shared, "GENAI_CACHE_DIR": str(tmp_path / f"{n}")} for n in range(4)])
    machines.go()
    assert len(machines.answers()) == 1
    assert asked(unique_server, "the question") == 1


def test_a_killed_leader_costs_one_more_call(asking, unique_server):
    """Whoever waits goes on at once, and one of them asks."""
    processes = asking("the question", [{}] * 2, latency_s=1)
    first, second = processes.processes
    first.stdin.write("\n")
    first.stdin.flush()
    give_up_at = time.monotonic() + 30
    while not asked(unique_server, "the question"):
        assert time.monotonic() < give_up_at
    second.stdin.write("\n")
    second.stdin.flush()
    first.kill()
    assert len(processes.answers([second])) == 1
    assert asked(unique_server, "the question") == 2


ASKERS = """
import os, sys, openai
from genai_cache_magic import llm_cache
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        client = openai.OpenAI(base_url=sys.argv[1], api_key="k", max_retries=0)
        said = {"x-simulate-latency-s": "0.5", "x-asker": str(os.getpid())}
        with llm_cache():
            message = {"role": "user", "content": "the question"}
            answer = client.chat.completions.create(model="m", messages=[message], extra_headers=said)
        os.write(1, f"{answer.id}\\n".encode())
        os._exit(0)
for _ in range(int(sys.argv[2])):
    os.wait()
"""


def test_twenty_killed_leaders_cost_twenty_more_calls(isolated, unique_server):
    """Killed one after the other, at any moment of their calls: the next one asks at once, and the last is answered."""
    kills, chance = 20, random.Random(11)
    command = [sys.executable, "-c", ASKERS, unique_server.openai_url, str(kills + 3)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as askers:
        for killed in range(kills):
            give_up_at = time.monotonic() + 60
            while len(unique_server.requests) == killed:
                assert time.monotonic() < give_up_at, f"nobody asks after {killed} kills"
                time.sleep(0.002)
            time.sleep(chance.uniform(0.0, 0.4))  # the moment is the point
            os.kill(int(unique_server.requests[killed].headers["x-asker"]), signal.SIGKILL)
        answers = askers.communicate(timeout=60)[0].split()
    assert len(set(answers)) == 1
    assert len(answers) >= 3
    assert len(unique_server.requests) <= 1 + kills
