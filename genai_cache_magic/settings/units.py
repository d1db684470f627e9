"""Durations and sizes as people write them."""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "b": 1, "kb": 1024, "kib": 1024, "mb": 1024**2, "mib": 1024**2, "gb": 1024**3, "gib": 1024**3}
_STEP = 1024
_TIMEOUT = {"ms": 0.001, "s": 1}
_SHORTEST_TIMEOUT_S, _LONGEST_TIMEOUT_S = 0.001, 60
_SPELLED_S = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
_SPELLED_BYTES = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024), ("B", 1))
_PATTERN = re.compile(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)\s*", re.IGNORECASE)
# Of a Redis nothing follows ? or #; where an @ does, what stands before it is the beginning of a password.
_ADDRESS = re.compile(
    r"(?!redis[^?#]*[?#]\S*@)(?P<scheme>[a-z0-9+.-]+://)(?:[^/?#\s]*@)?"
    r"(?P<place>(?:[\w.-]+|\[[0-9a-f:.]+\])(?::\d+)?(?:/[^/?#@\s]*)*)(?:[?#]\S*)?",
    re.IGNORECASE,
)
_MOST_USD = 1_000_000
MAX_TTL_S = 3650 * 86_400


def parse_duration(text: object, *, name: str = "") -> int:
    """Return a duration [s] written as ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``.

    Raises
    ------
    ConfigurationError
        It is not a duration between 1 s and 10 years, or has no unit: a bare 7 is seconds to one reader and days to
        another. The message names `name`.
    """
    amount = _parse(text, _SECONDS)
    if amount is not None and 1 <= amount <= MAX_TTL_S:
        return int(amount)
    shown = _shown(name, text)
    number = str(text).strip()
    if amount is None and _parse(text, {"": 1}) is not None:
        raise ConfigurationError(f"{shown} has no unit: write {number}s, {number}m, {number}h, {number}d or {number}w")
    raise ConfigurationError(
        f"{shown} is not a duration: write a number and s, m, h, d or w, such as 12h (1s to 3650d)",
    )


def parse_usd(given: object, *, name: str = "", may_be_zero: bool = False) -> Decimal:
    """Return an amount of money [USD] written as ``2``, ``0.50`` or ``$0.50``.

    Raises
    ------
    ConfigurationError
        It is no number, not finite, negative, zero where that means nothing, or more than anybody has; the message
        names `name`.
    """
    amount = None
    if isinstance(given, int | float | str | Decimal) and not isinstance(given, bool):
        with suppress(InvalidOperation):
            amount = Decimal(str(given).strip().removeprefix("$"))
    is_money = amount is not None and amount.is_finite() and 0 <= amount <= _MOST_USD
    if amount is None or not is_money or not (amount or may_be_zero):
        least = "0 or more" if may_be_zero else "above zero"
        raise ConfigurationError(f"{_shown(name, given)}: write an amount in US dollars, {least}, such as 2.00")
    return amount


def spell_usd(amount: Decimal) -> str:
    """Return `amount` [USD] as `parse_usd` reads it."""
    return f"{amount:f}"


def parse_timeout(text: object, *, name: str = "") -> float:
    """Return how long to wait [s], written as ``500ms`` or ``1.5s``.

    Raises
    ------
    ConfigurationError
        It is not between 1 ms and 60 s, or has no unit; the message names `name`.
    """
    amount = _parse(text, _TIMEOUT)
    if amount is None or not _SHORTEST_TIMEOUT_S <= amount <= _LONGEST_TIMEOUT_S:
        raise ConfigurationError(f"{_shown(name, text)} is not a time-out: write a number and ms or s, such as 500ms")
    return amount


def spell_timeout(seconds: float) -> str:
    """Return a time-out [s] as `parse_timeout` reads it."""
    return f"{round(seconds * 1000)}ms" if seconds < 1 else f"{seconds:g}s"


def parse_seconds(value: str | float, *, name: str = "") -> int:
    """Return a duration [s] given in code: a number of seconds, or a text as `parse_duration` reads; raises as it."""
    return parse_duration(value if isinstance(value, str | bool) else f"{value}s", name=name)


def parse_size(text: object, *, name: str = "") -> int:
    """Return a size [bytes] written as ``4096``, ``1kb``, ``8MB`` or ``1GiB`` (all in powers of 1024).

    Raises
    ------
    ConfigurationError
        It is not a size; the message names `name`.
    """
    amount = _parse(text, _BYTES)
    if amount is None:
        raise ConfigurationError(
            f"{_shown(name, text)} is not a size: write a number and kb, mb or gb, such as 1kb or 2gb"
        )
    return int(amount)


def spell_duration(seconds: int) -> str:
    """Return a duration [s] as `parse_duration` reads it, in the largest unit that says it exactly."""
    unit, size = next((unit, size) for unit, size in _SPELLED_S if seconds % size == 0)
    return f"{seconds // size}{unit}"


def spell_secret(secret: SecretStr) -> str:
    """Return whether a secret is set."""
    return "(set)" if secret.get_secret_value() else "none"


def spell_addresses(addresses: tuple[SecretStr, ...]) -> str:
    """Return addresses without their credentials.

    SECURITY: what is no address may be a whole connection string, or a key that was put there by mistake. One that
    has a sign too many in its password is taken apart at another place than its author meant: nothing of it is shown.
    """
    parts = (_ADDRESS.fullmatch(address.get_secret_value()) for address in addresses)
    return ", ".join(f"{one['scheme']}{one['place']}" if one else "(no address)" for one in parts) or "none"


def spell_size(size_bytes: int) -> str:
    """Return a size [bytes] as `parse_size` reads it, in the largest unit that says it exactly."""
    if size_bytes == 0:
        return "0"
    unit, size = next((unit, size) for unit, size in _SPELLED_BYTES if size_bytes % size == 0)
    return f"{size_bytes // size} {unit}"


def rounded_size(size_bytes: int) -> str:
    """Return a size [bytes] for people, in the unit that fits it, to a tenth."""
    amount = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < _STEP:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= _STEP
    return f"{amount:,.1f} TB"


def _parse(text: object, units: Mapping[str, float]) -> float | None:
    match = None if isinstance(text, bool) else _PATTERN.fullmatch(str(text))
    if match is None or match[2].lower() not in units:
        return None
    return float(match[1]) * units[match[2].lower()]


def _shown(name: str, value: object) -> str:
    return f"{name}={value!r}" if name else repr(value)
