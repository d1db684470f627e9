"""What the patches add to calls that are none of ours."""

from __future__ import annotations

import asyncio
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

import httpx2
from canned import Canned
from harness import Finding, Row, take_turns, timed
from surroundings import scope_beside

from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.intercept.clients.httpx import patches
from genai_cache_magic.intercept.points import Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Context

    from harness import Effort, Sampler, Samples

_TARGET_US = 2.0
_CALLS = 100
_BARE_CALLS = 5_000
_URL = "https://service.example.com/v1/items"


def run(effort: Effort) -> Iterator[Finding]:
    """Compare the patched clients with the same clients without patches, then the patch alone with nothing."""
    rounds = effort.pick(300, 60)
    uninstall()
    before = {owner: dict(vars(owner)) for owner in (httpx2.Client, httpx2.AsyncClient)}
    with scope_beside() as (context, scope):
        plain, plain_async = (_unpatched(owner, attributes) for owner, attributes in before.items())
        yield from _sync(plain, context, rounds)
        yield from _async(plain_async, context, rounds)
        yield from _bare(context, rounds)
        if scope.calls:
            raise AssertionError("a call that is not a model call was recorded as one")


def _unpatched(owner: type, before: dict[str, Any]) -> Any:
    """Return `owner` as it was before anything of ours replaced its methods."""
    replaced = {name: value for name, value in before.items() if vars(owner)[name] is not value}
    if not replaced:
        raise AssertionError(f"{owner.__name__} is not patched: there is nothing to measure")
    return type(f"Plain{owner.__name__}", (owner,), replaced)


def _sync(plain: Any, context: Context, rounds: int) -> Iterator[Finding]:
    clients = {"off": plain(transport=Canned([b"{}"])), "on": httpx2.Client(transport=Canned([b"{}"]))}
    for what, request, is_scoped in _kinds(clients["off"]):
        cases: dict[str, Sampler] = {}
        for name, client in clients.items():
            sample = timed(lambda send=client.send, request=request: send(request), calls=_CALLS)  # type: ignore[misc]  # mypy can't infer a lambda's defaults
            cases[name] = (lambda sample=sample: context.run(sample)) if is_scoped else sample  # type: ignore[misc]  # as above
        yield _added(f"Client.send, {what}", take_turns(cases, rounds=rounds))


def _async(plain: Any, context: Context, rounds: int) -> Iterator[Finding]:
    clients = {"off": plain(transport=Canned([b"{}"])), "on": httpx2.AsyncClient(transport=Canned([b"{}"]))}

    async def sample(client: Any, request: Any) -> float:
        start = time.perf_counter()
        for _ in range(_CALLS):
            await client.send(request)
        return (time.perf_counter() - start) / _CALLS

    with asyncio.Runner() as runner:
        for what, request, is_scoped in _kinds(clients["off"]):
            where = context if is_scoped else None
            cases = {
                name: lambda client=client, request=request, where=where: runner.run(
                    sample(client, request), context=where
                )
                for name, client in clients.items()
            }
            yield _added(f"AsyncClient.send, {what}", take_turns(cases, rounds=rounds))


def _kinds(client: Any) -> Iterator[tuple[str, Any, bool]]:
    """Yield what is sent and whether a scope is open: (words, request, is in a scope)."""
    post = client.build_request("POST", _URL, json={"name": "a", "values": [1, 2, 3]})
    yield "outside of a scope", post, False
    yield "GET in a scope", client.build_request("GET", _URL), True
    yield "POST of no model call in a scope", post, True


def _bare(context: Context, rounds: int) -> Iterator[Finding]:
    """The patch around a method that does nothing: its own cost, without the noise of a client."""

    class Hollow:
        def send(self, request: object) -> None:
            """Do nothing."""

        def _send_single_request(self, request: object) -> None:
            """Do nothing."""

    def empty(self: object, request: object) -> None:
        """Do nothing."""

    module = ModuleType("hollow")
    vars(module).update({**vars(httpx2), "Client": Hollow})
    points = (point for group in patches(module) for point in group)
    guarded = next(p.wrap(Hollow.send) for p in points if isinstance(p, Point) and p[:2] == (Hollow, "send"))
    client = Hollow()
    request = httpx2.Request("POST", _URL, json={"name": "a"})
    cases = {
        "nothing": timed(lambda: empty(client, request), calls=_BARE_CALLS),
        "outside": timed(lambda: guarded(client, request), calls=_BARE_CALLS),
        "scoped": timed(lambda: context.run(guarded, client, request), calls=_BARE_CALLS // 5),
        "scoped nothing": timed(lambda: context.run(empty, client, request), calls=_BARE_CALLS // 5),
    }
    samples = take_turns(cases, rounds=max(20, rounds // 6))
    for what, ours, base in (
        ("the patch alone, outside of a scope", "outside", "nothing"),
        ("the patch alone, POST in a scope", "scoped", "scoped nothing"),
    ):
        yield Finding(what, samples.added(ours, base).scaled(1e6), "µs", _TARGET_US)


def _added(what: str, samples: Samples) -> Finding:
    return Finding(what, samples.added("on", "off").scaled(1e6), "µs", _TARGET_US, samples.medians)


ROW = Row("guard", "added to a call that is not ours, patches on - off", run)
