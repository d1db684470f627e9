"""The audit: each rule finds what it is for, tells of nothing where all is well, and changes nothing by looking."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from audits import DAY_S, rules_found, used_cache  # noqa: F401 - fixtures
from certificates import make_certificate
from memory_vault import machine, ready_vault

from genai_cache_magic import create_cache
from genai_cache_magic.ops import audit_keys, audit_tier
from genai_cache_magic.ops.audit_rules import RULES
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.runs.lines import HEAD
from genai_cache_magic.settings.files import read_for_trust
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.settings.trust import TrustedFiles, digest_of
from genai_cache_magic.stores.certificates import Seen
from genai_cache_magic.testing.servers import free_port


def test_nothing_is_found_where_all_is_well(found, isolated):
    """A new machine, and one that is used as it should be, have nothing to do; looking makes nothing."""
    assert found() == {}
    assert not (isolated / "cache").exists()
    assert not (isolated / "keys").exists()
    with create_cache() as cache:
        cache.set("a", 1)
    assert found() == {}


def test_an_old_keyset(found, used):
    """What was not rotated for a year is told with the command that does it."""
    keyset = used / "v1" / "default" / "keyset"
    os.utime(keyset, (time.time() - 400 * DAY_S,) * 2)
    assert "400 days ago" in found()["KeyRotationDue"].says
    assert "keys rotate" in found()["KeyRotationDue"].says


@pytest.mark.parametrize(("left_s", "severity"), [(10 * DAY_S, Severity.WARNING), (-1, Severity.ERROR)])
def test_a_key_of_a_vault_that_expires(found, isolated, monkeypatch, left_s, severity):
    """A vault's key is told of a month before its end, and as an error behind it."""

    class Key:
        name = "cache-key"
        expires = time.time() + left_s

    class Wrapper:
        def current(self):
            return (Key, Key)

    monkeypatch.setattr(audit_keys, "vault_wrapper", lambda _: Wrapper())
    monkeypatch.setattr(audit_tier, "examined", lambda *_, **__: Seen(None))
    told = found(encryption="key-vault", key_vault_url="https://lab.vault.azure.net")
    assert told["KeyExpires"].severity is severity
    assert "keys rewrap" in told["KeyExpires"].says


def test_a_vault_whose_keys_are_good(found, isolated, monkeypatch):
    """Nothing is told of keys without an end."""
    vault = ready_vault()
    monkeypatch.setattr(audit_keys, "vault_wrapper", lambda _: machine(vault, isolated / "known"))
    monkeypatch.setattr(audit_tier, "examined", lambda *_, **__: Seen(None))
    assert "KeyExpires" not in found(encryption="key-vault", key_vault_url="https://lab.vault.azure.net")


def test_plain_text(found, used):
    """That encryption is off is an error, and so is what lies there from then."""
    assert found(encryption="off")["EncryptionOff"].severity is Severity.ERROR
    with create_cache(encryption="off") as cache:
        cache.set("b", 2)
    told = found(encryption="local")["UnsealedLeftover"]
    assert told.where == str(used / "v1" / "default" / "plain")
    assert "genai-cache clear" in told.says
    (used / "v1" / "default").rename(used / "v1" / "a; b")
    assert "--namespace 'a; b'`" in found(encryption="local")["UnsealedLeftover"].says


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
class TestRights:
    """Whatever others may use is told, with the command that mends it."""

    @pytest.mark.parametrize("which", ["v1/default/l1/cache.db", "v1", "v1/default/keyset", ""])
    def test_in_the_cache(self, found, used, which):
        """Files and directories alike, at any depth."""
        path = used / which
        path.chmod(path.stat().st_mode | 0o040)
        told = found()["RightsTooWide"]
        assert told.where == str(path)
        assert f"chmod -R go-rwx {path}" in told.says

    def test_the_key(self, found, used, isolated):
        """A key that others may read is another's."""
        path = isolated / "keys" / "default.key"
        path.chmod(0o644)
        assert found()["RightsTooWide"].where == str(path)

    def test_the_users_own_file(self, found, isolated):
        """It may be read, and written by nobody else."""
        path = isolated / "home" / "genai-cache" / "config.toml"
        path.parent.mkdir()
        path.write_text("")
        path.chmod(0o644)
        assert "RightsTooWide" not in found()
        path.chmod(0o666)
        assert found()["RightsTooWide"].where == str(path)


def test_what_nobody_can_open(found, used):
    """Answers that were changed, or whose epoch was revoked, are counted; who looks removes none."""
    with create_cache() as cache:
        for name in "bc":
            cache.set(name, name)
        store = cache.parts.entries.store
        for key in list(store.scan())[:2]:
            blob = bytearray(store.get(key))
            blob[60] ^= 1
            store.put(key, bytes(blob), ttl_s=1000)
    told = found()["UnopenableEntry"]
    assert told.says.startswith("2 answers")
    assert found()["UnopenableEntry"] == told


def test_answers_that_are_not_sealed(found, used):
    """What a teammate without encryption has put among sealed answers is told."""
    with create_cache() as cache:
        cache.parts.entries.store.put("ab" * 32, b"GCF plain", ttl_s=1000)
    assert found()["UnsealedLeftover"].says.startswith("1 answer of")


def test_a_tier_without_tls(found, monkeypatch):
    """Beyond this machine it is an error, on loopback it is nobody's business; one that is away is said to be."""
    monkeypatch.setattr("genai_cache_magic.stores.redis.audit.count_endless", lambda *_: 3)
    told = found(l2="redis://cache.example.com:6379")
    assert told["TierWithoutTls"].severity is Severity.ERROR
    assert "rediss://cache.example.com" in told["TierWithoutTls"].says
    assert told["KeyWithoutTtl"].says.startswith("3 answers")
    monkeypatch.undo()


def test_a_tier_that_is_away(found):
    """What is not seen is not known to be well."""
    told = found(l2=f"redis://127.0.0.1:{free_port()}")
    assert told["NotLookedAt"].severity is Severity.WARNING
    assert "TierWithoutTls" not in told


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (Seen(time.time() + 5 * DAY_S), "CertificateExpires"),
        (Seen(None, "its certificate is not accepted"), "CertificateRefused"),
        (Seen(time.time() + 90 * DAY_S), None),
    ],
)
def test_certificates(found, monkeypatch, seen, name):
    """One that ends soon is told, one that is refused is an error, one that is good is not told."""
    monkeypatch.setattr(audit_tier, "examined", lambda *_, **__: seen)
    monkeypatch.setattr("genai_cache_magic.stores.redis.audit.count_endless", lambda *_: 0)
    told = found(l2="rediss://cache.example.com:6380")
    assert {one for one in told if one.startswith("Certificate")} == ({name} if name else set())


def test_a_certificate_is_seen_as_a_client_sees_it(tmp_path, monkeypatch):
    """Its end is read where it is accepted, and why not where it isn't."""
    import socket
    import ssl
    import threading

    from genai_cache_magic.stores.certificates import examined

    make_certificate(tmp_path, "server", days=20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    def serve(listener):
        for _ in range(3):
            plain, _ = listener.accept()
            try:
                context.wrap_socket(plain, server_side=True).close()
            except (OSError, ssl.SSLError):
                plain.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        good = examined("localhost", port, ca_file=tmp_path / "server.pem", timeout_s=30)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "server.pem"))  # which Azure's SDK goes by
        azures = examined("localhost", port, is_azure=True, timeout_s=30)
        bad = examined("localhost", port, timeout_s=30)
        thread.join(30)
    assert 18 * DAY_S < good.expires_s - time.time() < 21 * DAY_S
    assert azures == good
    assert "not accepted" in bad.trouble


def test_a_vault_is_trusted_as_its_client_trusts_it(isolated, vault, monkeypatch):
    """Whoever vouches for it by the variable that Azure's SDK reads is believed, and without that it is refused."""
    settings = load_settings(encryption="key-vault", key_vault_url=vault.url)
    (seen,) = audit_tier.connections(settings, "team")
    assert seen.rule.name == "CertificateExpires"  # the simulated one's is good for a day
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert [one.rule.name for one in audit_tier.connections(settings, "team")] == ["CertificateRefused"]


def test_trusted_projects(found, isolated):
    """Each is named; one that is gone, or says something else, is to be given up."""
    file = isolated / "project" / "genai-cache.toml"
    file.parent.mkdir()
    file.write_text('dir = "x"\n')
    TrustedFiles().add(file, digest_of(read_for_trust(file)))
    told = found()
    assert (told["ProjectTrusted"].where, told["ProjectTrusted"].severity) == (str(file), Severity.OK)
    file.unlink()
    assert "trust --revoke" in found()["TrustOutdated"].says


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_readable_runs_in_git(found, isolated):
    """A run file that git has is told by its name; what only speaks of one, and what git has not, is not."""
    repository = isolated / "repository"
    (repository / "runs").mkdir(parents=True)
    (repository / "runs" / "sweep.jsonl").write_bytes(HEAD + b"\n")
    (repository / "about.md").write_bytes(b"a run file begins with " + HEAD)
    (repository / "own.jsonl").write_bytes(HEAD + b"\n")
    for words in (["init", "-q"], ["add", "runs", "about.md"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    told = found(project=repository)
    assert told["PlaintextRunInGit"].where == str(Path("runs", "sweep.jsonl"))
    assert found(project=isolated) == {}


@pytest.mark.skipif(os.name == "nt" or shutil.which("git") is None, reason="git, or a shell, is not there")
def test_no_program_that_a_repository_names_is_run(found, isolated):
    """A clone that lacks an object names a program that would fetch it: looking there runs none."""
    repository, ran = isolated / "repository", isolated / "ran"
    repository.mkdir()

    def git(*words):
        told = subprocess.run(["git", *words], cwd=repository, check=True, capture_output=True, text=True)
        return told.stdout.strip()

    git("init", "-q")
    (repository / "sweep.jsonl").write_bytes(HEAD + b"\n")
    git("add", "sweep.jsonl")
    name = git("rev-parse", ":sweep.jsonl")
    (repository / ".git" / "objects" / name[:2] / name[2:]).unlink()
    for setting, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": f"ext::touch {ran}",
        "remote.origin.promisor": "true",
        "protocol.ext.allow": "always",
    }.items():
        git("config", setting, value)
    found(project=repository)
    assert not ran.exists()


def test_settings_that_cannot_be_read(found):
    """That is an error of its own, and the rest is looked at all the same."""
    assert found(ttl="soon")["NotLookedAt"].severity is Severity.ERROR


def test_the_rules_are_documented():
    """The table of the page and that of the code are one."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (GCA\d+) \| (\w+) \| .* \| (\w+) \|$", page, re.MULTILINE)
    assert rows == [(rule.id, rule.name, rule.severity.name.lower()) for rule in RULES.values()]
    assert len({rule.id for rule in RULES.values()}) == len(RULES)
