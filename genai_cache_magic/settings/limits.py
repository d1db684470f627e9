"""How much room answers should take, beyond what a disk or a server gives them: told, and not enforced."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from genai_cache_magic.settings.kinds import Size  # noqa: TC001 - pydantic reads it
from genai_cache_magic.settings.units import spell_size


class LimitSettings(BaseModel):
    """How much a namespace should take in a `container`, and in each tier what carries a tag or comes from a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    container: Size | None = Field(default=None, repr=False)
    tags: dict[str, Size] = Field(default_factory=dict, repr=False)
    models: dict[str, Size] = Field(default_factory=dict, repr=False)

    def by_name(self) -> dict[tuple[str, str], int]:
        """Return the limits of tags and models [bytes], by kind and name, as holdings have them."""
        tags = {("tag", name): limit for name, limit in self.tags.items()}
        return tags | {("model", name): limit for name, limit in self.models.items()}


def spelled_limits(value: LimitSettings) -> str:
    """Return the settings as people read them; empty where nothing is limited."""
    parts = [] if value.container is None else [f"container {spell_size(value.container)}"]
    return ", ".join(
        [*parts, *(f"{kind} {name} {spell_size(limit)}" for (kind, name), limit in value.by_name().items())]
    )
