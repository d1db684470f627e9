"""A pytest plugin: ``--genai-cache=replay|record|use``, one run file per test module in ``__genai_cache__/`` beside it.

``replay`` answers from the files alone: no model, no key, no cache of the user's. A call that is not there fails its
test, with the difference to the nearest recorded request. ``record`` adds what is missing, by the user's cache or the
model, and drops what no test asks any more, once all tests of a module have passed. It works under pytest-xdist too.

What a fixture of a package or of the session asks is no module's own: whichever test comes first sets it up. It stands
in a file of its own, beside the ``conftest.py`` that has the fixture.
"""

from __future__ import annotations

import difflib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.runs.run_file import RunFile

FOLDER: Final = "__genai_cache__"
_MODES: Final = ("replay", "record", "use")
_OUTPUT: Final = "genai_cache_modules"
_CONFTEST: Final = "conftest.py"
_WIDE: Final = frozenset({"package", "session"})
_NARROWING: Final = ("ignore", "ignore_glob", "lf")
"""Options by which modules are left out without a word."""
_TITLE: Final = "genai-cache: - nearest recorded request, + this one"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, and the setting that it wins over."""
    group = parser.getgroup("genai-cache")
    about = "answer the model calls of tests from the files in __genai_cache__: replay, record, or use"
    group.addoption("--genai-cache", choices=_MODES, default=None, metavar="MODE", help=about)
    parser.addini("genai_cache", f"default of --genai-cache: {', '.join(_MODES)}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Begin, if anything is asked for."""
    mode = config.getoption("--genai-cache") or config.getini("genai_cache")
    if mode and mode not in _MODES:
        raise pytest.UsageError(f"genai_cache = {mode}: write one of {', '.join(_MODES)}")
    if mode:
        config.pluginmanager.register(Recorded(config, mode), "genai-cache-recorded")


@dataclass(slots=True)
class Module:
    """What is known of the tests of one module, and of its file.

    Attributes
    ----------
    collected, passed
        Numbers of tests.
    is_partial
        Whether some were deselected, or are not known.
    """

    file: RunFile
    collected: int = 0
    passed: int = 0
    is_partial: bool = False
    used: set[tuple[str, int]] = field(default_factory=set)


class Recorded:
    """The run files of one session of tests."""

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self._config = config
        self._mode = mode
        self._modules: dict[Path, Module] = {}
        self._misses: list[tuple[JsonObject, JsonObject | None]] = []
        self._is_partial = any("::" in argument for argument in config.args)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the tests of each module."""
        for item in session.items:
            self._module(item.path).collected += 1

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Take note of tests that will not run: what they ask is still wanted."""
        for item in items:
            self._module(item.path).is_partial = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take note of modules that are skipped, or can't be read, as a whole."""
        path = self._config.rootpath / report.nodeid.partition("::")[0]
        if report.outcome != "passed" and path.is_file():
            self._module(path).is_partial = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Answer what fixtures ask."""
        with self._in_force(self._module(item.path)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Answer what the test asks."""
        with self._in_force(self._module(item.path)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Answer what is asked in the end."""
        with self._in_force(self._module(item.path)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, Any, Any]:
        """Answer what a fixture asks that serves several modules from the file of where it stands."""
        if fixturedef.scope not in _WIDE:
            return (yield)
        place = request.config.rootpath / fixturedef.baseid.partition("::")[0]  # it may stand in a class
        with self._in_force(self._module(place if place.is_file() else place / _CONFTEST)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Show in what a call that was not recorded differs, and count what passed."""
        report = yield
        if call.when == "call" and report.outcome == "passed":
            self._module(item.path).passed += 1
        if report.outcome == "failed":
            report.sections += [(_TITLE, difference(*miss)) for miss in self._misses]
        self._misses = []
        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker of pytest-xdist has counted."""
        del error
        for path, told in getattr(node, "workeroutput", {}).get(_OUTPUT, {}).items():
            module = self._modules.setdefault(Path(path), Module(self._file(Path(path))))
            module.collected = told["collected"]
            module.passed += told["passed"]
            module.is_partial |= told["is_partial"]
            module.used.update((digest, sample) for digest, sample in told["used"])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the files; drop what no test of a module asks any more, if all of them have run and passed."""
        if self._mode != "record":
            return
        for module in self._modules.values():
            module.used.update((name.digest, name.sample) for name in module.file.used)
            module.file.flush()
        workeroutput = getattr(self._config, "workeroutput", None)
        if workeroutput is not None:
            workeroutput[_OUTPUT] = {str(path): self._told(module) for path, module in self._modules.items()}
            return
        for path, module in self._modules.items():
            if self._is_whole(path, module):
                module.file.retain(module.used)

    def _is_whole(self, path: Path, module: Module) -> bool:
        """Tell whether all tests that may ask what is in the file of `module` have run and passed."""
        if path.name != _CONFTEST:
            return 0 < module.collected == module.passed and not (module.is_partial or self._is_partial)
        if any(self._config.getoption(name, None) for name in _NARROWING):
            return False
        start = self._config.invocation_params.dir
        is_covered = any(path.is_relative_to((start / argument).resolve()) for argument in self._config.args)
        below = [one for one in self._modules if one.name != _CONFTEST and one.is_relative_to(path.parent)]
        return is_covered and all(self._is_whole(one, self._modules[one]) for one in below)

    @staticmethod
    def _told(module: Module) -> dict[str, Any]:
        return {
            "collected": module.collected,
            "passed": module.passed,
            "is_partial": module.is_partial,
            "used": sorted([digest, sample] for digest, sample in module.used),
        }

    @contextmanager
    def _in_force(self, module: Module) -> Iterator[None]:
        from genai_cache_magic.api.scopes.from_file import answering_from

        with answering_from(module.file, mode=self._mode, on_miss=lambda *miss: self._misses.append(miss)):
            yield

    def _module(self, path: Path) -> Module:
        if path not in self._modules:
            self._modules[path] = Module(self._file(path))
        return self._modules[path]

    def _file(self, path: Path) -> RunFile:
        from genai_cache_magic.api.scopes.from_file import plain_file

        name = f"{path.stem}.jsonl"
        return plain_file(path.parent / FOLDER / name, label=f"{FOLDER}/{name}", recorded_by="--genai-cache=record")


def difference(asked: JsonObject, near: JsonObject | None) -> str:
    """Return how a request differs from the nearest one, line by line."""
    old, new = (
        [] if form is None else json.dumps(form, indent=2, ensure_ascii=False, sort_keys=True).splitlines()
        for form in (near, asked)
    )
    return "\n".join(difflib.unified_diff(old, new, "recorded", "asked", lineterm="", n=2))
