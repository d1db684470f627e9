"""What is counted for other tools, where it goes, and which alerts are watched for."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.kinds import Duration, Secret, reported
from genai_cache_magic.settings.units import parse_duration, spell_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

METRICS: Final = (
    *(
        "hits",
        "similar",
        "misses",
        "stale",
        "refused",
        "errors",
        "bypassed",
        "latency",
        "tokens",
        "money",
        "queue",
        "breaker",
    ),
    "troubles",
)
"""What can be counted."""

_SHORTEST_WINDOW_S, _LONGEST_WINDOW_S = 10, 86_400
_LISTEN: Final = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?")
_HIGHEST_PORT: Final = 65_535
_MOST_PORTS: Final = 100


@dataclass(frozen=True, slots=True)
class AlertKind:
    """What an alert is about.

    Attributes
    ----------
    threshold, window
        Where none is written.
    unit
        What the threshold is in.
    most
        The highest threshold that means anything; None: any.
    says
        The sentence while it is in force, with ``{threshold}`` and ``{window}``.
    """

    threshold: float
    window: str
    unit: str
    says: str
    most: float | None = None


ALERTS: Final[Mapping[str, AlertKind]] = MappingProxyType(
    {
        "HighMissRate": AlertKind(
            0.3, "5m", "part of the calls", "more than {threshold:.0%} of the calls of the last {window} were misses", 1
        ),
        "HighCost": AlertKind(
            10, "1h", "USD per hour", "calls cost more than ${threshold:,g} per hour, in the last {window}"
        ),
        "L2Offline": AlertKind(
            0.5,
            "1m",
            "part of the window",
            "the team tier was away for more than {threshold:.0%} of the last {window}",
            1,
        ),
        "QueueGrowing": AlertKind(
            100,
            "10m",
            "more entries and invalidations than before",
            "over {threshold:,.0f} more than before wait to be told to the team, in the last {window}",
        ),
        "DecryptionFailures": AlertKind(
            0, "5m", "failures", "stored answers could not be opened, more than {threshold:,.0f} in the last {window}"
        ),
    }
)
"""Name -> what it is about."""


def _window(value: Any) -> int:
    window_s = value if type(value) is int else parse_duration(value)
    if not _SHORTEST_WINDOW_S <= window_s <= _LONGEST_WINDOW_S:
        raise ConfigurationError(f"{value!r} is no window: write a duration between 10s and 24h, such as 5m")
    return window_s


def _name(value: Any) -> str:
    if value in ALERTS:
        return str(value)
    close = difflib.get_close_matches(str(value), ALERTS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(ALERTS)}"
    raise ConfigurationError(f"{value!r} is no alert: {hint}")


class AlertRule(BaseModel):
    """When somebody is to be told: a value of `name` above `threshold`, seen over `window` [s].

    A name alone stands for a rule with the threshold and the window of its kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, reported(_name)]
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    window: Annotated[int, reported(_window)]

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, value: Any) -> Any:
        given = {"name": value} if isinstance(value, str) else value
        kind = ALERTS.get(str(given.get("name"))) if isinstance(given, dict) else None
        return given if kind is None else {"threshold": kind.threshold, "window": kind.window, **given}

    @model_validator(mode="after")
    def _means_something(self) -> AlertRule:
        most = ALERTS[self.name].most
        if most is not None and self.threshold >= most:
            raise ValueError(f"a threshold of {self.name} is a part, below 1, such as 0.3")
        return self

    @property
    def sentence(self) -> str:
        """What is said while it is in force; no number that was measured, so that two equal runs say the same."""
        says = ALERTS[self.name].says.format(threshold=self.threshold, window=spell_duration(self.window))
        return f"alert {self.name}: {says}"

    @property
    def in_words(self) -> str:
        """The rule in a few words."""
        return f"{self.name} above {self.threshold:g} over {spell_duration(self.window)}"


def _rules(value: Any) -> Any:
    """Return rules that were given as a list, or in one text: of JSON, or of names with commas between."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith(("[", "{")):
        try:
            found = json.loads(value)
        except ValueError as exc:
            raise ConfigurationError(
                'the alerts are no JSON: write [{"name": "HighMissRate", "threshold": 0.3, "window": "5m"}]'
            ) from exc
        return [found] if isinstance(found, dict) else found
    return [name.strip() for name in value.split(",") if name.strip()]


def _names(value: Any) -> Any:
    """Return names given as a list, or as one text that parts them by commas."""
    names = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    for name in names if isinstance(names, list | tuple) else ():
        if name not in METRICS:
            close = difflib.get_close_matches(str(name), METRICS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"write some of {', '.join(METRICS)}"
            raise ConfigurationError(f"{name!r} is not counted: {hint}")
    return names


def _listen(value: Any) -> Any:
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    first = int(match["first"]) if match else -1
    last = int(match["last"] or first) if match else -1
    if not (0 <= first <= last <= _HIGHEST_PORT and last - first < _MOST_PORTS):
        raise ConfigurationError(
            f"{value!r} is no place to listen: write an address and a port, or the first and the last of some, "
            "such as 127.0.0.1:9464 or 127.0.0.1:9464-9473"
        )
    return value


def listening(value: str) -> tuple[str, range]:
    """Return the address and the ports of a `listen` that was checked."""
    match = _LISTEN.fullmatch(value)
    assert match is not None
    return match["host"].strip("[]"), range(int(match["first"]), int(match["last"] or match["first"]) + 1)


def _webhook(value: Any) -> Any:
    # SECURITY: never shown, since who may write to a channel is often decided by the address alone.
    url = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(url, str) and url not in ("", "none"):
        check_webhook(url)
    return "" if url == "none" else url


def check_webhook(url: str) -> None:
    """Raise ``ConfigurationError`` unless `url` is of https, or of http on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    has_credentials = parts.username is not None or parts.password is not None
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not is_safe or has_credentials or not url.isascii() or any(c.isspace() for c in url):
        raise ConfigurationError(
            "the webhook of the alerts is no address that may be told: write https://..., or http:// with a name of "
            "this machine (127.0.0.1), without a user and a password in it"
        )


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine under its own name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _endpoint(value: Any) -> Any:
    if isinstance(value, str) and value:
        try:
            parts = urlsplit(value)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        except ValueError:
            is_url = False
        if not is_url:
            raise ConfigurationError(
                "this is no address of a collector: write such as http://127.0.0.1:4318, without a user in it"
            )
    return value


class MonitoringSettings(BaseModel):
    """Where numbers go, which of them, and the alerts; `interval` and windows [s] once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    exporter: Literal["none", "app", "otlp", "prometheus", "azure-monitor"] = "none"
    metrics: Annotated[tuple[str, ...], reported(_names), NoDecode] = METRICS
    spans: bool = True
    endpoint: Annotated[str, reported(_endpoint)] = Field(default="", repr=False)
    listen: Annotated[str, reported(_listen)] = "127.0.0.1:9464-9473"
    connection_string: Secret = Field(default=SecretStr(""), repr=False)
    interval: Duration = Field(default=60, validate_default=False)
    alerts: Annotated[tuple[AlertRule, ...], reported(_rules), NoDecode] = ()
    webhook: Annotated[Secret, reported(_webhook)] = Field(default=SecretStr(""), repr=False)

    @property
    def is_on(self) -> bool:
        """Whether anything is to be counted at all."""
        return self.exporter != "none" or bool(self.alerts)

    def in_words(self) -> str:
        """Return what is on, in a few words; empty if nothing is."""
        parts = [] if self.exporter == "none" else [f"to {self.exporter}"]
        parts += [rule.in_words for rule in self.alerts]
        parts += ["a webhook is told"] if self.webhook.get_secret_value() else []
        return "; ".join(parts)
