"""Watches for alerts in one process: counts what calls tell, and says each change once, to the log and to a webhook."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic import host
from genai_cache_magic.events import CallRecord, Event, Trouble
from genai_cache_magic.monitoring.alerts import Change, RuleState
from genai_cache_magic.monitoring.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.monitoring.tiers import Tiers
    from genai_cache_magic.settings.monitoring import AlertRule

LOG: Final = logging.getLogger("genai_cache_magic.alerts")
# Where nobody has set logging up, Python would print warnings into the output of whatever cell runs.
LOG.addHandler(logging.NullHandler())

WHERE: Final = "alerts"
_MOST_WAITING: Final = 100_000
_SAY_AGAIN_S: Final = 20.0
"""How often is said anew what is in force, where others look [s]."""


class AlertWatch:
    """The rules of one process. Safe to share between threads.

    Parameters
    ----------
    rules
        What is watched for.
    tiers
        How the team's tiers are.
    webhook
        Is told of changes; None: nobody is.
    publish
        Called with the sentences in force, and for how long they are good [s], when that changes and now and then.
    clock
        Seconds that never run backwards, and go on while the machine sleeps: what was before is not of this window.
    """

    def __init__(
        self,
        rules: Sequence[AlertRule],
        *,
        tiers: Tiers = tuple,
        webhook: Webhook | None = None,
        publish: Callable[[tuple[str, ...], float], None] = lambda _, __: None,
        clock: Callable[[], float] = host.seconds_awake_or_asleep,
    ) -> None:
        self.longest_window_s = max((rule.window for rule in rules), default=0)
        self._rules = tuple(rules)
        self._tiers = tiers
        self._webhook = webhook
        self._publish = publish
        self._clock = clock
        self._lock = host.process_lock()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was seen: a forked child has seen nothing."""
        with self._lock:
            self._states = [RuleState(rule) for rule in self._rules]  # guarded by _lock, like the next
            self._published: tuple[tuple[str, ...], float] = ((), 0.0)
            self._waiting: deque[tuple[float, Event]] = deque(maxlen=_MOST_WAITING)

    def note(self, event: Event) -> None:
        """Count `event`, soon; costs a place in a list."""
        if isinstance(event, CallRecord) or event.where != WHERE:
            self._waiting.append((self._clock(), event))

    def look(self) -> tuple[str, ...]:
        """Count what was noted, look at the tiers, tell what has changed; return the sentences that are in force."""
        tiers = self._tiers()
        with self._lock:
            self._count()
            now_s = self._clock()
            for state in self._states:
                state.look(tiers, now_s)
            changes = [change for state in self._states if (change := state.decide(now_s)) is not None]
            sentences = self._in_force()
            is_due = bool(sentences) and now_s - self._published[1] >= _SAY_AGAIN_S
            is_due = is_due or sentences != self._published[0]
            if is_due:
                self._published = sentences, now_s
        for change in changes:
            self._tell(change)
        if is_due:
            self._publish(sentences, 3 * _SAY_AGAIN_S)
        return sentences

    def finish(self, *, within_s: float) -> None:
        """Look once more, and wait for the webhook to hear of it, for `within_s` [s] at most."""
        self.look()
        if self._webhook is not None:
            self._webhook.finish(within_s=within_s)

    @property
    def is_firing(self) -> bool:
        """Whether any alert is in force."""
        with self._lock:
            return bool(self._in_force())

    def _count(self) -> None:
        with suppress(IndexError):  # others put on while this takes off
            while True:
                at_s, event = self._waiting.popleft()
                for state in self._states:
                    state.note(event, at_s)

    def _in_force(self) -> tuple[str, ...]:
        return tuple(state.rule.sentence for state in self._states if state.since_s is not None)

    def _tell(self, change: Change) -> None:
        if change.is_firing:
            LOG.warning("%s", change.rule.sentence)
        else:
            LOG.info("ended: %s", change.rule.sentence)
        if self._webhook is not None:
            self._webhook.post(message_of(change.rule, "firing" if change.is_firing else "ended", change.value))


def message_of(rule: AlertRule, state: str, value: float | None = None) -> dict[str, Any]:
    """Return what a webhook is told: numbers and our own words. SECURITY: nothing that a user or a server named."""
    said = rule.sentence if state == "firing" else f"{state}: {rule.sentence}"
    return {
        "source": "genai-cache",
        "alert": rule.name,
        "state": state,
        "threshold": rule.threshold,
        "window_s": rule.window,
        "value": value,
        "text": f"genai-cache {said}",
    }


def webhook_of(url: str, tell: Callable[[Trouble], None]) -> Webhook | None:
    """Return the webhook at `url`, None if that is empty; that it can't be told is told once, until it can be again."""
    if not url:
        return None
    is_down = False

    def failed(reason: str) -> None:
        nonlocal is_down
        if not is_down:
            is_down = True
            sentence = (
                f"{reason}, so nobody there hears of alerts: check monitoring.webhook, try genai-cache alerts test"
            )
            LOG.warning("%s", sentence)
            tell(Trouble(WHERE, "WebhookFailed", sentence))

    def worked() -> None:
        nonlocal is_down
        is_down = False

    return Webhook(url, failed=failed, worked=worked)
