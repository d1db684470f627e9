"""From every source to the settings, what is said of a wrong value, and the settings as people read them."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from genai_cache_magic.core.masking import without_credentials
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import tilde, what_is_unchecked
from genai_cache_magic.settings.edges import CdnRule, CdnSettings
from genai_cache_magic.settings.files import complaints, read_layers
from genai_cache_magic.settings.kinds import Spelled
from genai_cache_magic.settings.limits import LimitSettings
from genai_cache_magic.settings.model import (
    AZURES_OWN,
    PREFIX,
    CompressionSettings,
    IgnoreSettings,
    OriginSettings,
    RetrySettings,
    Settings,
)
from genai_cache_magic.settings.monitoring import AlertRule, MonitoringSettings
from genai_cache_magic.settings.network import NetworkSettings
from genai_cache_magic.settings.units import spell_duration, spell_size, spell_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import ErrorDetails

    from genai_cache_magic.settings.files import Layer

_HIDDEN = "(hidden: it would name this host in a saved notebook)"
_ENVIRONMENT = "environment"
_PARTS = {
    "cdn": (*CdnSettings.model_fields, *CdnRule.model_fields),
    "compression": tuple(CompressionSettings.model_fields),
    "ignore": tuple(IgnoreSettings.model_fields),
    "limits": tuple(LimitSettings.model_fields),
    "monitoring": tuple(MonitoringSettings.model_fields),
    "network": tuple(NetworkSettings.model_fields),
    "retry": tuple(RetrySettings.model_fields),
    "origins": tuple(name for name in OriginSettings.model_fields if name != "circle"),
}
_WANTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "frozen_set_type": "a list",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "missing": "it too: there is no default",
    "string_too_short": "something: it is empty",
    "string_type": "a text, in quotes",
    "tuple_type": "a list",
}
"""Kind of pydantic's errors -> what to write; its own texts name types of Python and no way out."""
_BOUNDS = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
_JSON = {
    "cdn": '{"endpoint": "https://NAME-HASH.z01.azurefd.net", "rules": [{"match": "*", "ttl": "1d"}]}',
    "compression": '{"algorithm": "gzip"}',
    "extra_headers": '["x-tenant"]',
    "ignore": '{"names": ["memory-address"]}',
    "key_exclude": '["user"]',
    "key_include": '["user"]',
    "limits": '{"container": "50GB", "tags": {"baseline": "2GB"}}',
    "network": '{"private_endpoint": true}',
    "origins": '{"https://gateway.example.com": "openai"}',
    "monitoring": '{"exporter": "prometheus"}',
    "retry": '{"max_attempts": 3}',
}
_SECRETS = frozenset({"webhook", "connection_string", "endpoint"})
"""Parts of nested settings whose value may let whoever knows it in."""


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
        source = next((where for where, table in layers if name in table), _default_of(name))
        source += "".join(f"; ignored in {tilde(file.path)}" for file in files if name in file.withheld)
        lines.append(SettingSource(name, _spelled(name, getattr(settings, name)), source))
    notes = complaints(files)
    notes += [
        f"aliases and models of {tilde(file.path)} count among that file's own rules alone, unless you trust it"
        for file in files
        if file.is_confined
    ]
    return Described(tuple(lines), tuple(note for note in (*notes, what_is_unchecked()) if note))


def _default_of(name: str) -> str:
    """Return where the default of a setting comes from."""
    variable = AZURES_OWN.get(name, "")
    return f"{_ENVIRONMENT}, {variable}" if os.environ.get(variable) else "default"


def _spelled(name: str, value: object) -> str:
    """Return `value` as people write it."""
    if name == "max_stale" and value is None:
        return "5s; Blob 30s"
    if name == "machine":
        return _HIDDEN
    field = Settings.model_fields[name]
    alone = (how for kind in get_args(field.annotation) for how in getattr(kind, "__metadata__", ()))  # of `X | None`
    spelled = next((how for how in (*field.metadata, *alone) if isinstance(how, Spelled)), None)
    if spelled is not None and value is not None:
        return spelled.write(value) or "none"
    return _written(value) or "none"


def _written(value: object) -> str:
    if isinstance(value, Path):
        return tilde(value)
    if isinstance(value, CompressionSettings):
        return f"{value.algorithm}, from {spell_size(value.threshold)}, level {value.level}"
    if isinstance(value, CdnSettings | RetrySettings):
        return _edge(value) if isinstance(value, CdnSettings) else _retry(value)
    if isinstance(value, dict | frozenset):
        rules = value if isinstance(value, dict) else {}
        return "; ".join(f"{url}: {_rule(rule)}" for url, rule in rules.items()) or ", ".join(sorted(value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else without_credentials(str(value))


def _retry(value: RetrySettings) -> str:
    ends = f"at most {value.max_attempts} times" if value.max_attempts else "without end"
    return f"{value.backoff}, {spell_timeout(value.first_pause)} to {spell_timeout(value.longest_pause)}, {ends}"


def _edge(cdn: CdnSettings) -> str:
    if not cdn.endpoint:
        return ""
    rules = ", ".join(f"{rule.match} {spell_duration(rule.ttl)}" for rule in cdn.rules) or "keeps nothing"
    return f"{cdn.endpoint}{cdn.path}: {rules}" + ("" if cdn.purge == "off" else f"; purged by {cdn.purge}")


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
        if head not in known:
            raise ConfigurationError(f"{name} ({place}) is no setting of genai-cache: {_nearest(head, known)}")


def _place(where: str, *names: str) -> str:
    """Return where a setting was found, with the name of the variable if that is in the environment."""
    if where != _ENVIRONMENT:
        return where
    wanted = [f"{PREFIX}{'__'.join(names[:n])}".upper() for n in range(len(names), 0, -1)]
    found = next((name for want in wanted for name in os.environ if name.upper() == want), wanted[-1])
    return f"{where}, {found}"


def _explain(exc: ValidationError, layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    # What is misspelled is missing too, in its right spelling.
    first = min(exc.errors(), key=lambda error: error["type"] != "extra_forbidden")
    head, *rest = (str(part) for part in first["loc"])
    where = next((where for where, table in layers if head in table), "default")
    place = _place(where, head, *rest)
    context = first.get("ctx") or {}
    name = ".".join((head, *rest))
    if first["type"] == "extra_forbidden":
        known = AlertRule.model_fields if rest[:1] == ["alerts"] else _PARTS.get(head, ())
        return f"{name} ({place}) is no setting of {head}: {_nearest(rest[-1], known)}"
    # SECURITY: a header that holds a credential by mistake is not shown again, nor what else is or holds a secret.
    is_secret = head == "extra_headers" or head.startswith(("l2", "cdn")) or bool(_SECRETS.intersection(rest))
    value = "" if is_secret or first["type"] == "missing" else f"={_given(first, head)}"
    allowed = [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(str(first["input"]), allowed, n=1)
    return f"{name}{value} ({place}): {_wanted(first, head)}" + (f"; did you mean {close[0]}?" if close else "")


def _wanted(error: ErrorDetails, head: str) -> str:
    """Return what is allowed there, as a thing to write."""
    context, kind = error.get("ctx") or {}, error["type"]
    if "error" in context:
        return str(context["error"])
    if "expected" in context:
        return f"write {context['expected']}"
    if kind in _BOUNDS:
        limit, words = _BOUNDS[kind]
        return f"write {words} {_counted(head, context[limit])}"
    if kind not in _WANTED:
        return error["msg"]
    is_whole = len(error["loc"]) == 1
    return f"write {_WANTED[kind]}" + (f", such as {_JSON[head]}" if is_whole and head in _JSON else "")


def _given(error: ErrorDetails, head: str) -> str:
    """Return a value as it was written: what breaks a bound has been read before, and is a number of bytes by now."""
    return _counted(head, error["input"]) if error["type"] in _BOUNDS else repr(error["input"])


def _counted(head: str, number: object) -> str:
    """Return a number, with its unit if `head` is a size."""
    return _spelled(head, number) if Settings.model_fields[head].annotation is int else repr(number)


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"


def _explain_json(exc: SettingsError) -> str:
    """Say which variable holds no JSON; the exception names the field alone."""
    found = re.search(r'field "(\w+)"', str(exc))
    name = found[1] if found else ""
    example = _JSON.get(name, "{}")
    return f"{_place(_ENVIRONMENT, name).partition(', ')[2]} (environment) is not JSON: write it like '{example}'"
