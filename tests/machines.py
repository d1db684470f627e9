"""Machines of one team in this process: each with a directory of its own, all with one key and one tier in memory."""

from __future__ import annotations

import concurrent.futures
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import memory_vault
import orjson

from genai_cache_magic.api import factory
from genai_cache_magic.api.team import custody, storage
from genai_cache_magic.api.team.line import TeamLine
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Answered, Follow, Lead
from genai_cache_magic.core.model import Response
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.breaker import Breaker, BreakerConfig
from genai_cache_magic.testing.tier import MemoryServer, MemoryTier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "gpt-4.1-mini"
_WAIT_S = 30


class Origin:
    """A model that numbers its answers."""

    def __init__(self) -> None:
        self.answers = 0

    def __call__(self) -> Response:
        self.answers += 1
        body = {
            "id": f"chatcmpl-{self.answers}",
            "object": "chat.completion",
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": f"answer {self.answers}"},
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        return Response(200, (("content-type", "application/json"),), orjson.dumps(body))


class Machine:
    """One machine of the team: its cache, its way to the tier, and what it was told."""

    def __init__(self, cache, tier: MemoryTier, breaker: Breaker, events: list) -> None:
        self.cache = cache
        self.tier = tier
        self.breaker = breaker
        self.events = events

    def ask(self, origin: Callable[[], Response], text: str = "hello", *, mode: str = "use", tags=()):
        """Ask a model as an interceptor does; return the answer's text, and the record of the call."""
        scope = CellScope(Options(mode=Mode(mode), tags=tuple(tags)), person="tester")
        step = self.begin(scope, text)
        step = self.waited(step)
        if isinstance(step, Lead):
            response = origin()
            step.desk.commit(step, response)
        else:
            assert isinstance(step, Answered), step
            response = step.response
        return orjson.loads(response.body)["choices"][0]["message"]["content"], scope.calls[-1]

    def begin(self, scope: CellScope, text: str):
        """Return the first step of a call."""
        return self.cache.calls.begin(recognise(self.http_call(text), self.cache.origins), scope, is_async=False)

    def http_call(self, text: str) -> HttpCall:
        """Return the request that asks a model."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        return HttpCall(
            "POST",
            "https",
            "api.openai.com",
            None,
            "/v1/chat/completions",
            "",
            {"content-type": "application/json"},
            orjson.dumps(body),
        )

    def waited(self, step):
        """Return what becomes of a step after all waiting."""
        while isinstance(step, Follow):
            concurrent.futures.wait([step.future], _WAIT_S)
            assert step.future.done()
            step = step.lead.desk.resume(step, step.future.result())
        return step

    def told(self) -> None:
        """Wait until the team was told all that waits here."""
        assert self.cache._team._drain.finish(within_s=_WAIT_S)

    def sees(self) -> None:
        """See what is valid now, as after `max_stale`."""
        self.cache._team._snapshot.look()

    def goes_stale(self) -> None:
        """Let what is known of the tier be older than it may be."""
        self.cache._team._snapshot._confirmed = None


class Team:
    """The machines of a team, and what they share: `way` makes each one's way to it, which can be `is_away`."""

    def __init__(self, base: Path, monkeypatch, *, way: Callable[[], Any] | None = None) -> None:
        self.server = MemoryServer()
        self._way = way or (lambda: MemoryTier(self.server))
        self._base = base
        self._monkeypatch = monkeypatch
        self.machines: list[Machine] = []

    def machine(self, name: str, *, key: str = "key", is_away: bool = False, vault: Any = None) -> Machine:
        """Return a machine, or (the same name) another process of it, whose key `vault` guards if one is given."""
        tier = self._way()
        tier.is_away = is_away
        breaker = Breaker(tier.name, BreakerConfig(first_pause_s=0.0, longest_pause_s=0.0))
        events: list = []
        guard = {} if vault is None else {"encryption": "key-vault", "key_vault_url": vault.target.url}
        with self._lined(TeamLine(tier, breaker, 3600.0)), self._guarded(vault, self._base / name):
            cache = factory.build_cache(
                load_settings(dir=os.fspath(self._base / name), key_file=os.fspath(self.key_file(key)), **guard),
                on_event=events.append,
            )
        self.machines.append(Machine(cache, tier, breaker, events))
        return self.machines[-1]

    def key_file(self, key: str = "key") -> Path:
        """Return where the key lies that machines share."""
        return self._base / f"{key}.key"

    @contextmanager
    def _guarded(self, vault: Any, directory: Path):
        with self._monkeypatch.context() as patch:
            if vault is not None:
                patch.setattr(custody, "key_wrapper", lambda _: memory_vault.machine(vault, directory))
            yield

    @contextmanager
    def _lined(self, line: TeamLine):
        with self._monkeypatch.context() as patch:
            for module in (factory, storage):
                patch.setattr(module, "team_line", lambda *_: line)
            yield

    def close(self) -> None:
        """Close all machines, which reach the tier once more to tell what waits."""
        for machine in self.machines:
            machine.tier.is_away = False
        for machine in self.machines:
            machine.cache.close()
