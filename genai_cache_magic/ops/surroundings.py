"""What is around a cache: packages and their releases, kernels from before an update, who else takes hold of HTTP."""

from __future__ import annotations

import os
import re
import sys
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.team.installed import is_installed
from genai_cache_magic.api.watching.monitored import ensure_exporter
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import is_foreign, process_id, tilde
from genai_cache_magic.vectors import INSTALL_LOCAL, LOCAL_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.settings.model import Settings

_PACKAGE: Final = "genai-cache-magic"
_EXTRA: Final = re.compile(r"""extra == ["']([\w.-]+)["']""")
_PROC: Final = Path("/proc")
_ABOUT_S: Final = 10.0
"""The kernel tells when it was booted to the second, and moves that as its clock is set [s]."""
_POINTS: Final = (
    ("httpx", "Client", "send"),
    ("httpx", "Client", "_send_single_request"),
    ("httpx", "AsyncClient", "send"),
    ("httpx", "AsyncClient", "_send_single_request"),
    ("httpx", "HTTPTransport", "handle_request"),
    ("httpx", "AsyncHTTPTransport", "handle_async_request"),
    ("httpcore", "ConnectionPool", "handle_request"),
    ("httpcore", "AsyncConnectionPool", "handle_async_request"),
    ("requests", "Session", "send"),
    ("requests.adapters", "HTTPAdapter", "send"),
    ("urllib3.connectionpool", "HTTPConnectionPool", "urlopen"),
    ("urllib3.connectionpool", "HTTPConnectionPool", "ConnectionCls"),
    ("aiohttp", "ClientSession", "_request"),
)
"""Where others take hold of HTTP clients: module, class and attribute."""
_ANSWERS: Final = frozenset({"vcr", "responses", "respx", "pytest_httpx", "aioresponses", "requests_mock", "httpretty"})
"""Packages that answer in the place of a server."""


def others() -> Iterator[tuple[str, str, bool]]:
    """Yield (method, package, whether it answers by itself) for whoever has taken hold of a client beside us."""
    for module, kind, name in _POINTS:
        owner = getattr(sys.modules.get(module), kind, None)
        place = None if owner is None else vars(owner).get(name)
        for package in dict.fromkeys(_packages(place)):
            own = module.partition(".")[0]
            if package not in {own, "genai_cache_magic", "wrapt", "functools", "builtins", "urllib3", ""}:
                yield f"{kind}.{name} of {own}", package, package in _ANSWERS


def _packages(thing: Any) -> Iterator[str]:
    """Yield the packages of a function, and of all that it is wrapped around."""
    seen: set[int] = set()
    while thing is not None and id(thing) not in seen:
        seen.add(id(thing))
        wrapper = getattr(thing, "_self_wrapper", None)
        code = getattr(wrapper or thing, "__globals__", {}).get("__name__", "")
        # What was wrapped claims to be of the library: where its code stands tells whose it is.
        yield str(code or getattr(wrapper or thing, "__module__", "")).partition(".")[0]
        thing = getattr(thing, "__wrapped__", None)


def outdated_packages() -> Iterator[tuple[str, str, str]]:
    """Yield (name, release, what this package needs) for whatever is installed and is not of such a release.

    What an extra needs counts where all of that is installed, as `pip install` of the extra does.
    """
    try:
        from packaging.requirements import Requirement

        wanted = [Requirement(text) for text in metadata.requires(_PACKAGE) or []]
    except (ImportError, ValueError, metadata.PackageNotFoundError):
        return
    groups: dict[str, list[Any]] = {}
    for requirement in wanted:
        extra = (_EXTRA.search(str(requirement.marker or "")) or ("", ""))[1]
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            groups.setdefault(extra, []).append(requirement)
    told = set()
    for group in groups.values():
        there = {requirement.name: _release(requirement.name) for requirement in group}
        for requirement in group if all(there.values()) else ():
            release = there[requirement.name]
            if requirement.name not in told and not requirement.specifier.contains(release, prereleases=True):
                told.add(requirement.name)
                yield requirement.name, release, str(requirement.specifier)


def _release(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def missing_packages(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (sentence, setting) for each setting that does nothing here, since what it needs is not installed.

    Key and tier say so themselves, where they are looked at.
    """
    try:
        ensure_exporter(settings.monitoring)
    except ConfigurationError as exc:
        yield f"{exc}, or nothing is told", "monitoring"
    if settings.status == "widget" and not is_installed("anywidget"):
        says = "status=widget needs anywidget, or the badge stands there: pip install 'genai-cache-magic[widget]'"
        yield says, "status"
    missing = [name for name in LOCAL_PACKAGES if not is_installed(name)]
    if settings.semantic is not None and missing:
        yield f"semantic needs {', '.join(missing)}, or only equal calls are hits: {INSTALL_LOCAL}", "semantic"


def outdated_processes(directory: Path) -> Iterator[int]:
    """Yield the processes of this user that use `directory` with code from before it was replaced on the disk.

    Only where the system shows what its processes have open, as Linux does.
    """
    updated_s = _updated_s()
    began_s = _boot_s()
    if began_s is None:
        return
    for path in _PROC.iterdir():
        with suppress(OSError, ValueError, IndexError):
            is_us = path.name.isdigit() and not is_foreign(path.stat())
            if is_us and _started_s(path, began_s) + _ABOUT_S < updated_s and _uses(path, directory):
                yield int(path.name)


def _updated_s() -> float:
    """Return when the code of this package was last written [s since the epoch]."""
    return max(path.stat().st_ctime for path in Path(__file__).parents[1].rglob("*.py"))


def _boot_s() -> float | None:
    with suppress(OSError, ValueError, StopIteration):
        lines = (_PROC / "stat").read_text(encoding="ascii").splitlines()
        return float(next(line for line in lines if line.startswith("btime ")).split()[1])
    return None


def _started_s(process: Path, began_s: float) -> float:
    # proc(5): the 22nd field, behind a name that may hold anything.
    ticks = int((process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    return began_s + ticks / os.sysconf("SC_CLK_TCK")


def _uses(process: Path, directory: Path) -> bool:
    if process.name == str(process_id()):
        return True
    inside = f"{os.path.realpath(directory)}{os.sep}"
    return any(_target(link).startswith(inside) for link in (process / "fd").iterdir())


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def untrusted_notebook() -> str:
    """Return the notebook that this kernel runs, for people, if Jupyter does not trust it as saved; else nothing."""
    path = Path(os.environ.get("JPY_SESSION_NAME", ""))
    if path.suffix != ".ipynb" or not path.is_file():
        return ""
    try:
        import nbformat
        from nbformat.sign import NotebookNotary

        notary: Any = NotebookNotary
        saved = nbformat.read(path, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
        signatures = notary()
        with closing(signatures.store):
            return "" if signatures.check_signature(saved) else tilde(path)
    except Exception:  # noqa: BLE001 - a library of others, about what is only told
        return ""
