"""What this package does for the operator of a team, in one run of less than a minute: `make ops`.

An edge, roles, numbers and alerts, backup and restore, the audit, the doctor and the report, on real servers where
they can be had, all of them on this machine. Each step says what was seen, and is checked.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from genai_cache_magic.cli.demos.ops_stage import (
    ALL,
    NAMESPACE,
    QUESTIONS,
    Deadline,
    Member,
    NotAsPromisedError,
    Stage,
    cell_of,
    monitored,
    opened_stage,
    promise,
)
from genai_cache_magic.cli.demos.team_demo import counted
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.roles import ROLES
from genai_cache_magic.testing.prometheus_server import PrometheusServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

LIMIT_S = 60.0
"""How long all of it may take [s]."""

INVALIDATED, KEPT = "labels", "reviews"
_GONE, _LEFT = len(QUESTIONS[INVALIDATED]), len(QUESTIONS[KEPT])
_NEEDED = ("ipykernel", "openai")
_ROUNDS = 3
"""So many rounds of hits at least outweigh the misses that the alert is about."""
_ERRORS = 2
"""The exit code of an audit, and of a doctor, that finds errors."""
_BROKEN = (subprocess.TimeoutExpired, OSError, queue.Empty, RuntimeError, ValueError)
"""What servers, kernels and commands that don't answer, don't start or say something else come to."""
_RATE = "Hit rate"
_IN_GRAFANA = {"$__rate_interval": "30s", "$model": ".*"}
"""What Grafana puts into a query -> what stands for it here."""


@dataclass(slots=True, repr=False)
class _Show:
    """The stage, who plays on it, and where things are found and left."""

    stage: Stage
    dashboard: Path
    output: Path
    ada: Member
    ben: Member
    cem: Member
    eve: Member
    prometheus: PrometheusServer | None
    asked: int = 0
    """How often the team has asked the models."""


def demonstrate_ops(console: Console, *, dashboard: Path, output: Path, within_s: float = LIMIT_S) -> int:
    """Show all of it, and return the exit code: 1 if something was not as promised.

    Parameters
    ----------
    dashboard
        The one for Grafana, whose hit rate is asked of Prometheus.
    output
        Where the report is written; it stays there.
    within_s
        How long it may take [s].
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the demo needs {', '.join(missing)}: run {sys.executable} -m pip install "
            "'genai-cache-magic[demo,redis,azure,prometheus]'"
        )
    began_s = time.monotonic()
    try:
        with opened_stage(console, Deadline(within_s)) as stage:
            show = _cast(stage, dashboard, output)
            for step in (_begin, _share, _roles, _monitor, _back_up, _look, _report, _calm_down):
                step(show)
            left_out = stage.left_out
    except (NotAsPromisedError, SystemExit, *_BROKEN) as exc:
        reason = str(exc) or f"something does not answer ({type(exc).__name__})"
        if time.monotonic() - began_s >= within_s:
            longer = f'make ops ARGS="--within {max(3 * within_s, LIMIT_S):.0f}"'
            reason += f". A busy or slow machine needs longer than {within_s:.0f} s: {longer}"
        console.print(f"Not as promised: {reason}", style="bold red", markup=False, highlight=False)
        return 1
    left = f", but for what is left out ({left_out})" if left_out else ""
    seconds = time.monotonic() - began_s
    console.print(
        f"Everything was as promised{left}, in {seconds:.0f} s. Nothing of it runs any more.", highlight=False
    )
    return 0


def _cast(stage: Stage, dashboard: Path, output: Path) -> _Show:
    """Bring the machines of the team, and one of elsewhere; let the admin make the team's keys."""
    settings = monitored(stage)
    prometheus = _started_prometheus(stage, settings)
    ada = stage.member("ada", "Cache.Admin", stage.team, **settings)
    ben, cem = (stage.member(name, "Cache.Writer", stage.team) for name in ("ben", "cem"))
    eve = stage.member("eve", "Cache.Admin", stage.at_redis("Cache.Admin"))
    code, _ = ada.command("keys", "init")
    promise(code == 0, "an admin can't make the team's keys")
    return _Show(stage, dashboard, output, ada, ben, cem, eve, prometheus)


def _begin(show: _Show) -> None:
    """Let the first machine ask everything; so many misses bring an alert on."""
    stage = show.stage
    promise(show.ada.asks() == (0, ALL), f"the first machine was to miss {ALL} times")
    told = stage.hook.hear("firing", within_s=stage.deadline.left_s())
    shown = show.ada.run(cell_of(KEPT))
    promise(told["text"].removeprefix("genai-cache ") in shown, "the alert does not stand under the cell")
    stage.says("Begun:", f"ada asked the models {ALL} questions.")
    says = f"`{told['text']}`: {told['value']:.0%}; the webhook was told, and it stands under ada's cell."
    stage.says("Alert on:", says)


def _share(show: _Show) -> None:
    """Let further machines get what the first one fetched, from the edge alone."""
    stage, proxy = show.stage, show.stage.proxy
    if not stage.team:
        return
    reads = []
    for member in (show.ben, show.cem):
        member.run("pass")  # its kernel is there, and its cache is open
        before = len(proxy.reads()) if proxy else 0
        found = member.asks()
        promise(found == (ALL, 0), f"{member.name} was to get {ALL} answers from the team, and got {found[0]}")
        reads.append(len(proxy.reads()) - before if proxy else 0)
    asked = stage.models.count
    promise(asked == ALL, f"the models were to be asked {ALL} times, and were {asked} times")
    says = (
        f"ben and cem asked the same, and had {ALL} hits each, from what ada told the team; the models heard nothing."
    )
    if stage.edge is not None:
        promise(reads == [ALL, 0], f"the container was to be read {ALL} times for ben, 0 for cem, and was: {reads}")
        says += f" The edge read the container {reads[0]} times for ben, and {reads[1]} times for cem."
    stage.says("Shared:", says)


def _roles(show: _Show) -> None:
    """Try what each user of the Redis may really do, and compare it with a role."""
    stage = show.stage
    if stage.redis is None:
        return
    pairs = [*((role, role) for role in ROLES), ("Cache.Writer", "Cache.Reader")]

    def check(user: str, role: str) -> Callable[[], tuple[int, list[Any]]]:
        member = stage.member(f"{user} as {role}", user, stage.at_redis(user))
        return lambda: member.command("access", "check", "--role", role)

    from rich.table import Table

    table = Table("user of the Redis", "compared with", "may", "exit code", "which means")
    for (user, role), (code, (found,)) in zip(pairs, stage.at_once(*(check(*pair) for pair in pairs)), strict=True):
        may = [one["right"] for one in found["tried"] if one["state"] == "allowed"]
        untold = "".join(f"; {one['right']}: {one['says']}" for one in found["tried"] if one["state"] == "unknown")
        promise((code == 0) == (user == role), f"access check of {user} as {role} ended with {code}{untold}")
        promise(found["fits"] == user, f"the rights of {user} are said to be those of {found['fits']}")
        wide = ", ".join(one["right"] for one in found["too_much"])
        table.add_row(user, role, ", ".join(may), str(code), f"too much: {wide}" if wide else "no less and no more")
    stage.says("Roles:", "`genai-cache access check` tried each right at a real Redis and at the simulated vault.")
    stage.console.print(table)


def _monitor(show: _Show) -> None:
    """Let ada work on until a Prometheus has an answer to the dashboard's query."""
    prometheus = show.prometheus
    if prometheus is None:
        return
    query, rounds, rate = _rate_query(show.dashboard), 0, None
    while rate is None or rounds < _ROUNDS:
        rounds += 1
        promise(show.ada.asks() == (ALL, 0), "ada was to have all answers by now")
        show.ada.run(f"%%llm_cache\nask('question {rounds} that nobody has asked')")
        time.sleep(min(0.4, show.stage.deadline.left_s()))  # a scrape is no event that can be awaited
        rate = next((float(one["value"][1]) for one in prometheus.query(query) if one["value"][1] != "NaN"), rate)
    promise(0 < rate < 1, f"the hit rate is said to be {rate}, of {ALL} hits and a miss, again and again")
    says = f"a Prometheus reads ada's kernel and answers the dashboard's query: a hit rate of {rate:.0%}"
    show.stage.says("Numbers:", f"{says} ({rounds} rounds of {ALL} hits and a miss).")


def _started_prometheus(stage: Stage, settings: dict[str, str]) -> PrometheusServer | None:
    """Start the Prometheus that reads ada's kernel: early, since it takes some seconds to find whom to read."""
    listen = settings.get("GENAI_CACHE_MONITORING__LISTEN", "")
    pages = [f"http://{listen}/metrics"]
    parts = ("opentelemetry.exporter.prometheus",)
    return stage.had("a Prometheus that reads a kernel", lambda: PrometheusServer(pages), *parts, extra="prometheus")


def _rate_query(dashboard: Path) -> str:
    """Return the query of the dashboard's panel that shows the hit rate, as Grafana would send it."""
    panels = json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
    (query,) = (panel["targets"][0]["expr"] for panel in panels if panel["title"] == _RATE)
    return re.sub("|".join(map(re.escape, _IN_GRAFANA)), lambda match: _IN_GRAFANA[match[0]], query)


def _back_up(show: _Show) -> None:
    """Back up, invalidate, restore to the team that went on and elsewhere: what is invalid stays so."""
    stage = show.stage
    file = str(stage.place / "team.backup")
    tier = dict(stage.team)
    _, (saved,) = show.ada.command("backup", NAMESPACE, file)
    show.asked = stage.models.count
    promise(saved["answers"] >= ALL, f"the backup was to hold {ALL} answers, and holds {saved['answers']}")
    who = show.ben if tier else show.ada
    _, (done,) = who.command("invalidate", "--tag", INVALIDATED, "--yes")
    promise(done["count"] == _GONE, f"{_GONE} answers were to be made invalid, and {done} was said")
    promise(not tier or done["published"] == "published", "the team did not answer in time, and hears of that later")
    stage.says("Backup:", f"{saved['answers']} answers, sealed and read back. Then {who.name} invalidated {_GONE}.")
    if tier:
        newcomer = stage.member("dan", "Cache.Admin", tier)
        _, (back,) = newcomer.command("restore", file)
        promise(back["stored"] == 0 and back["invalid"] == _GONE, f"a restore to the team brought back {back}")
        says = f"to the same team, from another machine: {back['kept']} were there, {back['invalid']} stay invalid."
        stage.says("Restored", says)
    show.ada.command("backup", NAMESPACE, file)
    _, (back,) = show.eve.command("restore", file)
    others = saved["answers"] - ALL
    promise(back["stored"] == _LEFT + others, f"{_LEFT + others} answers were to come back elsewhere: {back}")
    where = "a Redis" if stage.redis else "a machine without a team"
    stage.says(
        "Restored", f"to {where}, with the next backup: {back['stored']} are back, {back['invalid']} stay invalid."
    )
    if stage.redis:
        _read(stage)


def _read(stage: Stage) -> None:
    """Show a reader's cells over what was restored: hits of what is valid, misses of what is not, and no write."""
    reader = stage.member("fay", "Cache.Reader", stage.at_redis("Cache.Reader"), GENAI_CACHE_ROLE="Cache.Reader")
    valid, gone = reader.run(cell_of(KEPT)), reader.run(cell_of(INVALIDATED))
    promise(counted(valid) == (_LEFT, 0), f"a reader was to get the {_LEFT} answers that are valid: {valid}")
    promise(counted(gone) == (0, _GONE), f"a reader was to get none of the {_GONE} that are invalid: {gone}")
    promise("is only read" in valid + gone, f"a reader is not told that nothing is written: {valid}")
    stage.says(
        "A reader", f"had {_LEFT} hits of what was restored, and missed the {_GONE} invalid ones. Her cells say:"
    )
    stage.console.print(f"{valid.strip()}\n{gone.strip()}", markup=False, highlight=False, style="dim")


def _look(show: _Show) -> None:
    """Audit the team, and a machine whose files anybody may change; ask the doctor."""
    stage, careless = show.stage, show.cem if show.stage.team else show.eve
    careless.directory.chmod(0o777)
    (code, findings), (open_code, open_findings), (ill, parts) = stage.at_once(
        lambda: show.ada.command("audit"), lambda: careless.command("audit"), lambda: show.ada.command("doctor")
    )
    careless.directory.chmod(0o700)
    promise(code < _ERRORS, f"the audit of ada's machine finds errors: {findings}")
    stage.says("Audit:", f"{_counts(findings)} on ada's machine, exit code {code}.")
    _tell(stage, findings)
    wide = [one for one in open_findings if one["rule"] == "GCA010" and one["severity"] == "error"]
    promise(open_code == _ERRORS and bool(wide), f"that anybody may use {careless.name}'s files is not found")
    stage.says("Audit:", f"once {careless.name}'s files are open to all, exit code {open_code}.")
    _tell(stage, wide)
    promise(ill < _ERRORS, f"the doctor finds errors: {parts}")
    stage.says("Doctor:", f"{_counts(parts)}, exit code {ill}.")
    _tell(stage, parts)


def _tell(stage: Stage, findings: list[dict[str, Any]]) -> None:
    """Print what is not well."""
    for one in findings:
        if one["severity"] != "ok":
            line = f"  {one['severity']}: {one['says']}"
            stage.console.print(line, markup=False, highlight=False, style="dim", soft_wrap=True)


def _counts(findings: list[dict[str, Any]]) -> str:
    """Return how many findings there are of each severity, in words."""
    counts = Counter(one["severity"] for one in findings)
    return ", ".join(f"{count} {severity}" for severity, count in sorted(counts.items())) or "nothing"


def _report(show: _Show) -> None:
    """Write the page that is passed on."""
    place = show.output.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    _, (facts,) = show.ada.command("report", "-o", str(place))
    days = facts["usage"]["day"]
    total, machines = days["total"], (days["team"] or {"machines": 1})["machines"]
    promise(place.stat().st_size > 0, f"{place} is empty")
    misses = total["misses"]
    promise(misses == show.asked, f"the report tells of {misses} misses, and the models were asked {show.asked} times")
    says = f"{total['hits']} hits and {misses} misses, spent ${total['spent_usd']} and saved ${total['saved_usd']}"
    show.stage.says("Report:", f"{says}, machines: {machines} (prices as of the real models). It lies in {place}")


def _calm_down(show: _Show) -> None:
    """Wait until the alert is over: it lasts for half a minute at least, which the other steps have filled."""
    stage = show.stage
    told = stage.hook.hear("ended", within_s=stage.deadline.left_s())
    shown = show.ada.run(cell_of(KEPT))
    promise("alert HighMissRate" not in shown, "the alert is over, and still stands under the cell")
    stage.says("Alert off:", f"`{told['text']}`: {told['value']:.0%}; the webhook was told.")
