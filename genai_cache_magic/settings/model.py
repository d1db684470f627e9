"""Settings, read once: option > environment > project file > user file > default.

One vocabulary in ``[tool.genai-cache-magic]`` of `pyproject.toml`, in `genai-cache.toml`, in the user's
file, and in the environment as ``GENAI_CACHE_*`` (``__`` between the parts of a nested name).
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from genai_cache_magic.core.ignoring import OWN, checked_rules, combined
from genai_cache_magic.core.masking import without_credentials
from genai_cache_magic.core.options import LEAST_SEMANTIC, Mode, Samples, checked_name
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import machine_name, person_name
from genai_cache_magic.settings.edges import CdnSettings
from genai_cache_magic.settings.files import read_layers
from genai_cache_magic.settings.kinds import (
    Duration,
    Money,
    MoneyOrNothing,
    Secret,
    Size,
    Spelled,
    Timeout,
    reported,
)
from genai_cache_magic.settings.limits import LimitSettings, spelled_limits
from genai_cache_magic.settings.monitoring import MonitoringSettings
from genai_cache_magic.settings.network import NetworkSettings, spelled_network
from genai_cache_magic.settings.places import own_directory, parse_place
from genai_cache_magic.settings.roles import Role  # noqa: TC001 - pydantic reads it
from genai_cache_magic.settings.units import spell_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "GENAI_CACHE_"

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


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


def _rules(value: Any) -> tuple[str, ...]:
    """Return rules about noise, checked, as pydantic wants to hear of wrong ones."""
    try:
        return checked_rules(value)
    except ConfigurationError as exc:
        raise PydanticCustomError("unit", "{error}", {"error": str(exc)}) from exc


_ASKED = frozenset(
    {"contents", "file", "input", "inputs", "instances", "instructions", "messages", "model", "prompt", "query"}
    | {"requests", "stream", "system", "systemInstruction", "texts", "tools"}
)
"""Fields of bodies without which two questions would be one."""


def _namespace(value: Any) -> Any:
    if isinstance(value, str) and not _NAMESPACE.fullmatch(value):
        raise ConfigurationError(
            f"{value!r} is no name for a namespace: write at most 64 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit, such as team-a",
        )
    return value


def _name(value: Any) -> Any:
    return checked_name(value, of="the name") if isinstance(value, str) else value


def is_header(value: object) -> bool:
    """Tell whether a text is the name of a header."""
    return isinstance(value, str) and _HEADER.fullmatch(value) is not None


def _header(value: Any) -> Any:
    # SECURITY: not shown, since who writes a whole header here writes a credential.
    if isinstance(value, str) and not is_header(value):
        raise ConfigurationError('this is no name of a header: write names alone, such as ["x-tenant"]')
    return value


def _without_questions(value: Any) -> Any:
    """Return names of fields, none of which is what is asked."""
    named = {value} if isinstance(value, str) else {str(name) for name in value or ()}
    if asked := sorted(named & _ASKED):
        raise ConfigurationError(f"{asked[0]} is what is asked, so it can't be left out of the key; remove it")
    return frozenset(named)


def _addresses(value: Any) -> Any:
    """Return addresses given as a list, or as one text that parts them by commas; ``none`` stands for no address."""
    if value == "none":
        return ()
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


AZURES_OWN = {
    "key_vault_url": "AZURE_KEYVAULT_URL",
    "l2": "AZURE_REDIS_HOST",
    "l2_password": "AZURE_REDIS_KEY",
    "l2_connection_string": "AZURE_STORAGE_CONNECTION_STRING",
    "l2_account": "AZURE_STORAGE_ACCOUNT",
    "l2_account_key": "AZURE_STORAGE_KEY",
}
"""Setting -> the variable, of Azure's own, that is its default."""


def _of_azure(setting: str) -> Callable[[], SecretStr]:
    """Return the default of a credential: what Azure's own variable says."""
    return lambda: SecretStr(os.environ.get(AZURES_OWN[setting], ""))


def _azure_vault() -> str:
    """Return the address that Azure's own variable names, if it does."""
    return os.environ.get(AZURES_OWN["key_vault_url"], "")


def _azure_account() -> str:
    """Return the storage account that Azure's own variable names, if it does."""
    return os.environ.get(AZURES_OWN["l2_account"], "")


def _azure_redis() -> tuple[SecretStr, ...]:
    """Return the address that Azure's own variable names, if it does."""
    host = os.environ.get(AZURES_OWN["l2"], "")
    return (SecretStr(f"rediss://{host}"),) if host else ()


Addresses = Annotated[tuple[SecretStr, ...], reported(_addresses), NoDecode, Spelled(spell_addresses)]
Namespace = Annotated[str, reported(_namespace)]
Name = Annotated[str, reported(_name)]
HeaderName = Annotated[str, reported(_header)]
Place = Annotated[Path, reported(parse_place)]
EvictionPolicy = Literal[
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]
"""What a Redis gives up when it is full, redis.io/docs/latest/develop/reference/eviction."""


class CompressionSettings(BaseModel):
    """How stored answers are compressed; `threshold` [bytes] is where it starts to pay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["zstd", "gzip", "none"] = "zstd"
    threshold: Size = 1024
    level: int = Field(default=3, ge=1, le=19)


class IgnoreSettings(BaseModel):
    """What doesn't matter: rules by `names`, own regular expressions, and JSON paths.

    One list, or one text (of JSON, of one rule, of names with commas), stands for rules as ``--ignore`` has them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = Field(default=(), repr=False)
    patterns: tuple[str, ...] = Field(default=(), repr=False)
    paths: tuple[str, ...] = Field(default=(), repr=False)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
            with suppress(ValueError):
                value = json.loads(value)
        if not isinstance(value, str | list | tuple):
            return value
        rules = _rules(value)
        return {
            "names": [rule for rule in rules if not rule.startswith((OWN, "$"))],
            "patterns": [rule.removeprefix(OWN) for rule in rules if rule.startswith(OWN)],
            "paths": [rule for rule in rules if rule.startswith("$")],
        }

    @field_validator("names", "paths", mode="after")
    @classmethod
    def _checked(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _rules(value)

    @field_validator("patterns", mode="after")
    @classmethod
    def _checked_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(rule.removeprefix(OWN) for rule in _rules([f"{OWN}{text}" for text in value]))

    @property
    def rules(self) -> tuple[str, ...]:
        """All of them, as ``--ignore`` has them."""
        return combined(self.names, [f"{OWN}{text}" for text in self.patterns], self.paths)


def _spelled_rules(value: IgnoreSettings) -> str:
    return ", ".join(value.rules)


class RetrySettings(BaseModel):
    """How the queue for the team tries again; `max_attempts` in a row (0: without end), pauses in seconds once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_attempts: int = Field(default=0, ge=0, le=1000)
    backoff: Literal["exponential", "constant"] = "exponential"
    first_pause: Timeout = 0.5
    longest_pause: Timeout = 60.0


class OriginSettings(BaseModel):
    """What is said of one origin: its wire API, and the name under which it is shared.

    A plain text stands for its wire API: ``{"https://llm.example.com/v1": "openai"}``. Nobody writes `circle`: it is
    put in where a project that the user doesn't trust says who shares (`trust.narrowed`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: str = ""
    alias: str = ""
    models: dict[str, str] = Field(default_factory=dict)
    no_store: Literal["obey", "ignore"] = "obey"
    circle: str = Field(default="", repr=False)

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
        hide_input_in_errors=True,  # a traceback is saved with the notebook
    )

    dir: Place = Field(default_factory=lambda: own_directory("cache"), validate_default=True)
    namespace: Namespace = "default"
    mode: Mode = Mode.USE
    ttl: Duration = Field(default=30 * 86_400, validate_default=False)  # a number of seconds only once read
    samples: Samples = Samples.SAME
    run_file: Place | None = None
    budget: Money | None = None
    budget_unknown: MoneyOrNothing | None = None
    semantic: float | None = Field(default=None, ge=LEAST_SEMANTIC, le=1)
    status: Literal["auto", "widget", "static", "off"] = "auto"
    person: Name = Field(default_factory=person_name)
    machine: Name = Field(default_factory=machine_identity)
    encryption: Literal["local", "keyring", "key-vault", "off"] = "local"
    key_file: Place = Field(
        default_factory=lambda: own_directory("config") / "keys" / "default.key",
        validate_default=True,
    )
    key_vault_url: str = Field(default_factory=_azure_vault, repr=False)
    key_vault_credential: Literal["default", "cli", "environment", "managed-identity", "workload-identity"] = "default"
    key_name: str = "cache-key"
    signing_key_name: str = "cache-key-sign"
    verify_challenge: bool = True
    l2: Addresses = Field(default_factory=_azure_redis, repr=False)
    l2_username: str = Field(default="", repr=False)
    l2_password: Secret = Field(default_factory=_of_azure("l2_password"), repr=False)
    l2_connection_string: Secret = Field(default_factory=_of_azure("l2_connection_string"), repr=False)
    l2_account: str = Field(default_factory=_azure_account, repr=False)
    l2_account_key: Secret = Field(default_factory=_of_azure("l2_account_key"), repr=False)
    l2_credential: Literal["auto", "default", "cli", "environment", "managed-identity", "workload-identity"] = "auto"
    l2_ca_file: Place | None = None
    l2_create_container: bool = False
    role: Role | None = None
    network: Annotated[NetworkSettings, Spelled(spelled_network)] = Field(default_factory=NetworkSettings, repr=False)
    connect_timeout: Timeout = Field(default=0.5, validate_default=False)
    command_timeout: Timeout = Field(default=1.5, validate_default=False)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    cdn: CdnSettings = Field(default_factory=CdnSettings, repr=False)
    maxmemory: Size | None = None
    eviction_policy: EvictionPolicy | None = None
    max_stale: Duration | None = None
    offline_trust: Duration = Field(default=86_400, validate_default=False)
    size_limit: Size = Field(default=1024**3, ge=1024**2)
    limits: Annotated[LimitSettings, Spelled(spelled_limits)] = Field(default_factory=LimitSettings, repr=False)
    memory: Size = 32 * 1024**2
    max_response: Size = Field(default=8 * 1024**2, le=32 * 1024**2)
    compression: CompressionSettings = Field(default_factory=CompressionSettings)
    origins: dict[str, OriginSettings] = Field(default_factory=dict)
    extra_headers: frozenset[HeaderName] = frozenset()
    ignore: Annotated[IgnoreSettings, NoDecode, Spelled(_spelled_rules)] = Field(
        default_factory=IgnoreSettings, repr=False
    )
    key_include: frozenset[str] = frozenset()
    monitoring: Annotated[MonitoringSettings, Spelled(MonitoringSettings.in_words)] = Field(
        default_factory=MonitoringSettings
    )
    key_exclude: Annotated[frozenset[str], reported(_without_questions)] = frozenset()

    @field_validator("origins", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any) -> Any:
        # SECURITY: they tell no origin from another, and what isn't kept is never shown.
        return (
            {without_credentials(str(url)): rule for url, rule in value.items()} if isinstance(value, dict) else value
        )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Leave out what would name this host."""
        return ((name, value) for name, value in super().__repr_args__() if name != "machine")

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
        files = [InitSettingsSource(settings_cls, layer.table) for layer in read_layers() if layer.table]
        return (init_settings, env_settings, *files)
