"""The session: what one process (one kernel) shares between its cells."""

from __future__ import annotations

import atexit
import difflib
import time
import weakref
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from genai_cache_magic import host
from genai_cache_magic.api.factory import build_cache
from genai_cache_magic.api.origins import origins_of
from genai_cache_magic.api.scopes.opening import ClosedCache, ClosedDesk, Opening, OpeningCache, acquaint
from genai_cache_magic.api.team.custody import is_slow
from genai_cache_magic.api.watching.lazy_monitor import LazyMonitor
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.ignoring import checked_rules, combined
from genai_cache_magic.core.options import Mode, Options, Samples, checked_name, checked_semantic, checked_tags
from genai_cache_magic.core.policy import STORE_KINDS
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.events import Trouble, trouble
from genai_cache_magic.runs.recorder import RunRecorder
from genai_cache_magic.runs.run_file import RunFile
from genai_cache_magic.runs.shelf import ShelvedAnswers
from genai_cache_magic.runs.watching import WatchedAnswers
from genai_cache_magic.settings.places import parse_place
from genai_cache_magic.settings.reading import describe, ignored, load_settings
from genai_cache_magic.settings.units import parse_duration, parse_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from decimal import Decimal
    from enum import StrEnum

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.events import Event, EventHook
    from genai_cache_magic.intercept.active import Answers
    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.settings.reading import Described

_PLAIN = "Not encrypted: answers are stored as plain text, since encryption is off"


class Session:
    """Settings, caches by namespace, and the options that are in force for the whole notebook.

    Attributes
    ----------
    last
        The record of the cell or block that ended last.
    shows
        Shows what a block of Python did, where the front end has no other way.
    """

    def __init__(self, **settings: Any) -> None:
        self._given = settings
        self._lock = host.process_lock()
        self._settings: Settings | None = None  # guarded by _lock, like the next
        self._caches: dict[str, Cache] = {}
        self._openings: dict[str, Opening] = {}
        self._untold: tuple[str, ...] = ()  # guarded by _lock, like the next
        self._told_in: str | None = None
        self._run_files: dict[str, RunFile] = {}  # guarded by _lock
        self._events: dict[str, list[Event]] = {}  # of caches whose scope is not there any more or not yet
        self._latest: dict[str, weakref.ref[CellScope]] = {}
        self.notebook: dict[str, Any] = {}
        self.enabled = False
        self.monitor = LazyMonitor(lambda: self.open_caches, self._tell_lately)
        self.last: CellScope | None = None
        self.shows: Callable[[CellScope], None] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Session:
        """Return a session with settings that were read elsewhere."""
        session = cls()
        session._settings = settings
        return session

    @property
    def settings(self) -> Settings:
        """The settings, read at first use; raises ``ConfigurationError``."""
        with self._lock:
            if self._settings is None:
                settings = load_settings(**self._given)
                origins_of(settings)  # raises now rather than in the middle of a cell
                self._settings, self._untold = settings, ignored()
            return self._settings

    @property
    def ignored(self) -> tuple[str, ...]:
        """Sentences about files of which something is ignored; raises ``ConfigurationError``."""
        return ignored()

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about the settings in force, which stand under every cell; raises ``ConfigurationError``."""
        return (_PLAIN,) if self.settings.encryption == "off" else ()

    def describe(self) -> Described:
        """Return every setting with its value and source, and what is ignored."""
        return describe(self.settings, **self._given)

    def cache(self, namespace: str) -> Cache:
        """Return the cache of `namespace`, opened at first use.

        Raises
        ------
        ConfigurationError, KeyUnavailable, StoreUnavailable
            It can't be opened; the message names the fix.
        """
        if is_slow(self.settings):
            return self._opening(namespace).wait()
        with self._lock:
            cache = self._caches.get(namespace)
            if cache is None or cache.is_superseded:
                if cache is not None:
                    cache.close()
                cache = self._caches[namespace] = self._build(namespace)
            return cache

    def _build(self, namespace: str) -> Cache:
        return build_cache(self.settings, namespace=namespace, on_event=partial(self._tell, namespace))

    def _opening(self, namespace: str) -> Opening:
        """Return the attempt to open the cache of `namespace`, begun if there is none or it has come to nothing."""
        with self._lock:
            opening = self._openings.get(namespace)
            cache = None if opening is None else opening.cache
            is_over = cache is not None and cache.is_superseded
            if opening is None or opening.is_spent or is_over:
                before = opening if is_over else None
                opening = self._openings[namespace] = Opening(partial(self._build_anew, namespace, before))
            return opening

    def _build_anew(self, namespace: str, before: Opening | None) -> Cache:
        if before is not None:
            before.forget()  # here, since telling a team what waits takes its time, and no cell waits for that
        return self._build(namespace)

    def untold(self, namespace: str) -> list[Event]:
        """Return, once, what happened to the cache of `namespace` while there was no scope to be told."""
        with self._lock:
            return self._events.pop(namespace, [])

    def _tell(self, namespace: str, event: Event) -> None:
        """Tell the scope that used the cache last, or the next one."""
        with self._lock:
            latest = self._latest.get(namespace)
            scope = None if latest is None else latest()
            if scope is None or scope.is_over:  # what stands under a cell that is over is not read again
                self._events.setdefault(namespace, []).append(event)
                return
        scope.emit(event)

    def _tell_lately(self, event: Event) -> None:
        """Tell whoever used any cache last."""
        with self._lock:
            namespace = next(reversed(self._latest), "")
        self._tell(namespace or self.settings.namespace, event)

    def answers(self, scope: CellScope) -> Answers:
        """Return what answers the calls of `scope`: its run file, then its cache, or what lets every call pass.

        Raises
        ------
        ConfigurationError, StoreUnavailable
            The run file can't be used: what was named to answer must not be passed over in silence.
        """
        options = scope.options
        if options.mode is Mode.OFF:
            return self.answers_of_cache(scope)
        file = self._run_file(options) if options.run_file else self._pinned(scope)
        scope.recording = file if options.mode is Mode.RECORD else None
        answers = self.answers_of_cache(scope)
        if file is not None:
            answers = ShelvedAnswers(answers, file, now_ms=_now_ms)
        # Who replays or estimates a run leaves its record as it is; a file that is replayed under a name makes one.
        is_replay = options.mode is Mode.REPLAY and not options.run_file
        if not options.run or options.estimate or is_replay:
            return answers
        return WatchedAnswers(answers, RunRecorder(scope, now_ms=_now_ms))

    def _pinned(self, scope: CellScope) -> RunFile | None:
        """Return the bundle from which a pinned run is replayed; what keeps it from being used is told to `scope`."""
        options = scope.options
        if not options.run or options.mode is not Mode.REPLAY:
            return None
        try:
            file = self.cache(options.namespace).runs.pinned(options.run)
            if file is not None:
                file.load()
        except GenaiCacheError as exc:
            scope.emit(trouble("cache", exc))
            return None
        return file

    @property
    def origins(self) -> Origins:
        """What the settings say of origins."""
        return origins_of(self.settings)

    def answers_of_cache(self, scope: CellScope) -> Answers:
        """Return what answers the calls of `scope` beside any file: its cache, or what lets every call pass."""
        namespace = scope.options.namespace
        with self._lock:
            self._latest.pop(namespace, None)  # the last one is the latest
            self._latest[namespace] = weakref.ref(scope)
        try:
            for event in self.untold(namespace):
                scope.emit(event)
            if is_slow(self.settings):
                return self._opened_soon(namespace, scope)
            cache = self.cache(namespace)
        except GenaiCacheError as exc:
            scope.emit(trouble("cache", exc))
            return ClosedCache(ClosedDesk(exc), origins_of(self.settings))
        acquaint(scope, cache)
        return cache

    def _run_file(self, options: Options) -> RunFile:
        """Return the file that `options` name, read; raises as `RunFile.load`."""
        with self._lock:
            file = self._run_files.get(options.run_file)
            if file is None:
                path = Path(options.run_file)
                seal_key = partial(self._seal_key, options.namespace)
                file = RunFile(path, label=label_of(path), seal_key=seal_key, recorded_by="--mode record")
                self._run_files[options.run_file] = file
        file.load(may_be_missing=options.mode is Mode.RECORD)
        return file

    def _seal_key(self, namespace: str) -> bytes:
        """Return what seals run files of `namespace`."""
        if self.settings.encryption == "off":
            raise ConfigurationError(
                "a sealed run file needs a key, and encryption is off: name a plain one, such as runs/NAME.jsonl"
            )
        return self.cache(namespace).seal_key

    def _opened_soon(self, namespace: str, scope: CellScope) -> Answers:
        """Return the cache of `namespace` as far as it is open: nobody who asks no model waits for it."""
        opening = self._opening(namespace)
        return OpeningCache(opening, scope, origins_of(self.settings))

    @property
    def open_caches(self) -> tuple[Cache, ...]:
        """The caches that are open by now."""
        with self._lock:
            opened = (opening.cache for opening in self._openings.values())
            return (*self._caches.values(), *(cache for cache in opened if cache is not None))

    def options(self, **given: Any) -> Options:
        """Return the options for a scope: `given`, else the notebook's, else the settings'.

        Values are as in the magic: ``mode``, ``ttl``, ``tags``, ``run``, ``namespace``, ``samples``,
        ``store``, ``salt``, ``ignore``, ``budget``, ``budget_unknown``, ``semantic``,
        ``estimate``; None counts as not given.
        Rules of ``ignore`` add to those in force.

        Raises
        ------
        ConfigurationError
            An option is unknown, wrong, or not in this version; the message names the fix.
        """
        wanted = {name.removesuffix("_usd"): value for name, value in given.items() if value is not None}
        merged = {**self.notebook, **wanted}
        settings = self.settings
        merged.setdefault("run_file", settings.run_file or "")
        merged["ignore"] = self._ignored(given.get("ignore"))
        for name in ("budget", "budget_unknown", "semantic"):
            merged.setdefault(name, getattr(settings, name))
        options = checked_options(merged, mode=settings.mode, samples=settings.samples)
        if options.mode is Mode.RECORD and not options.run_file:
            raise ConfigurationError("mode record keeps a run file: name it too, --run-file runs/NAME.jsonl")
        namespace = str(merged.get("namespace", settings.namespace))
        if namespace != settings.namespace:
            # Checked where the pattern stands.
            namespace = load_settings(**{**self._given, "namespace": namespace}).namespace
        return replace(options, namespace=namespace)

    def _ignored(self, given: object) -> tuple[str, ...]:
        """Return the rules about noise: the settings', the notebook's and those `given`, unless one says ``none``."""
        notebook = checked_rules(self.notebook.get("ignore"))
        return combined(self.settings.ignore.rules, notebook, checked_rules(given))

    def turn_on(self, **given: Any) -> Options:
        """Put options in force for every following cell; raises as `options`."""
        wanted = {name.removesuffix("_usd"): value for name, value in given.items() if value is not None}
        before, self.notebook = self.notebook, {}
        try:
            options = self.options(**wanted)
        except ConfigurationError:
            self.notebook = before
            raise
        self.notebook = wanted
        self.enabled = True
        return options

    def turn_off(self) -> None:
        """End what `turn_on` began."""
        self.notebook = {}
        self.enabled = False

    def scope(self, options: Options, *, cell: str = "", hooks: Iterable[EventHook] = ()) -> CellScope:
        """Return a new scope of this session."""
        scope = CellScope(options, cell=cell, person=self.settings.person, hooks=hooks, notices=self.notices)
        for sentence in self._ignored_under(cell):
            scope.emit(Trouble("settings", "Ignored", f"{sentence}, and start the kernel anew"))
        scope.monitor = self.monitor.get(self.settings, scope.emit)
        return scope

    def _ignored_under(self, cell: str) -> tuple[str, ...]:
        """Return what is ignored of settings: under the first cell alone, however often that runs, and in `config`."""
        with self._lock:
            is_first, self._told_in = self._told_in is None, cell if self._told_in is None else self._told_in
            return self._untold if is_first or (cell and cell == self._told_in) else ()

    def close(self) -> None:
        """Close every cache; the session can be used again, and then opens them anew."""
        self.monitor.close()
        with self._lock:
            caches, self._caches = self._caches, {}
            openings, self._openings = self._openings, {}
        for opening in openings.values():
            opening.forget()
        for cache in caches.values():
            cache.close()


class _Current:
    """The session of this process, made when it is first asked for."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._session: Session | None = None  # guarded by _lock, like the next
        self._is_closed_at_exit = False

    def get(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = Session()
                if not self._is_closed_at_exit:
                    self._is_closed_at_exit = True
                    atexit.register(reset_session)
            return self._session

    def forget(self) -> Session | None:
        with self._lock:
            session, self._session = self._session, None
            return session


_current = _Current()


def current_session() -> Session:
    """Return the session of this process."""
    return _current.get()


def reset_session() -> None:
    """Close this process's session and forget it: the next one reads its settings anew."""
    session = _current.forget()
    if session is not None:
        session.close()


def checked_options(given: Mapping[str, Any], *, mode: Mode = Mode.USE, samples: Samples = Samples.SAME) -> Options:
    """Return the options of a scope, all but its namespace; `mode` and `samples` hold where none are given.

    Raises
    ------
    ConfigurationError
        As `Session.options`.
    """
    known = {"ttl", "budget", "budget_unknown", *(field.name for field in fields(Options) if field.name != "ttl_s")}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
            raise ConfigurationError(f"option {name!r} is unknown: {hint}")
    ttl = given.get("ttl")
    options = Options(
        mode=_one_of(Mode, "mode", given.get("mode", mode)),
        ttl_s=None if ttl is None else parse_duration(ttl, name="ttl"),
        tags=checked_tags(given.get("tags", ())),
        run=checked_name(str(given.get("run", "")), of="run"),
        samples=_one_of(Samples, "samples", given.get("samples", samples)),
        store=_kinds(given.get("store", ())),
        salt=checked_name(str(given.get("salt", "")), of="salt"),
        run_file=_place(given.get("run_file", "")),
        ignore=checked_rules(given.get("ignore")),
        budget_usd=_money(given, "budget"),
        budget_unknown_usd=_money(given, "budget_unknown", may_be_zero=True),
        semantic=checked_semantic(given.get("semantic")),
    )
    return options.dry() if given.get("estimate") else options


def _money(given: Mapping[str, Any], name: str, *, may_be_zero: bool = False) -> Decimal | None:
    """Return the amount of an option, which may be given with its unit in its name, too."""
    amount = given.get(name, given.get(f"{name}_usd"))
    return None if amount is None or amount == "none" else parse_usd(amount, name=name, may_be_zero=may_be_zero)


def _one_of(kind: Any, name: str, value: Any) -> Any:
    allowed = [member.value for member in cast("type[StrEnum]", kind)]
    if value in allowed:
        return kind(value)
    close = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigurationError(f"{name}={value!r}: write one of {', '.join(allowed)}{hint}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _place(given: object) -> str:
    return str(parse_place(given)) if isinstance(given, str | Path) and str(given) else ""


def label_of(path: Path) -> str:
    """Return `path` as people are told of it: from where they are, and never a place of this machine."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return path.name
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def _kinds(given: Iterable[str]) -> frozenset[str]:
    kinds = (given,) if isinstance(given, str) else tuple(given)
    for kind in kinds:
        if kind not in STORE_KINDS:
            close = difflib.get_close_matches(str(kind), STORE_KINDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"store={kind!r}: write one of {', '.join(STORE_KINDS)}{hint}")
    return frozenset(kinds)
