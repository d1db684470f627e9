"""A team's lives by the hundred thousand steps, over memory, Redis and Azurite; races; leaders that are killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from property.team_machine import Figures, TeamMachine
from torture.at_once import run_at_once

from genai_cache_magic.stores.azure.blob import BlobTier, name_prefix
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier, document_key
from genai_cache_magic.testing.model_server import SimulatedModelServer
from genai_cache_magic.testing.servers import AZURITE_KEY, Azurite, RedisServer, ServerMissingError

_STEPS_OF_AN_EXAMPLE = 100
_STEPS_OF_A_TURN = 500
_LIFE_OF_A_SERVER_S = 300.0
"""Azurite tidies up when it is ten minutes old: it answers nobody meanwhile, and a team misses what it has stored."""
_ASKS = Path(__file__).resolve().parents[1] / "faults" / "asks.py"
_THREADS = 4
_MACHINES = 3
_numbers = itertools.count(1)


@dataclass
class TeamReport:
    """What the series showed, in lines, and what was wrong."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class TimedRedisTier(RedisTier):
    """A tier whose clock is simulated, like the machines': by its own, what they do in turns may be one moment."""

    def __init__(self, connection, namespace, time) -> None:
        super().__init__(connection, namespace)
        self._time = time

    def look_up(self, document, keys):
        return replace(super().look_up(document, keys), now_s=self._time.now_s)


class OverRedis:
    """What machines share in a redis-server: a name space that no other example uses."""

    server: RedisServer
    connections: dict[str, RedisConnection]

    def __init__(self, time) -> None:
        self._time = time
        self._namespace = f"torture-{next(_numbers)}"
        self._client = self.connection("outsider")

    def connection(self, name):
        if name not in self.connections:
            self.connections[name] = RedisConnection(RedisTarget(self.server.url, command_timeout_s=30.0))
        return self.connections[name]

    def tier(self, name):
        return TimedRedisTier(self.connection(name), self._namespace, self._time)

    def flush(self):
        with self._client.use() as client:
            client.flushall()

    def lose(self, document):
        with self._client.use() as client:
            client.delete(document_key(self._namespace, document))


class TimedBlobTier(BlobTier):
    """A tier whose clock is simulated, like the machines': the service tells seconds only, in which they do much."""

    def __init__(self, connection, namespace, time) -> None:
        super().__init__(connection, namespace)
        self._time = time

    def look_up(self, document, keys):
        return replace(super().look_up(document, keys), now_s=self._time.now_s)


class OverBlob:
    """What machines share in a container of Azurite's."""

    server: Azurite
    connections: dict[str, BlobConnection]

    def __init__(self, time) -> None:
        self._time = time
        self._namespace = f"torture-{next(_numbers)}"
        self._connection = self.connection("outsider")

    def connection(self, name):
        if name not in self.connections:
            target = BlobTarget(
                f"{self.server.account_url}/torture",
                account_key=AZURITE_KEY,
                create_container=True,
                command_timeout_s=30.0,
            )
            self.connections[name] = BlobConnection(target)
        return self.connections[name]

    def tier(self, name):
        return TimedBlobTier(self.connection(name), self._namespace, self._time)

    def flush(self):
        with self._connection.use() as container:
            for name in list(container.list_blob_names(name_starts_with=name_prefix(self._namespace))):
                container.delete_blob(name)

    def lose(self, document):
        from azure.core.exceptions import ResourceNotFoundError

        with self._connection.use() as container, contextlib.suppress(ResourceNotFoundError):
            container.delete_blob(f"{name_prefix(self._namespace)}d/{document}")


def run_lives(steps, chosen, share=None):
    """Let teams live until they have made `steps`; return their figures, and raise for what is wrong."""
    figures = Figures()
    for turn in itertools.count():
        if figures.steps >= steps:
            return figures
        run_turn(figures, steps - figures.steps, f"{chosen}/{turn}", share)
    return figures


def run_lives_over(server, share, steps, chosen):
    """Do so over servers of which each is stopped before it is old; however slow the machine is, it gets on."""
    figures = Figures()
    turns = itertools.count()
    while figures.steps < steps:
        with server() as running:
            share.server, share.connections = running, {}
            old_at = time.monotonic() + _LIFE_OF_A_SERVER_S
            while figures.steps < steps and time.monotonic() < old_at:
                left = min(_STEPS_OF_A_TURN, steps - figures.steps)
                run_turn(figures, left, f"{chosen}/{next(turns)}", share)
            for connection in share.connections.values():
                connection.close()
    return figures


class _Now:
    """The time that it is."""

    @property
    def now_s(self):
        return time.time()


def run_at_once_over_all(seconds, chosen):
    """Let threads of machines set new keys at once, for so long over each kind of tier [s]; yield what that showed."""
    yield "memory", run_at_once(chosen, seconds=seconds)
    for name, server, share in (("Redis", RedisServer, OverRedis), ("Azurite", Azurite, OverBlob)):
        with server() as running:
            share.server, share.connections = running, {}
            shared, numbers = share(_Now()), itertools.count()
            yield name, run_at_once(chosen, seconds=seconds, way=lambda: shared.tier(f"machine {next(numbers)}"))  # noqa: B023 - called before the next one


def run_turn(counted, steps, chosen, share=None):
    """Let teams live for about `steps`, and add what they showed to `counted`."""

    class Living(TeamMachine):
        figures = counted

    if share is not None:
        Living.share = share
    wanted = settings(
        max_examples=steps // _STEPS_OF_AN_EXAMPLE + 5,
        stateful_step_count=_STEPS_OF_AN_EXAMPLE,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(chosen)(type("Living", (Living,), {})), settings=wanted)
    except Exception as error:
        where = "".join(traceback.format_exception(counted.first_error or error))
        raise AssertionError(f"seed {chosen}, after {counted.steps:,} steps: {where}") from error


def run_team(steps, blob_steps, races, kills, cluster_s, at_once_s, chosen):  # noqa: PLR0917 - what there is to run
    """Run all series of the team, those by time for `cluster_s` and `at_once_s` [s]; what a machine lacks is said."""
    report = TeamReport()
    with _told(report, "memory"):
        report.lines.append(f"over memory: {run_lives(steps, chosen)}")
    for name, server, share, count in (
        ("Redis", RedisServer, OverRedis, steps),
        ("Azurite", Azurite, OverBlob, blob_steps),
    ):
        with _told(report, name):
            report.lines.append(f"over {name}: {run_lives_over(server, share, count, chosen)}")
    if at_once_s:
        with _told(report, "new keys set at once"):
            for name, figures in run_at_once_over_all(at_once_s, chosen):
                report.lines.append(f"over {name}: {figures}")
                report.faults += figures.faults
    if cluster_s:
        from torture.cluster import run_cluster

        with _told(report, "a cluster"):
            figures = run_cluster(cluster_s, chosen)
            report.lines.append(str(figures))
            report.faults += figures.faults
    if races:
        from property.fill_races import run_races
        from property.set_races import run_set_races

        with _told(report, "races"), contextlib.closing(_Patch()) as patch:
            orders, hits = run_races(races, patch)
            report.lines.append(
                f"{races:,} fills raced with an invalidation, {orders:,} orders: {hits:,} hits, 0 stale"
            )
            count = races // 5
            report.lines.append(
                f"{count:,} races of values set at once, {run_set_races(count, patch):,} orders: 0 wrong"
            )
    if kills:
        with _told(report, "leaders"):
            report.lines.append(run_leaders(kills, chosen))
    return report


class _Patch(pytest.MonkeyPatch):
    def close(self):
        self.undo()


@contextlib.contextmanager
def _told(report, name):
    try:
        yield
    except ServerMissingError as error:
        report.lines.append(f"over {name}: left out, {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault, and the other series are run
        report.faults.append(f"team over {name}: {error or repr(error)}")


def run_leaders(kills, chosen):
    """Kill the process that asks the model for all others at random moments: each costs one more call at most."""
    rng = random.Random(f"{chosen}/leaders")
    most, waited_s = 0, 0.0
    with SimulatedModelServer() as model, RedisServer() as redis, tempfile.TemporaryDirectory() as place:
        for number in range(kills):
            # A lease outlives its machine by ten seconds, a lock not its process: one in five is by lease.
            is_far = number % 5 == 0
            shared = {"GENAI_CACHE_KEY_FILE": f"{place}/key", "GENAI_CACHE_DIR": f"{place}/{number}"}
            if is_far:
                shared |= {"GENAI_CACHE_L2": redis.url, "GENAI_CACHE_NAMESPACE": f"n{number}"}
            question = f"question {number}"
            command = [sys.executable, str(_ASKS), model.openai_url, question, str(_THREADS), "0.5"]
            processes = []
            for machine in range(_MACHINES):
                own = {"GENAI_CACHE_DIR": f"{place}/{number}-{machine}"} if is_far else {}
                processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        env={**os.environ, **shared, **own},
                    )
                )
            for process in processes:
                assert process.stdout.readline() == "ready\n", "a process does not start"
            for process in processes:
                process.stdin.write("\n")
                process.stdin.flush()
            time.sleep(rng.uniform(0.0, 0.7))  # the moment is the point
            processes[0].kill()
            started = time.monotonic()
            answers, told = set(), ""
            for process in processes:
                output, said = process.communicate(timeout=120)
                answers.update(output.split() if process is not processes[0] else ())
                told += said
                for pipe in (process.stdin, process.stdout, process.stderr):
                    pipe.close()
            waited_s = max(waited_s, time.monotonic() - started)
            calls = sum(question in str(request.body) for request in model.requests)
            most = max(most, calls)
            assert calls <= 2, f"{calls} calls after one kill: {told}"
            assert len(answers) == 1, f"{len(answers)} different answers: {told}"
    return f"{kills} leaders killed at random moments: at most {most} calls each, {waited_s:.0f} s waited at most"
