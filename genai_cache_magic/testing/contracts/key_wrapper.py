"""What every ``KeyWrapper`` promises, as tests to inherit: subclass, override ``wrapper``, ``again`` and ``other``."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from genai_cache_magic.errors import DecryptionError, KeyUnavailable

if TYPE_CHECKING:
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper

_SECRET = bytes(range(32))
_CONTEXT = b"genai-cache-magic/keyset/v1/namespace-key\x00team"
_MAX_BYTES = 1024
_REFUSED = (KeyUnavailable, DecryptionError)


class KeyWrapperContract:
    """Inherit and override the three fixtures."""

    @pytest.fixture
    def wrapper(self) -> KeyWrapper:
        """Return a wrapper whose keys can be used; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `wrapper`")

    @pytest.fixture
    def again(self, wrapper: KeyWrapper) -> KeyWrapper:
        """Return the same keys as another process would have them."""
        return wrapper

    @pytest.fixture
    def other(self) -> KeyWrapper:
        """Return a wrapper of the same kind with other keys; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `other`")

    def test_what_is_wrapped_is_unwrapped(self, wrapper: KeyWrapper, again: KeyWrapper) -> None:
        """Another process with the same keys gets the secret back, which can't be seen in what is stored."""
        wrapped = wrapper.wrap(_SECRET, _CONTEXT)
        assert again.unwrap(wrapped, _CONTEXT, key_id=wrapper.key_id) == _SECRET
        assert _SECRET not in wrapped
        assert len(wrapped) <= _MAX_BYTES

    def test_no_two_wrappings_are_equal(self, wrapper: KeyWrapper) -> None:
        """Who compares two stored values does not learn whether they hold one secret."""
        assert wrapper.wrap(_SECRET, _CONTEXT) != wrapper.wrap(_SECRET, _CONTEXT)

    def test_a_wrapping_is_bound_to_its_context(self, wrapper: KeyWrapper) -> None:
        """It can't be unwrapped as anything else."""
        wrapped = wrapper.wrap(_SECRET, _CONTEXT)
        for context in (b"", _CONTEXT[:-1], _CONTEXT + b"2"):
            with pytest.raises(_REFUSED):
                wrapper.unwrap(wrapped, context, key_id=wrapper.key_id)

    def test_damage_is_refused(self, wrapper: KeyWrapper) -> None:
        """What was changed, cut or lengthened is no wrapping and no signature."""
        wrapped, signature = wrapper.wrap(_SECRET, _CONTEXT), wrapper.sign(b"data")
        for damage in (lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b[:-1], lambda b: b + b"\0", lambda _: b""):
            with pytest.raises(_REFUSED):
                wrapper.unwrap(damage(wrapped), _CONTEXT, key_id=wrapper.key_id)
            with pytest.raises(_REFUSED):
                wrapper.verify(b"data", damage(signature), key_id=wrapper.signing_key_id)

    def test_what_is_signed_is_verified(self, wrapper: KeyWrapper, again: KeyWrapper) -> None:
        """By another process with the same keys, for the very same bytes."""
        signature = wrapper.sign(b"data")
        assert len(signature) <= _MAX_BYTES
        again.verify(b"data", signature, key_id=wrapper.signing_key_id)
        with pytest.raises(DecryptionError):
            again.verify(b"date", signature, key_id=wrapper.signing_key_id)

    def test_other_keys_open_nothing(self, wrapper: KeyWrapper, other: KeyWrapper) -> None:
        """Neither by their own name nor by that of the keys that were used."""
        wrapped, signature = wrapper.wrap(_SECRET, _CONTEXT), wrapper.sign(b"data")
        assert wrapper.fingerprint != other.fingerprint
        for names in (wrapper, other):
            with pytest.raises(_REFUSED):
                other.unwrap(wrapped, _CONTEXT, key_id=names.key_id)
            with pytest.raises(_REFUSED):
                other.verify(b"data", signature, key_id=names.signing_key_id)

    def test_data_choose_no_other_key(self, wrapper: KeyWrapper) -> None:
        """An id that names another key, place or nothing is refused, whatever stands beside it."""
        wrapped, signature = wrapper.wrap(_SECRET, _CONTEXT), wrapper.sign(b"data")
        for key_id in ("", "x", f"{wrapper.key_id}/..", f"https://elsewhere.example/keys/{wrapper.key_id}", "local:0"):
            with pytest.raises(KeyUnavailable):
                wrapper.unwrap(wrapped, _CONTEXT, key_id=key_id)
            with pytest.raises(KeyUnavailable):
                wrapper.verify(b"data", signature, key_id=key_id)

    def test_names_fit_a_manifest(self, wrapper: KeyWrapper, again: KeyWrapper) -> None:
        """Kind, ids and fingerprint are graphic ASCII within their bounds, and the same for all who have the keys."""
        bounds = {"kind": 32, "key_id": 512, "fingerprint": 64, "signature_algorithm": 32, "signing_key_id": 512}
        for name, most in bounds.items():
            value = getattr(wrapper, name)
            assert value == getattr(again, name)
            assert value.isascii()
            assert value.isprintable()
            assert " " not in value
            assert 1 <= len(value) <= most
        assert wrapper.remedy

    def test_many_threads_share_it(self, wrapper: KeyWrapper) -> None:
        """Each gets its own secret back."""
        secrets = [bytes([number]) * 32 for number in range(8)]
        with ThreadPoolExecutor(len(secrets)) as pool:
            wrapped = list(pool.map(lambda secret: wrapper.wrap(secret, _CONTEXT), secrets))
            opened = pool.map(lambda blob: wrapper.unwrap(blob, _CONTEXT, key_id=wrapper.key_id), wrapped)
        assert list(opened) == secrets

    def test_it_shows_and_hands_on_no_secret(self, wrapper: KeyWrapper) -> None:
        """Neither its repr nor the message of a refusal holds the secret, and it can't be pickled or copied."""
        with pytest.raises(_REFUSED) as caught:
            wrapper.unwrap(_SECRET + bytes(64), _CONTEXT, key_id=wrapper.key_id)
        for text in (repr(wrapper), str(caught.value)):
            assert _SECRET.hex() not in text
            assert repr(_SECRET) not in text
        for hand_on in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                hand_on(wrapper)
