"""Kinds of values that settings have: how each is read, and how it is written for people."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.units import (
    parse_duration,
    parse_size,
    parse_timeout,
    parse_usd,
    spell_duration,
    spell_secret,
    spell_size,
    spell_timeout,
    spell_usd,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Spelled:
    """How a value is written for people."""

    write: Callable[[Any], str]


def reported(parse: Callable[[Any], Any]) -> BeforeValidator:
    """Let pydantic name the setting: it collects its own kind of error only."""

    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except ConfigurationError as exc:
            raise PydanticCustomError("unit", "{error}", {"error": str(exc)}) from exc

    return BeforeValidator(validate)


Duration = Annotated[int, reported(parse_duration), Spelled(spell_duration)]
Timeout = Annotated[float, reported(parse_timeout), Spelled(spell_timeout)]
Money = Annotated[Decimal, reported(parse_usd), Spelled(spell_usd)]
MoneyOrNothing = Annotated[Decimal, reported(partial(parse_usd, may_be_zero=True)), Spelled(spell_usd)]
Size = Annotated[int, reported(parse_size), Spelled(spell_size)]
Secret = Annotated[SecretStr, Spelled(spell_secret)]
