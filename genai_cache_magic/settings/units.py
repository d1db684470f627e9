"""Durations and sizes as people write them."""

from __future__ import annotations

import re

from genai_cache_magic.errors import ConfigurationError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "b": 1, "kb": 1024, "kib": 1024, "mb": 1024**2, "mib": 1024**2, "gb": 1024**3, "gib": 1024**3}
_PATTERN = re.compile(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)\s*", re.IGNORECASE)
MAX_TTL_S = 3650 * 86_400


def parse_duration(text: str | float, *, name: str = "") -> int:
    """Return a duration [s] written as ``90``, ``90s``, ``15m``, ``12h``, ``30d`` or ``2w``.

    Raises
    ------
    ConfigurationError
        It is not a duration between 1 s and 10 years; the message names `name`.
    """
    amount = _parse(text, _SECONDS)
    if amount is None or not 1 <= amount <= MAX_TTL_S:
        raise ConfigurationError(
            f"{_shown(name, text)} is not a duration: write a number and s, m, h, d or w, such as 12h (1s to 3650d)",
        )
    return int(amount)


def parse_size(text: str | float, *, name: str = "") -> int:
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


def _parse(text: str | float, units: dict[str, int]) -> float | None:
    match = None if isinstance(text, bool) else _PATTERN.fullmatch(str(text))
    if match is None or match[2].lower() not in units:
        return None
    return float(match[1]) * units[match[2].lower()]


def _shown(name: str, value: object) -> str:
    return f"{name}={value!r}" if name else repr(value)
