"""The notebook's surface: the ``%%llm_cache`` magic, the scope of a cell, and what stands under it."""
