"""Processes that a cell starts, and work that it gives to pools of processes, follow its scope.

A forked process has a copy of the scope, which tells the original what it did. One that is spawned, and a worker that
was there before, get a passport with each piece of work. A worker of a pool belongs to no cell between its work.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import CellInterrupt, make_ordinary
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.workers.threads import in_force

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.calls.scope import CarriesScope, CellScope
    from genai_cache_magic.intercept.points import Group

MODULES: Final = (
    "multiprocessing.process",
    "concurrent.futures.process",
    "loky.process_executor",
    "joblib.externals.loky.process_executor",
)
_POOLS: Final = ("multiprocessing.pool", "multiprocessing.managers", *MODULES[1:])
"""Where the code of processes stands that outlive the cell that made them start."""
_INITIALIZER: Final = 2
"""Its place among the arguments of such a worker, after the queues of its work and its results."""


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `module`.

    Raises
    ------
    AttributeError
        It is built differently.
    """
    if module.__name__ == "multiprocessing.process":
        _prepare_forks()
        return [(Point(module.BaseProcess, "start", _start),)]
    return [(Point(module.ProcessPoolExecutor, "submit", _submit),)]


class Carried:
    """Work for another process, with the scope that it belongs to; it is pickled."""

    def __init__(self, work: Callable[..., Any], passport: CarriesScope | None) -> None:
        self._work = work
        self._passport = passport

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work in its scope; what no SDK may catch is an ordinary error for the pool."""
        try:
            with in_force(None), self._passport.entered() if self._passport else nullcontext():
                return self._work(*args, **kwargs)
        except CellInterrupt as error:
            make_ordinary(error)
            raise


class CarriedInitializer(Carried):
    """What a worker of a pool does before its first work; it is pickled.

    A miss in it is the cell's. The pool must not hear of it: it would start another worker in place of one that fails
    so, and that one would miss as well, for ever.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do it in the scope of the cell that made the pool start the worker."""
        with suppress(CellInterrupt):
            return super().__call__(*args, **kwargs)


class _CarriedRun:
    """The ``run`` of a process that is spawned; it is pickled with its process."""

    def __init__(self, process: Any, passport: CarriesScope) -> None:
        self._process = process
        self._passport = passport

    def __call__(self) -> None:
        with self._passport.entered():
            type(self._process).run(self._process)


def carried(work: Callable[..., Any], scope: CellScope) -> Callable[..., Any]:
    """Return `work` so that it belongs to `scope` in whatever process it is done."""
    scope.reports.prepare()
    return Carried(work, scope.passport)


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def start(self: Any) -> Any:
        here = active.get()
        if here is None:
            return original(self)
        if getattr(getattr(self, "_target", None), "__module__", "") in _POOLS:
            _carry_initializer(self, here.scope)
            with in_force(None):
                return original(self)
        if here.scope.passport is None or _method(self) == "fork":
            return original(self)
        here.scope.reports.prepare()
        self.run = _CarriedRun(self, here.scope.passport)
        try:
            return original(self)
        finally:
            del self.run  # it is pickled; here the process is what it was
            here.scope.follow(self)

    return start


def _carry_initializer(process: Any, scope: CellScope) -> None:
    """Let what a pool's worker does before its first work belong to the cell that made the pool start it."""
    arguments: tuple[Any, ...] = getattr(process, "_args", None) or ()
    if len(arguments) > _INITIALIZER and callable(arguments[_INITIALIZER]):
        scope.reports.prepare()
        initializer = CarriedInitializer(arguments[_INITIALIZER], scope.passport)
        process._args = (*arguments[:_INITIALIZER], initializer, *arguments[_INITIALIZER + 1 :])  # noqa: SLF001 - it has no other name


def _method(process: Any) -> str:
    """Return how `process` will be started."""
    return getattr(process, "_start_method", None) or multiprocessing.get_start_method()


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, *args: Any, **kwargs: Any) -> Any:
        here = active.get()
        if here is not None and args:
            args = (carried(args[0], here.scope), *args[1:])
        elif here is not None and "fn" in kwargs:  # loky takes the work by its name, too
            kwargs["fn"] = carried(kwargs["fn"], here.scope)
        return original(self, *args, **kwargs)

    return submit


@functools.cache
def _prepare_forks() -> None:
    """Let each fork in a scope find the place for what its child will tell."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_prepare)


def _prepare() -> None:
    here = active.own()
    if here is not None:
        here.scope.reports.prepare()
