"""Settings, read once: option > environment > project file > user file > default.

One vocabulary in ``[tool.genai-cache-magic]`` of `pyproject.toml`, in `genai-cache.toml`, in the user's
file, and in the environment as ``GENAI_CACHE_*`` (``__`` between the parts of a nested name).
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import machine_name, person_name
from genai_cache_magic.settings.files import read_tables
from genai_cache_magic.settings.places import parse_place
from genai_cache_magic.settings.units import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "GENAI_CACHE_"

LATER = {
    "l2": "the team tier (Redis, Azure Blob)",
    "key_vault_url": "Key Vault",
    "key_name": "Key Vault",
    "signing_key_name": "Key Vault",
    "verify_challenge": "Key Vault",
    "budget": "budgets",
}
"""Settings whose capability is not in this version: refused with a sentence, never ignored."""


def machine_identity() -> str:
    """Return what tells this host from others: machine-id where there is one, else the host name."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    return machine_name()


LATER_VALUES = {
    ("encryption", "key-vault"): "Key Vault",
    ("status", "widget"): "the widget",
}
"""Values of which the same is true."""

_HIDDEN = frozenset({"machine"})
_MASKED = "(hidden: it would name this host in a saved notebook)"


def _reported(parse: Callable[[Any], Any]) -> BeforeValidator:
    """Let pydantic name the setting: it collects its own kind of error only."""

    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except ConfigurationError as exc:
            raise PydanticCustomError("unit", "{error}", {"error": str(exc)}) from exc

    return BeforeValidator(validate)


Duration = Annotated[int, _reported(parse_duration)]
Size = Annotated[int, _reported(parse_size)]
Place = Annotated[Path, _reported(parse_place)]


class CompressionSettings(BaseModel):
    """How stored answers are compressed; `threshold` [bytes] is where it starts to pay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["zstd", "gzip", "none"] = "zstd"
    threshold: Size = 1024
    level: int = Field(default=3, ge=1, le=19)


class OriginSettings(BaseModel):
    """What is said of one origin: its wire API, and the name under which it is shared.

    A plain text stands for its wire API: ``{"https://llm.example.com/v1": "openai"}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str = ""
    alias: str = ""
    models: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"provider": value} if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything that can be set. Sizes in bytes, durations in seconds once read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        env_ignore_empty=True,
    )

    dir: Place = Field(default_factory=lambda: Path(platformdirs.user_cache_dir("genai-cache")), validate_default=True)
    namespace: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    mode: Mode = Mode.USE
    ttl: Duration = 30 * 86_400
    samples: Samples = Samples.SAME
    status: Literal["auto", "static", "off"] = "auto"
    person: str = Field(default_factory=person_name)
    machine: str = Field(default_factory=machine_identity)
    encryption: Literal["local", "off"] = "local"
    key_file: Place = Field(
        default_factory=lambda: Path(platformdirs.user_config_dir("genai-cache")) / "keys" / "default.key",
        validate_default=True,
    )
    size_limit: Size = 1024**3
    memory: Size = 32 * 1024**2
    max_response: Size = Field(default=8 * 1024**2, le=32 * 1024**2)
    compression: CompressionSettings = Field(default_factory=CompressionSettings)
    origins: dict[str, OriginSettings] = Field(default_factory=dict)
    extra_headers: frozenset[str] = frozenset()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env: a notebook's folder may be shared
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - part of the inherited signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, first wins (pydantic-settings, "Customise settings sources")."""
        files = [InitSettingsSource(settings_cls, table) for _, table in read_tables()]
        return (init_settings, env_settings, *files)


@dataclass(frozen=True, slots=True)
class SettingSource:
    """One line of ``%llm_cache config``: a setting, its value as text, and where it came from."""

    name: str
    value: str
    source: str


def load_settings(**options: Any) -> Settings:
    """Read the settings.

    Raises
    ------
    ConfigurationError
        A source can't be read, or a value is wrong: the message names the setting, its value, where it
        was set, what is allowed and the nearest correct spelling.
    """
    try:
        layers = _layers(options)
        for where, table in layers:
            _check_names(table, where)
        return Settings(**options)
    except ValidationError as exc:
        raise ConfigurationError(_explain(exc, layers)) from exc
    except SettingsError as exc:
        raise ConfigurationError(f"{exc}: write it as JSON, such as {{}}") from exc


def describe(settings: Settings, **options: Any) -> list[SettingSource]:
    """Return every setting with its value and its source, for ``%llm_cache config``.

    `options` are those that `settings` was read with.
    """
    layers = _layers(options)
    lines = []
    for name in Settings.model_fields:
        source = next((where for where, table in layers if name in table), "default")
        value = getattr(settings, name)
        lines.append(SettingSource(name, _MASKED if name in _HIDDEN else _plain(value), source))
    return lines


def _plain(value: object) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, dict):
        return json.dumps({k: v.model_dump() for k, v in value.items()})
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    return str(value)


def _layers(options: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    named = {name.removeprefix(PREFIX).lower(): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    known = EnvSettingsSource(Settings)()
    environment = {**{name: value for name, value in named.items() if "__" not in name or name not in known}, **known}
    return [("option", options), ("environment", environment), *((str(path), table) for path, table in read_tables())]


def _check_names(names: Mapping[str, Any], where: str) -> None:
    known = set(Settings.model_fields)
    for name in sorted(names):
        head = name.split("__")[0]
        if head in LATER:
            raise ConfigurationError(
                f"{name} ({where}) needs {LATER[head]}, which this version does not have yet: remove it",
            )
        if head not in known:
            close = difflib.get_close_matches(head, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise ConfigurationError(f"{name} ({where}) is no setting of genai-cache: {hint}")


def _explain(exc: ValidationError, layers: list[tuple[str, Mapping[str, Any]]]) -> str:
    first = exc.errors()[0]
    head, *rest = (str(part) for part in first["loc"])
    where = next((where for where, table in layers if head in table), "default")
    context = first.get("ctx") or {}
    if first["type"] == "extra_forbidden":
        return f"{'.'.join((head, *rest))} ({where}) is no setting of {head}"
    if (later := LATER_VALUES.get((head, first["input"]))) is not None:
        return f"{head}={first['input']} ({where}) needs {later}, which this version does not have yet"
    said = context.get("expected") or context.get("error") or first["msg"]
    message = f"{'.'.join((head, *rest))}={first['input']!r} ({where}): {said}"
    allowed = [part.strip(" '") for part in str(context.get("expected", "")).replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(str(first["input"]), allowed, n=1)
    return message + (f"; did you mean {close[0]}?" if close else "")
