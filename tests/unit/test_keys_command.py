"""`genai-cache keys`: made, adopted, rotated, rewrapped, revoked and trusted, over the vault of a team and alone."""

from __future__ import annotations

import itertools
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.api.team import custody
from genai_cache_magic.api.team.keysets import keyset_of
from genai_cache_magic.cli.main import main
from genai_cache_magic.crypto.held_keys import HeldKeys
from genai_cache_magic.crypto.wrappers import azure_vault_client
from genai_cache_magic.errors import DecryptionError, KeyUnavailable
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.testing.azure.roles import Role


@pytest.fixture
def keys(capsys):
    """Run `genai-cache keys ...`, and return its exit code and what it said."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(["keys", *words])
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture
def sealed(isolated, vault, monkeypatch):
    """An administrator's machine, and a vault that has no keys yet."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "key-vault")
    monkeypatch.setenv("GENAI_CACHE_KEY_VAULT_URL", vault.url)
    monkeypatch.setattr(custody, "_held", HeldKeys())
    monkeypatch.setattr(azure_vault_client, "KEY_BITS", 2048)  # quicker to make
    return vault


def get(name="name"):
    with create_cache("disk") as cache:
        return cache.get(name)


def put(value, name="name"):
    with create_cache("disk") as cache:
        cache.set(name, value)


def test_init_makes_the_keys_and_the_keyset_once(sealed, keys):
    """The second time what is there is adopted; each key is made for what it does, and nothing else."""
    code, out, err = keys("init")
    assert (code, err) == (0, "")
    assert "made key cache-key in" in out
    assert "made key cache-key-sign in" in out
    assert "made the keyset" in out
    put("kept")
    code, out, _ = keys("init")
    assert (code, "adopted" in out, "made key" in out) == (0, True, False)
    assert get() == "kept"
    assert sealed.count("create") == 2


def test_init_says_which_rights_are_missing_and_how_they_are_granted(sealed, identity, keys):
    """A member of the team may not sign: the keyset is adopted if it is there, and named as missing if not."""
    sealed.revoke(identity.principal)
    code, _, err = keys("init")
    assert code == 2
    assert "Key Vault Crypto Service Encryption User" in err
    sealed.create_key("cache-key", key_ops=["wrapKey", "unwrapKey"])
    sealed.create_key("cache-key-sign", key_ops=["sign", "verify"])
    sealed.grant(identity.principal, Role.CRYPTO_SERVICE_ENCRYPTION_USER)
    code, _, err = keys("init")
    assert (code, 'az role assignment create --role "Key Vault Crypto User"' in err) == (2, True)
    with pytest.raises(KeyUnavailable, match="genai-cache keys init"):
        get()
    sealed.grant(identity.principal, Role.CRYPTO_USER)
    assert keys("init")[0] == 0
    sealed.revoke(identity.principal)
    sealed.grant(identity.principal, Role.CRYPTO_SERVICE_ENCRYPTION_USER)
    code, out, err = keys("init")
    assert (code, "adopted" in out, "not allowed" in err) == (0, True, True)
    put("a member stores")
    assert get() == "a member stores"


@pytest.mark.parametrize("encryption", ["local", "key-vault"])
def test_rotation_rewrites_nothing_and_revocation_makes_misses(sealed, keys, monkeypatch, isolated, encryption):
    """What an epoch sealed opens after a rotation, and is lost when that epoch is revoked; ids stay as they are."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", encryption)
    keys("init")
    put("of epoch 1", "first")
    with create_cache("disk") as cache:
        store = cache._entries.store
        before = {key: store.get(key) for key in store.scan()}
    assert keys("rotate")[0] == 0
    put("of epoch 2", "second")
    with create_cache("disk") as cache:
        assert all(cache._entries.store.get(key) == blob for key, blob in before.items())
    assert (get("first"), get("second")) == ("of epoch 1", "of epoch 2")
    code, _, err = keys("revoke", "1")
    assert (code, "--yes" in err) == (2, True)
    assert keys("revoke", "1", "--yes")[0] == 0
    told = []
    with create_cache("disk", on_event=told.append) as cache:
        assert cache.get("first") is None
    assert any("its epoch was revoked" in event.message for event in told)
    assert (get("first"), get("second")) == (None, "of epoch 2")
    code, _, err = keys("revoke", "1", "--yes")
    assert (code, "there are 2" in err) == (2, True)
    said = keys("revoke", "2", "--yes")[1]
    assert "epoch 3 seals" in said
    assert "genai-cache gc" in said
    assert get("second") is None
    with create_cache("disk") as cache:
        cache.collect()
        assert cache.stats().entries == 0
    code, out, _ = keys("status")
    assert code == 0
    for words in ("seals with epoch", "revoked epochs", "1, 2", "4, the highest seen here 4"):
        assert words in out


def test_a_keyset_that_was_put_back_is_refused(sealed, keys, isolated, monkeypatch):
    """With it the keys that were revoked would come back: the machine remembers the highest version."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "local")
    keys("init")
    (path,) = (isolated / "cache").glob("v1/*/keyset")
    old = path.read_bytes()
    keys("rotate")
    path.write_bytes(old)
    with pytest.raises(DecryptionError, match="rolled back"):
        get()
    code, _, err = keys("status")
    assert (code, "rolled back" in err) == (2, True)


def test_rewrap_takes_the_current_versions(sealed, keys):
    """After the vault's key was rotated: the old version can be disabled then."""
    keys("init")
    put("kept")
    old = sealed.rotate_key("cache-key")
    code, out, _ = keys("rewrap")
    assert (code, old.rpartition("/")[2] in out) == (0, True)
    assert get() == "kept"


def test_rewrap_hands_a_namespace_to_another_guard(sealed, keys, monkeypatch):
    """From a key file to the vault: what was sealed before opens, and the key file opens nothing any more."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "local")
    put("kept")
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "key-vault")
    with pytest.raises(KeyUnavailable, match="GENAI_CACHE_ENCRYPTION=local"):
        get()
    sealed.create_key("cache-key", key_ops=["wrapKey", "unwrapKey"])
    sealed.create_key("cache-key-sign", key_ops=["sign", "verify"])
    assert keys("rewrap")[0] == 0
    assert get() == "kept"
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "local")
    with pytest.raises(KeyUnavailable, match="GENAI_CACHE_ENCRYPTION=key-vault"):
        get()


def test_a_changed_signer_is_trusted_by_command(sealed, keys, isolated, monkeypatch):
    """Until then nothing is used on this machine; the command shows both fingerprints."""
    keys("init")
    put("kept")
    sealed.rotate_key("cache-key-sign")
    code, out, err = keys("rewrap")
    assert (code, "new version" in out, "--yes" in err) == (2, True, True)
    assert get() == "kept"
    known = isolated / "cache" / "known-keys"
    shutil.copytree(known, isolated / "known")
    assert keys("rewrap", "--yes")[0] == 0
    assert get() == "kept"
    shutil.rmtree(known)
    (isolated / "known").rename(known)  # a machine that was told nothing
    monkeypatch.setattr(custody, "_held", HeldKeys())
    with pytest.raises(KeyUnavailable, match="keys trust"):
        get()
    code, out, err = keys("trust")
    assert (code, "trusted so far" in out, "signs now" in out, "--yes" in err) == (2, True, True, True)
    with pytest.raises(KeyUnavailable, match="keys trust"):
        get()
    assert keys("trust", "--yes")[0] == 0
    assert get() == "kept"
    assert "trusted already" in keys("trust")[1]


def test_public_keys_are_shown_and_private_ones_stay(sealed, keys):
    """As PEM, with the version of each; a vault's key can't be exported, and there is no local one to show."""
    keys("init")
    code, out, _ = keys("export-public")
    assert code == 0
    assert out.count("-----BEGIN PUBLIC KEY-----") == 2
    for words in (["export"], ["show"]):
        code, _, err = keys(*words)
        assert (code, "never leaves it" in err) == (2, True)


def test_a_local_key_has_no_signer_to_trust(isolated, keys):
    """Commands about a vault say so."""
    keys("init")
    for words in (["trust"], ["export-public"]):
        code, _, err = keys(*words)
        assert (code, "key-vault" in err) == (2, True)


def test_the_keyring_of_the_system_is_looked_after_too(isolated, os_keyring, keys, monkeypatch):
    """`show`, `export` and `import` go where the key lies."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "keyring")
    assert keys("init")[0] == 0
    line = keys("export")[1]
    shown = keys("show")[1]
    assert "keyring: cache-key" in shown
    os_keyring.passwords.clear()
    (isolated / "line").write_text(line)
    with (isolated / "line").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert keys("import")[1] == shown


def test_plain_text_that_is_left_is_told(isolated, keys, monkeypatch):
    """It is neither used nor taken over silently."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    put("plain")
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "local")
    code, _, err = keys("init")
    assert (code, "GENAI_CACHE_ENCRYPTION=off genai-cache clear" in err) == (0, True)
    assert get() is None


def test_without_encryption_there_are_no_keys(isolated, keys, monkeypatch):
    """Every command about them says what to set."""
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    for words in (["init"], ["status"], ["rotate"], ["rewrap"], ["revoke", "1", "--yes"]):
        code, _, err = keys(*words)
        assert (code, "GENAI_CACHE_ENCRYPTION" in err) == (2, True)


def test_looking_makes_no_key(isolated, keys):
    """`status` and the commands that change a keyset say that there is none; only `init` makes one."""
    for words in (["status"], ["rotate"], ["rewrap"], ["revoke", "1", "--yes"]):
        assert keys(*words)[0] == 2
    assert not (isolated / "keys").exists()
    assert keys("init")[0] == 0
    assert (isolated / "keys" / "default.key").exists()


def test_two_administrators_at_once_lose_no_change(isolated, keys):
    """Each change is a compare-and-swap: who comes second makes theirs from the first one's."""
    keys("init")
    start = threading.Barrier(2)

    def rotate(_):
        with keyset_of(load_settings(), "default") as keyset:
            start.wait(30)
            return keyset.rotate().epoch

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(rotate, range(2))) == 3
    with keyset_of(load_settings(), "default") as keyset:
        found = keyset.status()
    assert (found.epochs, found.version) == ((1, 2, 3), 3)


@pytest.mark.parametrize(("step", "nth"), [("load", 1), ("load", 2), ("load", 3), ("replace", 1)])
def test_what_another_administrator_changes_meanwhile_stays(isolated, keys, monkeypatch, step, nth):
    """Whenever it is: between reading, changing and remembering the keyset too."""
    keys("init")
    with keyset_of(load_settings(), "default") as ours, keyset_of(load_settings(), "default") as theirs:
        own, calls = getattr(ours._document, step), itertools.count(1)

        def then_theirs(*given, **how):
            done = own(*given, **how)
            if next(calls) == nth:
                theirs.rotate()
            return done

        monkeypatch.setattr(ours._document, step, then_theirs)
        ours.rotate()
        assert ours.status().epochs == (1, 2, 3)
