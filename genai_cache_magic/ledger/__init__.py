"""What calls came to: spent, saved, hits and misses, by day."""

from typing import Final

BY: Final = ("day", "model", "provider", "run", "person")
"""What sums may be asked by. It stands here since the grammar of the magic needs it, and nothing else of this room."""
