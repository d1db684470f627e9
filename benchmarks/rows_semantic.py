"""Other caches that answer alike questions, in the same run: adds, look-ups, and whose answer is another question's.

All have the same vectors, of the model of this machine, and are asked the same pairs: ``tests/guard_pairs.py``. Each
lives in an environment of its own, as in `rows_peers`, and is spoken to as ``workers/alike.py`` says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import BenchmarkError, Finding, Row, exactly
from rows_peers import Peer, Worker, install, not_installed

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.servers import RedisServer, ServerMissingError
from genai_cache_magic.vectors import INSTALL_LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness import Effort

_PAIRS = Path(__file__).parents[1] / "tests" / "guard_pairs.py"
_BARS = (0.8, 0.9, 0.95)
_REDISVL = ("redisvl>=0.8,<1",)
_IN_REDIS = "redisvl"
OURS, GUARDED = "ours", "ours, guarded"
PEERS = (
    Peer("alike_gptcache", "GPTCache", ("gptcache>=0.1.44,<0.2", "faiss-cpu", "sqlalchemy>=2", "numpy"), "gptcache"),
    Peer("alike_redisvl", "redisvl SemanticCache", _REDISVL, _IN_REDIS),
    Peer("alike_redisvl_equal", "redisvl EmbeddingsCache", _REDISVL, _IN_REDIS),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What everyone is asked: the first texts are stored, the second ones looked for."""

    changed: list[tuple[str, str]]
    same: list[tuple[str, str]]

    @property
    def stored(self) -> list[str]:
        """The texts that are there."""
        return list(dict.fromkeys(first for first, _ in (*self.changed, *self.same)))

    @property
    def texts(self) -> list[str]:
        """All texts."""
        return list(dict.fromkeys(text for pair in (*self.changed, *self.same) for text in pair))


@dataclass(frozen=True, slots=True)
class _Told:
    """What one cache told: processor's time [s], and by bar how many answers were another's, and how many right."""

    add_s: float
    find_s: float
    equal_s: float
    hits: dict[float | None, tuple[int, int]]
    versions: str


def prepare(effort: Effort) -> None:
    """Make the environments of the peers that are not there; a quick run makes do with those that are."""
    if not effort.is_quick:
        for peer in PEERS:
            if not peer.is_installed:
                install(peer)


def run(effort: Effort) -> Iterator[Finding]:
    """Ask ours, guarded and not, and every peer that is installed."""
    asked = _asked(effort)
    place = Path("alike").absolute()
    _embed(asked, place)
    bars = _BARS[1:2] if effort.is_quick else _BARS
    told: dict[str, _Told] = {}
    absent: list[Finding] = []
    no_server = ""
    with ExitStack() as stack:
        if any(peer.is_installed and peer.home.name == _IN_REDIS for peer in PEERS):
            try:
                os.environ["BENCH_REDIS"] = stack.enter_context(RedisServer()).url
            except ServerMissingError as exc:
                no_server = str(exc)
        for title in (OURS, GUARDED):
            os.environ["GENAI_CACHE_DIR"] = str(Path(title).absolute())
            os.environ["BENCH_GUARDED"] = "yes" if title == GUARDED else ""
            told[title] = _told(Path(sys.executable), "alike_ours", place, asked, bars)
        for peer in PEERS:
            if not peer.is_installed:
                absent.append(Finding(peer.title, None, note=not_installed(peer)))
                continue
            if no_server and peer.home.name == _IN_REDIS:
                absent.append(Finding(peer.title, None, note=no_server))
                continue
            try:
                told[peer.title] = _told(peer.python, peer.name, place, asked, bars)
            except BenchmarkError as exc:
                why = f"this Redis has no query engine: {exc}" if "'FT." in str(exc) else str(exc)
                absent.append(Finding(peer.title, None, note=why))
    yield from _hits(told, asked, bars)
    yield from _times(told)
    yield from absent


def _asked(effort: Effort) -> Asked:
    spec = importlib.util.spec_from_file_location("guard_pairs", _PAIRS)
    if spec is None or spec.loader is None or not _PAIRS.exists():
        raise BenchmarkError(f"the pairs are in {_PAIRS}, and not there")
    pairs: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pairs)
    changed = [(first, second) for _, first, second in pairs.changed()]
    same: list[tuple[str, str]] = pairs.SAME
    return Asked(changed[: effort.pick(len(changed), len(changed))], same[: effort.pick(len(same), len(same))])


def _embed(asked: Asked, place: Path) -> None:
    """Write all texts and their vectors where workers find them."""
    try:
        import numpy as np

        from genai_cache_magic.vectors.local_model import LocalModel

        vectors = np.array(LocalModel()(asked.texts), np.float32)
    except (ModuleNotFoundError, ConfigurationError) as exc:
        raise BenchmarkError(f"{exc}: {INSTALL_LOCAL}") from exc
    place.mkdir()
    (place / "texts.json").write_text(json.dumps(asked.texts), encoding="utf-8")
    np.save(place / "vectors.npy", vectors)


def _told(python: Path, name: str, place: Path, asked: Asked, bars: Sequence[float]) -> _Told:
    """Let one cache store the first text of each pair, then ask for them, and for the second one of each pair."""
    stored, pairs = asked.stored, [*asked.changed, *asked.same]
    with Worker(python, name, str(place)) as worker:
        add_s = worker.ask(do="add", texts=stored)["seconds"]
        equal = worker.ask(do="find", texts=stored, bar=bars[-1])
        if equal["found"] != stored:
            raise BenchmarkError(f"{name} did not find what was stored")
        hits, seconds = {}, []
        for bar in (None, *bars):
            said = worker.ask(do="find", texts=[second for _, second in pairs], bar=bar)
            seconds.append(said["seconds"])
            hits[bar] = wrong_and_right(asked, said["found"])
        return _Told(add_s, min(seconds), equal["seconds"], hits, worker.versions)


def wrong_and_right(asked: Asked, found: Sequence[str | None]) -> tuple[int, int]:
    """Return how many of the second texts got another question's answer, and how many that ask the same the right one.

    A second text may be the first one of another pair: then its own answer is there.
    """
    changed, same = found[: len(asked.changed)], found[len(asked.changed) :]
    right = sum(answer == first for (first, _), answer in zip(asked.same, same, strict=True))
    wrong = sum(answer not in {None, second} for (_, second), answer in zip(asked.changed, changed, strict=True))
    wrong += sum(answer not in {None, *pair} for pair, answer in zip(asked.same, same, strict=True))
    return wrong, right


def _hits(told: dict[str, _Told], asked: Asked, bars: Sequence[float]) -> Iterator[Finding]:
    for bar in (*bars, None):
        at = "its own bar" if bar is None else f"{bar:.2f}"
        for title, one in told.items():
            wrong, right = one.hits[bar]
            what = f"another question's answer, {at}: {title}"
            note = (
                f"of {len(asked.changed + asked.same)}; of {len(asked.same)} that ask the same, {right} were answered"
            )
            yield Finding(what, exactly(wrong), "hits", 0 if title == GUARDED else None, note=note)


def _times(told: dict[str, _Told]) -> Iterator[Finding]:
    whats = {"an add": "add_s", "a look-up": "find_s", "an equal text": "equal_s"}
    for what, field in whats.items():
        for title, one in told.items():
            if title != OURS:
                seconds, ours = getattr(one, field), getattr(told[OURS], field)
                note = f"by the processor's time; {one.versions}"
                medians = {title: seconds, OURS: ours}
                yield Finding(f"{what}: {title} / ours", exactly(seconds / ours), medians=medians, note=note)


ROW = Row("semantic", "alike questions: other semantic caches, with the same vectors", run, prepare)
