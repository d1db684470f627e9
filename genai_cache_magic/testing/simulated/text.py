"""Plain text that a simulated model says, its tokens, and how many there are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_cache_magic.testing.simulated.call import Call

MARK = "[simulated]"
REFUSAL_TEXT = f"{MARK} I'm sorry, but I can't help with that."
CHARS_PER_TOKEN = 4
_ECHO_CHARS = 48
_WORDS_PER_ANSWER = 14
# Several scripts, letters outside the basic plane, and words of more than one token: what breaks a naive stream.
_WORDS = (
    "quiet", "orchard", "naïve", "façade", "Größe", "東京", "counterfactual", "interoperability",
    "Привет", "🙂", "lantern", "thermodynamics", "smörgåsbord", "river", "Ελλάδα", "👩‍🔬",
)  # fmt: skip
_TOKEN = re.compile(r"\s*\S{1,6}|\s+")


def prose(call: Call, subject: str, choice: int = 0) -> str:
    """An answer that names itself simulated, echoes `subject`, and differs for every request and choice."""
    digest = call.digest(f"prose {choice}")
    words = " ".join(_WORDS[byte % len(_WORDS)] for byte in digest[:_WORDS_PER_ANSWER])
    echo = " ".join(subject.split())
    echo = f"{echo[:_ECHO_CHARS]}…" if len(echo) > _ECHO_CHARS else echo
    return f"{MARK} {call.model}, asked “{echo}”, says: {words} ({digest.hex()[:12]})."


def tokens_of(text: str) -> list[str]:
    """`text` in pieces of at most six letters and the space before them; joined they are `text` again."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """Plausible number of tokens: a quarter of the characters, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def count_tokens_of(value: Any) -> int:
    """Plausible number of tokens of a piece of a request: all text in it, at any depth."""
    return -(-_chars(value) // CHARS_PER_TOKEN)


def _chars(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _chars(item) for name, item in value.items())
    if isinstance(value, list):
        return sum(map(_chars, value))
    return 0 if value is None else 1


def text_of(content: Any) -> str:
    """The text in a message's content, be it a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text", part.get("content")) for part in content if isinstance(part, dict))
    return " ".join(text for text in map(text_of, parts) if text)
