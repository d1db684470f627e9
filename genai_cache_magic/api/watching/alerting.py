"""What the command and others ask of alerts: the rules, what is in force on this machine, and whether anybody hears."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.watching.alert_board import in_force
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.monitoring.watching import message_of
from genai_cache_magic.monitoring.webhook import deliver

if TYPE_CHECKING:
    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.settings.monitoring import AlertRule, MonitoringSettings


@dataclass(frozen=True, slots=True)
class Listed:
    """A rule, and whether it is in force in any process of this machine."""

    rule: AlertRule
    is_firing: bool

    def as_json(self) -> dict[str, Any]:
        """Return plain values; the window is in seconds."""
        about = {"name": self.rule.name, "threshold": self.rule.threshold, "window_s": self.rule.window}
        return {**about, "firing": self.is_firing, "says": self.rule.sentence}


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test message; `trouble` says why it was not taken, empty if it was."""

    rule: AlertRule
    text: str = field(repr=False)
    trouble: str = field(default="", repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"name": self.rule.name, "text": self.text, "taken": not self.trouble, "trouble": self.trouble}


def listed(settings: MonitoringSettings, cache: Cache) -> tuple[tuple[Listed, ...], tuple[str, ...]]:
    """Return the rules, and sentences in force of rules that other processes of this machine have."""
    firing = in_force(cache.parts.file)
    rules = tuple(Listed(rule, rule.sentence in firing) for rule in settings.alerts)
    own = {rule.sentence for rule in settings.alerts}
    return rules, tuple(sentence for sentence in firing if sentence not in own)


def tested(settings: MonitoringSettings) -> tuple[Tested, ...]:
    """Send the webhook a message of each rule, one after the other, as an alert would, and say what came of it.

    Raises
    ------
    ConfigurationError
        There are no rules, or there is no webhook.
    """
    url = settings.webhook.get_secret_value()
    if not settings.alerts:
        raise ConfigurationError(
            "there are no alerts to test: set monitoring.alerts, such as "
            '[{name = "HighMissRate", threshold = 0.3, window = "5m"}]'
        )
    if not url:
        raise ConfigurationError(
            "there is no webhook to test: set monitoring.webhook (GENAI_CACHE_MONITORING__WEBHOOK); without one alerts "
            "stand under the cells, in the sidebar and in the log"
        )
    return tuple(_tested(url, rule) for rule in settings.alerts)


def _tested(url: str, rule: AlertRule) -> Tested:
    message = message_of(rule, "test")
    try:
        deliver(url, json.dumps(message).encode())
    except StoreUnavailable as exc:
        return Tested(rule, message["text"], str(exc))
    return Tested(rule, message["text"])
