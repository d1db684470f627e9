"""The doctor: whatever is wrong, it is one line that names the setting and the fix; nothing is made by looking."""

from __future__ import annotations

import json
import os
import stat

import pytest
from memory_vault import machine, ready_vault
from services import answering
from sessions import session_of

from genai_cache_magic import create_cache
from genai_cache_magic.api.team.line import team_line
from genai_cache_magic.api.team.storage import home_of
from genai_cache_magic.cli.main import main
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.errors import KeyUnavailable
from genai_cache_magic.ops import doctor_key, doctor_local
from genai_cache_magic.ops.checks import CONFIGURATION, KEY, L1, L2, Severity
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.ops.findings import worst
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.testing.servers import AZURITE_KEY, free_port


@pytest.fixture
def found(isolated, monkeypatch):
    """What the doctor finds with these settings."""

    def look(**settings):
        with session_of(monkeypatch, **settings) as session:
            return examine(session)

    return look


def used():
    with create_cache() as cache:
        cache.set("a", 1)


def of(findings, part):
    """Return the worst finding about `part`."""
    return max((f for f in findings if f.part == part), key=lambda f: f.severity)


def test_a_new_machine_is_well_and_stays_as_it_is(found, isolated):
    """Nothing is made by looking: neither directory nor key."""
    findings = found()
    assert worst(findings) is Severity.OK
    assert {f.part for f in findings} == {CONFIGURATION, KEY, L1, L2}
    assert "made at first use" in of(findings, KEY).says
    assert "run `" not in of(findings, KEY).says  # nothing is to be done
    assert not (isolated / "cache").exists()
    assert not (isolated / "keys").exists()


def test_a_cache_in_use_is_well(found, isolated):
    """It says where and how much, and the key by its fingerprint."""
    used()
    findings = found()
    assert worst(findings) is Severity.OK
    assert "1 answer, " in of(findings, L1).says
    assert len(of(findings, KEY).says.split()[0]) == 16


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("ttl", "soon", "write a number and s, m, h, d or w"),
        ("modus", "use", "mode"),
        ("mode", "replya", "replay"),
        ("connect_timeout", "soon", "ms or s"),
        ("origins", '{"no url": "openai"}', "no url"),
    ],
)
def test_a_wrong_setting(found, name, value, fix):
    """It is named with what is allowed, and what could not be looked at is said."""
    findings = found(**{name: value})
    assert worst(findings) is Severity.ERROR
    assert fix in of(findings, CONFIGURATION).says
    assert "not looked at" in of(findings, L2).says


def test_plain_text_is_a_warning(found):
    """Encryption that is off is said each time."""
    finding = of(found(encryption="off"), CONFIGURATION)
    assert (finding.severity, finding.settings) == (Severity.WARNING, ("encryption",))


def test_a_key_for_others_to_read(found, isolated):
    """The mode is named with the command that mends it, and nothing is opened."""
    used()
    path = isolated / "keys" / "default.key"
    path.chmod(0o644)
    finding = of(found(), KEY)
    assert (finding.severity, finding.settings) == (Severity.ERROR, ("key_file",))
    assert "chmod" in finding.says


def test_a_key_that_is_gone(found, isolated):
    """Answers without their key are a finding; no other key is made in its place."""
    used()
    path = isolated / "keys" / "default.key"
    path.unlink()
    findings = found()
    assert worst(findings) is Severity.WARNING
    assert "without its key" in of(findings, L1).says
    assert not path.exists()


@pytest.mark.parametrize(
    ("setting", "value", "extra"),
    [
        ("monitoring__exporter", "app", "genai-cache-magic[otel]"),
        ("monitoring__exporter", "otlp", "genai-cache-magic[otlp]"),
        ("monitoring__exporter", "prometheus", "genai-cache-magic[prometheus]"),
        ("monitoring__exporter", "azure-monitor", "genai-cache-magic[azure-monitor]"),
        ("status", "widget", "genai-cache-magic[widget]"),
        ("semantic", "0.95", "genai-cache-magic[local]"),
    ],
)
def test_what_a_setting_needs_is_not_installed(found, monkeypatch, setting, value, extra):
    """It is said before a cell finds out, with the command that installs it; what is installed is not mentioned."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert "package-missing" not in {finding.check for finding in found(**{setting: value})}
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (told,) = [finding for finding in found(**{setting: value}) if finding.check == "package-missing"]
    assert told.severity is Severity.WARNING
    assert f"pip install '{extra}'" in told.says
    assert told.settings == (setting.partition("__")[0],)


def test_another_key(found, isolated):
    """What another key sealed is said with the way to get it."""
    used()
    (isolated / "keys" / "default.key").unlink()
    with create_cache(namespace="other"):
        pass
    finding = of(found(), KEY)
    assert finding.severity is Severity.ERROR
    assert "keys import" in finding.says


def test_a_missing_key_in_a_team(found):
    """Who is about to join is told to import the key before one is made."""
    finding = of(found(l2=f"redis://127.0.0.1:{free_port()}"), KEY)
    assert finding.severity is Severity.WARNING
    assert "genai-cache keys import" in finding.says


@pytest.fixture
def vault(isolated, monkeypatch):
    """A vault with both keys, which a doctor that asks for one gets."""
    made = ready_vault()
    monkeypatch.setattr(doctor_key, "vault_wrapper", lambda _: machine(made, isolated / "known"))
    return made


VAULT = {"encryption": "key-vault", "key_vault_url": "https://team.vault.azure.net"}


def test_a_vault_that_is_well(found, vault):
    """It is asked for all that a cell would need."""
    finding = of(found(**VAULT), KEY)
    assert finding.severity is Severity.OK
    assert "which lets this identity use it" in finding.says


def test_a_vault_that_refuses_to_open(found, vault):
    """The right that is missing is named with the command that grants it."""
    vault.forbidden.add("unwrapKey")
    finding = of(found(**VAULT), KEY)
    assert (finding.severity, "key_vault_url" in finding.settings) == (Severity.ERROR, True)
    assert "unwrapKey" in finding.says


def test_a_vault_that_lets_open_and_not_make(found, vault):
    """Who only reads is well, and told what is for others."""
    vault.forbidden.update({"sign", "wrapKey"})
    told = [finding for finding in found(**VAULT) if finding.part == KEY]
    assert [finding.severity for finding in told] == [Severity.OK]
    assert told[0].says.count("can make and change no keyset") == 1
    assert "sign" in told[0].says
    assert "wrapKey" in told[0].says


def test_a_vault_that_is_away(found, vault):
    """What keeps it from being asked is an error of the key."""
    vault.trouble = KeyUnavailable("the vault can't be reached")
    assert of(found(**VAULT), KEY).severity is Severity.ERROR


def test_a_vault_without_an_address(found):
    """The setting is named."""
    finding = of(found(encryption="key-vault"), KEY)
    assert finding.severity is Severity.ERROR
    assert "GENAI_CACHE_KEY_VAULT_URL" in finding.says


def test_a_directory_that_is_a_file(found, isolated):
    """The directory is named, and the setting."""
    used()
    finding = of(found(dir=str(isolated / "keys" / "default.key" / "below")), L1)
    assert (finding.severity, finding.settings) == (Severity.ERROR, ("dir",))
    finding = of(found(dir=str(isolated / "keys" / "default.key")), L1)
    assert finding.severity is Severity.ERROR
    assert "is a file" in finding.says


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no place here where nobody can make a directory")  # noqa: PTH112 - a condition
def test_a_directory_that_can_not_be_made(found):
    """Not even by root, whom no mode of the place above tells so."""
    finding = of(found(dir="/proc/nowhere/cache"), L1)
    assert (finding.severity, finding.settings) == (Severity.ERROR, ("dir",))
    assert "/proc/nowhere/cache can't be made in /proc" in finding.says


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_can_only_be_read(found, isolated):
    """What was stored is served, nothing is added, and that is an error of the place."""
    used()
    directory = isolated / "cache"
    directory.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "chmod u+rwx" in of(found(), L1).says
    finally:
        directory.chmod(stat.S_IRWXU)


def test_a_full_cache_and_a_full_disk(found, isolated, monkeypatch):
    """Little room is said before it is none."""
    used()
    monkeypatch.setattr(doctor_local, "FULL", 0.0)
    monkeypatch.setattr(doctor_local, "_LITTLE_ROOM_BYTES", 2**62)
    findings = [f for f in found() if f.part == L1 and f.severity is Severity.WARNING]
    assert {f.settings for f in findings} == {("size_limit",), ("dir",)}


def test_a_damaged_database(found, isolated):
    """What was lost is said."""
    used()
    for path in (isolated / "cache").rglob("state.db"):
        path.write_bytes(b"no database" * 1000)
    assert "was damaged" in of(found(), L1).says


REFUSED = f"127.0.0.1:{free_port()}"
WRONG_TIERS = {
    "scheme": ("ftp://x/y", {}, "write one that begins with redis://"),
    "no scheme": ("cache.example.com", {}, "write one that begins with redis://"),
    "no port": ("redis://127.0.0.1:port", {}, "a port that is none from 1 to 65535"),
    "no host": ("redis://:6379", {}, "names no host"),
    "database": ("redis://127.0.0.1:6379/one", {}, "database number"),
    "database as a parameter": ("redis://127.0.0.1:6379?db=2", {}, "write a database as its path"),
    "database of a cluster": ("redis+cluster://127.0.0.1:6379/2", {}, "a cluster has database 0 alone"),
    "password with a sign": ("redis://ann:p@ss#word@127.0.0.1:6379", {}, "such signs in a password as %3F and %23"),
    "refused": (f"redis://{REFUSED}", {}, "refuses connections: is it running, and the port right?"),
    "refused, tls": (f"rediss://{REFUSED}", {}, "refuses connections"),
    "refused, blob": (f"http://{REFUSED}/devstoreaccount1/shared", {"l2_account_key": AZURITE_KEY}, "refuses conn"),
    "no container": (f"http://{REFUSED}", {}, "names no container"),
    "http": ("http://example.com/container", {}, "starts with https://"),
    "no connection string": ("azure-blob://shared", {}, "AZURE_STORAGE_CONNECTION_STRING"),
    "wrong connection string": ("azure-blob://shared", {"l2_connection_string": "x"}, "Access keys"),
    "several": ("redis://a,redis://b", {}, "write one of Redis, of Azure Blob, or of each"),
}


@pytest.mark.parametrize("case", WRONG_TIERS)
def test_a_team_tier_that_can_not_be_used(found, isolated, monkeypatch, case):
    """An address that is none, or where nobody answers, is an error that says what to write; the rest is looked at."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    used()
    url, more, fix = WRONG_TIERS[case]
    findings = found(l2=url, **more)
    finding = of(findings, L2)
    assert finding.severity is Severity.ERROR
    assert fix in finding.says
    assert "l2" in finding.settings
    assert of(findings, L1).severity is Severity.OK


def test_a_server_that_is_no_redis(found):
    """It is called what it is."""
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        finding = of(found(l2=f"redis://127.0.0.1:{port}"), L2)
    assert finding.severity is Severity.ERROR
    assert "does not answer as a Redis server does" in finding.says


@pytest.mark.service
def test_a_redis_that_is_well(found, isolated, redis_server, team):
    """It is read and written, and what was written to try it is gone."""
    found(namespace=team)
    used()
    findings = found(l2=redis_server.url, namespace=team)
    assert worst(findings) is Severity.OK
    assert "is empty for namespace" in of(findings, L2).says
    used()
    assert "its keyset is opened by this key" in of(found(), L2).says


@pytest.mark.service
def test_a_redis_with_another_password(found, redis_server):
    """The settings are those of the credential, which is shown nowhere."""
    findings = found(l2=redis_server.url, l2_username="nobody", l2_password="hunter2")
    finding = of(findings, L2)
    assert (finding.severity, finding.settings) == (Severity.ERROR, ("l2", "l2_username", "l2_password"))
    assert "l2_password" in finding.says
    assert "hunter2" not in repr(findings)


@pytest.mark.service
def test_a_redis_user_who_may_only_read(found, redis_server):
    """That it answers is not enough: it must be writable."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+hello", "+client", "+time")
        try:
            finding = of(found(l2=redis_server.url, l2_username="reader", l2_password="pw"), L2)
        finally:
            client.execute_command("ACL", "DELUSER", "reader")
    assert finding.severity is Severity.ERROR
    assert "give it the commands and keys" in finding.says


@pytest.mark.service
def test_a_container_that_is_not_there(found, azurite):
    """The setting that makes it is named."""
    url = f"{azurite.account_url}/no-such-container"
    finding = of(found(l2=url, l2_account_key=AZURITE_KEY), L2)
    assert finding.severity is Severity.ERROR
    assert "l2_create_container" in finding.says


@pytest.mark.service
def test_of_two_tiers_both_are_tried(found, redis_server, azurite, team):
    """Redis goes on where the container is not there: it works, with less than it could."""
    both = f"{redis_server.url},{azurite.account_url}/no-such-container"
    findings = [one for one in found(l2=both, l2_account_key=AZURITE_KEY, namespace=team) if one.part == L2]
    assert [one.severity for one in findings] == [Severity.WARNING, Severity.OK]
    assert "large answers are not shared" in findings[0].says
    assert "l2_create_container" in findings[0].says


@pytest.mark.service
def test_a_tier_of_a_newer_version(found, redis_server, team):
    """What a newer version of this package has filled says so: update."""
    import redis

    settings = {"l2": redis_server.url, "namespace": team}
    found(**settings)
    used()
    with redis.Redis.from_url(redis_server.url) as client:
        (name,) = [key for key in client.keys(f"*{team}*") if b"keyset" in key]
        (field,) = [f for f, value in client.hgetall(name).items() if value.startswith(b"\x89GCK")]
        client.hset(name, field, b"\x89GCK\x02" + client.hget(name, field)[5:])
    finding = of(found(**settings), L2)
    assert finding.severity is Severity.ERROR
    assert "update genai-cache-magic" in finding.says


def test_what_waits_to_be_told(found, isolated, monkeypatch):
    """What an outage has left in the queue is counted, also while it lasts."""
    monkeypatch.setenv("GENAI_CACHE_L2", f"redis://{REFUSED}")
    settings = load_settings()
    home = home_of(settings, settings.namespace, team_line(settings, settings.namespace))
    home.mkdir(parents=True)
    outbox = Outbox(home / "outbox.db")
    outbox.add_change(Change(1, new_root=b"r" * 16))
    outbox.close()
    (waiting,) = [f for f in found() if "waits in the queue" in f.says]
    assert (waiting.part, waiting.severity) == (L2, Severity.WARNING)
    assert "invalidations: 1, answers: 0" in waiting.says


def test_config_says_it_too(isolated, monkeypatch, capsys):
    """Beside the settings stands what keeps them from working, with the setting and the fix."""
    assert "L2" not in run(capsys, "config")[1]
    monkeypatch.setenv("GENAI_CACHE_L2", f"redis://{REFUSED}")
    code, out = run(capsys, "config")
    assert code == 0
    assert "refuses connections: is it running, and the port right?" in out
    assert "genai-cache keys import" in out


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, capsys.readouterr().out


def test_the_exit_code_is_that_of_the_worst(isolated, monkeypatch, capsys):
    """0, 1 or 2; and for scripts one object a line."""
    assert run(capsys, "doctor")[0] == 0
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    code, out = run(capsys, "doctor", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert all({"part", "severity", "says", "settings", "check", "fix"} == set(row) for row in rows)
    assert "warning" in {row["severity"] for row in rows}
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://127.0.0.1:port")
    code, out = run(capsys, "doctor")
    assert code == 2
    assert len([line for line in out.splitlines() if "a port that is none from 1 to 65535" in line]) == 1
