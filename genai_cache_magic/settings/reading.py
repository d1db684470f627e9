"""From every source to the settings, what is said of a wrong value, and the settings as people read them."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from genai_cache_magic.core.masking import without_credentials
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import tilde, what_is_unchecked
from genai_cache_magic.settings.files import complaints, read_layers
from genai_cache_magic.settings.model import (
    LATER,
    LATER_VALUES,
    PREFIX,
    CompressionSettings,
    OriginSettings,
    Settings,
    Spelled,
)
from genai_cache_magic.settings.units import spell_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.settings.files import Layer

_HIDDEN = "(hidden: it would name this host in a saved notebook)"
_ENVIRONMENT = "environment"
_JSON = {
    "compression": '{"algorithm": "gzip"}',
    "extra_headers": '["x-tenant"]',
    "key_exclude": '["user"]',
    "key_include": '["user"]',
    "origins": '{"https://gateway.example.com": "openai"}',
}


@dataclass(frozen=True, slots=True)
class SettingSource:
    """One line of ``%llm_cache config``: a setting, its value as people write it, and where it came from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Described:
    """All that ``%llm_cache config`` says: every setting, and sentences about what is ignored or not checked."""

    lines: tuple[SettingSource, ...]
    notes: tuple[str, ...]


def load_settings(**options: Any) -> Settings:
    """Read the settings.

    Raises
    ------
    ConfigurationError
        A source can't be read, or a value is wrong: the message names the setting, its value, where it
        was set, what is allowed and the nearest correct spelling.
    """
    try:
        layers = _layers(options, read_layers())
        for where, table in layers:
            _check_names(table, where)
        return Settings(**options)
    except ValidationError as exc:
        raise ConfigurationError(without_credentials(_explain(exc, layers))) from exc
    except SettingsError as exc:
        raise ConfigurationError(_explain_json(exc)) from exc


def ignored() -> tuple[str, ...]:
    """Return a sentence for each file of which something is ignored; raises as `load_settings`."""
    return tuple(complaints(read_layers()))


def describe(settings: Settings, **options: Any) -> Described:
    """Return every setting with its value and its source, for ``%llm_cache config``.

    `options` are those that `settings` was read with.
    """
    files = read_layers()
    layers = _layers(options, files)
    lines = []
    for name in Settings.model_fields:
        source = next((where for where, table in layers if name in table), "default")
        source += "".join(f"; ignored in {tilde(file.path)}" for file in files if name in file.withheld)
        lines.append(SettingSource(name, _spelled(name, getattr(settings, name)), source))
    notes = complaints(files)
    notes += [
        f"aliases and models of {tilde(file.path)} count among that file's own rules alone, unless you trust it"
        for file in files
        if file.is_confined
    ]
    return Described(tuple(lines), tuple(note for note in (*notes, what_is_unchecked()) if note))


def _spelled(name: str, value: object) -> str:
    """Return `value` as people write it."""
    if name == "machine":
        return _HIDDEN
    spelled = next((how for how in Settings.model_fields[name].metadata if isinstance(how, Spelled)), None)
    if spelled is not None and value is not None:
        return spelled.write(value)
    return _written(value) or "none"


def _written(value: object) -> str:
    if isinstance(value, Path):
        return tilde(value)
    if isinstance(value, CompressionSettings):
        return f"{value.algorithm}, from {spell_size(value.threshold)}, level {value.level}"
    if isinstance(value, dict):
        return "; ".join(f"{url}: {_rule(rule)}" for url, rule in value.items())
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    return "" if value is None else str(value)


def _rule(rule: OriginSettings) -> str:
    parts = [rule.provider, f"alias {rule.alias}" if rule.alias else ""]
    parts += [f"{deployment} is {model}" for deployment, model in rule.models.items()]
    parts += ["no-store ignored"] if rule.no_store == "ignore" else []
    return ", ".join(filter(None, parts)) or "configured"


def _layers(options: Mapping[str, Any], files: list[Layer]) -> list[tuple[str, Mapping[str, Any]]]:
    named = {name.removeprefix(PREFIX).lower(): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    known = EnvSettingsSource(Settings)()
    environment = {**{name: value for name, value in named.items() if "__" not in name or name not in known}, **known}
    return [
        ("option", options),
        (_ENVIRONMENT, environment),
        *((tilde(file.path), file.table) for file in files),
    ]


def _check_names(names: Mapping[str, Any], where: str) -> None:
    known = set(Settings.model_fields)
    for name in sorted(names):
        head = name.split("__")[0]
        place = _place(where, name)
        if head in LATER:
            raise ConfigurationError(
                f"{name} ({place}) needs {LATER[head]}, which this version does not have yet: remove it",
            )
        if head not in known:
            close = difflib.get_close_matches(head, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise ConfigurationError(f"{name} ({place}) is no setting of genai-cache: {hint}")


def _place(where: str, *names: str) -> str:
    """Return where a setting was found, with the name of the variable if that is in the environment."""
    if where != _ENVIRONMENT:
        return where
    wanted = [f"{PREFIX}{'__'.join(names[:n])}".upper() for n in range(len(names), 0, -1)]
    found = next((name for want in wanted for name in os.environ if name.upper() == want), wanted[-1])
    return f"{where}, {found}"


def _explain(exc: ValidationError, layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    first = exc.errors()[0]
    head, *rest = (str(part) for part in first["loc"])
    where = next((where for where, table in layers if head in table), "default")
    place = _place(where, head, *rest)
    context = first.get("ctx") or {}
    name = ".".join((head, *rest))
    if first["type"] == "extra_forbidden":
        return f"{name} ({place}) is no setting of {head}"
    if (later := LATER_VALUES.get((head, str(first["input"])))) is not None:
        return f"{head}={first['input']} ({place}) needs {later}, which this version does not have yet"
    said = context.get("expected") or context.get("error") or first["msg"]
    # SECURITY: a header that holds a credential by mistake is not shown again.
    value = "" if head == "extra_headers" or head.startswith("l2") else f"={first['input']!r}"
    allowed = [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(str(first["input"]), allowed, n=1)
    return f"{name}{value} ({place}): {said}" + (f"; did you mean {close[0]}?" if close else "")


def _explain_json(exc: SettingsError) -> str:
    """Say which variable holds no JSON; the exception names the field alone."""
    found = re.search(r'field "(\w+)"', str(exc))
    name = found[1] if found else ""
    example = _JSON.get(name, "{}")
    return f"{_place(_ENVIRONMENT, name).partition(', ')[2]} (environment) is not JSON: write it like '{example}'"
