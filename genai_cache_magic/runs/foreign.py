"""Files of other tools that record calls, read as the calls of a run: which tools, and what is said of their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs import cachy, vcr
from genai_cache_magic.runs.exchanges import taken
from genai_cache_magic.runs.run_file import content_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.runs.exchanges import Exchange, Taken

SOURCES: Final = ("vcr", "cachy")
"""Whose files are read."""

_NAMED_LIKE: Final = {".yaml": "vcr", ".yml": "vcr", ".json": "vcr"}
_SHOWN: Final = 5
_NO_LOG: Final = (
    "{name}: pycachy keeps a digest of each request alone, not what was asked. Give the log that CACHY_LOG named while "
    "it recorded, with --log FILE; without one, record the run anew with --mode record --run-file FILE"
)


def likely_source(path: Path) -> str:
    """Return whose file one of this name would be; empty if it may be ours."""
    return "cachy" if path.name == "cachy.jsonl" else _NAMED_LIKE.get(path.suffix.lower(), "")


def foreign_calls(path: Path, source: str, log: Path | None, origins: Origins) -> Taken:
    """Return the model calls that another tool has recorded in `path`.

    Raises
    ------
    ConfigurationError
        The file is none of that tool's, or holds nothing that could be taken.
    StoreUnavailable
        It can't be read.
    """
    if source not in SOURCES:
        raise ConfigurationError(f"--from {source}: write one of {', '.join(SOURCES)}")
    if log is not None and source != "cachy":
        raise ConfigurationError(f"--log is for --from cachy: what {source} records says itself what was asked")
    for file in filter(None, (path, log)):
        if not file.is_file():
            raise ConfigurationError(f"there is no file {file.name}: write its name as it is")
    try:
        found = taken(_vcr(path) if source == "vcr" else _cachy(path, log), origins)
    except ConfigurationError as exc:
        raise ConfigurationError(str(exc) if str(exc).startswith(path.name) else f"{path.name}: {exc}") from exc
    if not found.calls:
        why = "; ".join(f"{count:,} {what}" for what, count in [*found.left_out.items()][:_SHOWN])
        raise ConfigurationError(f"{path.name} holds no call that a run can have{f': {why}' if why else ''}")
    return found


def _vcr(path: Path) -> Iterable[Exchange | str]:
    return vcr.exchanges_in(content_of(path, path.name, vcr.MAX_CASSETTE_BYTES))


def _cachy(path: Path, log: Path | None) -> Iterable[Exchange | str]:
    if log is None:
        raise ConfigurationError(_NO_LOG.format(name=path.name))
    content, said = (content_of(file, file.name, cachy.MAX_RECORD_BYTES) for file in (path, log))
    return cachy.exchanges_in(content, said)
