"""Whose word counts: a project's files decide neither where answers come from nor who can read them, unless trusted."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import httpx
import pytest
from commands import ran
from projects import (
    cloned_project,  # noqa: F401 - fixtures
    write,
)

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.origins import origins_of
from genai_cache_magic.api.scopes.session import Session, current_session, reset_session
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.jupyter.live import LiveBadge
from genai_cache_magic.jupyter.shown.badge import bundle
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.settings.files import read_layers
from genai_cache_magic.settings.reading import describe, ignored, load_settings
from genai_cache_magic.settings.trust import TrustedFiles, decides_trust, digest_of

BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Which way is north?"}]}
DECIDING = {
    "cdn": '{endpoint = "content"}',
    "dir": '"/srv/theirs"',
    "key_file": '"/srv/theirs/key"',
    "encryption": '"off"',
    "machine": '"theirs"',
    "person": '"them"',
    "l2": '"redis://theirs"',
    "monitoring": '{exporter = "otlp", endpoint = "https://theirs.example"}',
    "run_file": '"theirs.jsonl"',
    "semantic": "0.85",
    "size_limit": '"1MiB"',
    "maxmemory": '"1mb"',
    "ignore": '["uuid"]',
    "eviction_policy": '"allkeys-random"',
    "max_stale": '"3650d"',
    "offline_trust": '"3650d"',
    "l2_username": '"theirs"',
    "l2_password": '"theirs"',
    "l2_connection_string": '"theirs"',
    "l2_account_key": '"theirs"',
    "l2_account": '"theirs"',
    "l2_credential": '"environment"',
    "l2_ca_file": '"/srv/theirs"',
    "l2_create_container": "true",
    "key_vault_url": '"https://theirs.vault.azure.net"',
    "key_vault_credential": '"cli"',
    "key_name": '"theirs"',
    "signing_key_name": '"theirs"',
    "verify_challenge": "false",
    "role": '"Cache.Reader"',
    "network": "{ private_endpoint = false }",
}


# --- what decides trust


@pytest.mark.parametrize("spelling", ["{}", "{}-", "tool"])
@pytest.mark.parametrize("name", DECIDING)
def test_a_project_is_not_heard_on_what_decides_trust(project, name, spelling):
    """Ignored, never an error, and said in a sentence that names the file, the setting and the fix."""
    written = name.replace("_", "-") if spelling == "{}-" else name
    line = f'ttl = "2h"\n{written} = {DECIDING[name]}\n'
    file = project / ("pyproject.toml" if spelling == "tool" else "genai-cache.toml")
    write(file, f"[tool.genai-cache-magic]\n{line}" if spelling == "tool" else line)
    settings = load_settings()
    assert settings.ttl == 7200  # what decides no trust is heard
    assert "their" not in repr(settings)
    assert settings.encryption == "local"
    (sentence,) = ignored()
    assert sentence.startswith(f"~/work/clone/{file.name} sets {name}: ignored")
    assert f"`genai-cache trust ~/work/clone/{file.name}`" in sentence


def test_the_plain_cache_of_a_cloned_repository_answers_nothing(project, server):
    """Its author's answer is there, in a cache that its configuration names; the model is asked all the same."""
    theirs = {"dir": str(project / "cache"), "encryption": "off"}
    os.environ.pop("GENAI_CACHE_DIR", None)

    def ask() -> str:
        with llm_cache() as cell, httpx.Client() as client:
            client.post(f"{server.url}/v1/chat/completions", json=BODY)
        return cell.calls[0].outcome.value

    with pytest.MonkeyPatch.context() as patch:
        for name, value in theirs.items():
            patch.setenv(f"GENAI_CACHE_{name.upper()}", value)
        reset_session()
        assert [ask(), ask()] == ["miss", "hit"]
    write(project / "genai-cache.toml", "".join(f"{name} = {json.dumps(value)}\n" for name, value in theirs.items()))
    reset_session()
    assert ask() == "miss"
    TrustedFiles().add(project / "genai-cache.toml", "another digest")
    reset_session()
    assert ask() == "hit"  # of the user's own cache by now
    assert current_session().settings.encryption == "local"


def test_option_environment_and_the_users_own_file_decide(project, monkeypatch):
    """What the user says is obeyed, wherever they say it, and needs no trust."""
    write(project / "genai-cache.toml", 'encryption = "local"\ndir = "/srv/theirs"')
    own = write(Path.home() / ".config" / "genai-cache" / "config.toml", 'encryption = "off"\ndir = "/srv/own"\n')
    assert load_settings().encryption == "off"
    assert load_settings().dir == Path("/srv/own")
    shown = {line.name: line for line in describe(load_settings()).lines}
    assert shown["dir"].source == "~/.config/genai-cache/config.toml; ignored in ~/work/clone/genai-cache.toml"
    monkeypatch.setenv("GENAI_CACHE_DIR", "/srv/env")
    assert load_settings().dir == Path("/srv/env")
    assert load_settings(dir="/srv/option").dir == Path("/srv/option")
    own.unlink()
    assert load_settings().encryption == "local"


def test_every_setting_is_one_or_the_other():
    """A setting that says where answers lie, who seals them or who asks decides trust; a new one is thought of here."""
    from genai_cache_magic.settings.model import Settings

    deciding = {name for name in Settings.model_fields if decides_trust(name)}
    assert deciding == set(DECIDING)


# --- trust, once given


def test_a_trusted_project_is_heard_until_it_says_something_else(project, capsys):
    """By path and content: an edit, or a move, has to be trusted anew; other tables of the same file may change."""
    file = write(project / "pyproject.toml", '[tool.genai-cache-magic]\nencryption = "off"\n')
    code, out, _ = ran(capsys, "trust")
    assert (code, "encryption = 'off'" in out, "~/work/clone/pyproject.toml" in out) == (0, True, True)
    assert load_settings().encryption == "off"
    assert ignored() == ()
    write(file, '[project]\nname = "x"\n[tool.genai-cache-magic]\nencryption = "off"\n')
    assert load_settings().encryption == "off"
    write(file, '[tool.genai-cache-magic]\nencryption = "off"\ndir = "/srv/theirs"\n')
    assert load_settings().encryption == "local"
    assert "has changed since you trusted it" in ignored()[0]
    assert "(changed since" in ran(capsys, "trust", "--list")[1]
    assert ran(capsys, "trust", str(file))[0] == 0
    assert load_settings().dir == Path("/srv/theirs")
    (project / "moved").mkdir()
    file.rename(project / "moved" / "pyproject.toml")
    os.chdir(project / "moved")
    assert load_settings().encryption == "local"


def test_trust_is_taken_back(project, capsys):
    """`--revoke` by file or by folder, also of a file that is gone; what was not trusted is an error."""
    file = write(project / "genai-cache.toml", 'encryption = "off"\n')
    for target in (file, project, project / "notebooks"):
        ran(capsys, "trust", str(file))
        assert load_settings().encryption == "off"
        assert ran(capsys, "trust", "--revoke", str(target))[0] == 0
        assert load_settings().encryption == "local"
    ran(capsys, "trust")
    file.unlink()
    assert ran(capsys, "trust", "--revoke", str(file))[0] == 0
    assert ran(capsys, "trust", "--list")[1].strip() == "no project is trusted"
    code, _, err = ran(capsys, "trust", "--revoke", str(file))
    assert (code, "was not trusted" in err) == (2, True)


def test_trusting_names_what_can_be_trusted(project, capsys):
    """A folder without a file, and a file of another name, are errors that say what is wanted."""
    for path in (project, project / "notebooks" / "other.toml"):
        code, _, err = ran(capsys, "trust", str(path))
        assert (code, "pyproject.toml" in err) == (2, True)
    write(project / "pyproject.toml", "[project]\n")
    assert "says nothing" in ran(capsys, "trust")[1]


def test_the_list_is_private_and_believed_only_if_it_is(project, capsys):
    """Mode 0600 in folders of 0700; one that others could have written trusts nothing, and that is said."""
    write(project / "genai-cache.toml", 'encryption = "off"\n')
    ran(capsys, "trust")
    path = TrustedFiles().path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o666)
    assert load_settings().encryption == "local"
    assert any("trusted.json" in sentence and "chmod go-w" in sentence for sentence in ignored())
    path.chmod(0o600)
    assert load_settings().encryption == "off"
    for damage in ("", "[]", '{"files": 3}', "\0"):
        path.write_text(damage)
        assert load_settings().encryption == "local"
        assert any("damaged" in sentence for sentence in ignored())


def test_a_home_that_can_not_be_written_is_an_error_with_its_fix(project, monkeypatch):
    """The list can't be kept: the error says where, and what to set."""
    write(project / "config", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project / "config"))
    with pytest.raises(ConfigurationError, match="XDG_CONFIG_HOME"):
        TrustedFiles().add(project / "genai-cache.toml", "0")


@pytest.mark.parametrize("base", ["~", "own"], ids=["no home", "a relative XDG_CONFIG_HOME"])
def test_no_file_of_the_working_directory_is_taken_for_the_users_own(project, monkeypatch, base):
    """Where no home is known, or a variable is not absolute, what a project ships at that place stays a project's."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("HOME")
    if base == "own":
        monkeypatch.setenv("XDG_CONFIG_HOME", base)
    shipped = Path.cwd() / (Path("~/.config") if base == "~" else base) / "genai-cache"
    file = write(project / "genai-cache.toml", 'encryption = "off"\n')
    write(shipped / "config.toml", 'encryption = "off"\n')
    listed = {"files": {str(file): digest_of({"encryption": "off"})}}
    write(shipped / "trusted.json", json.dumps(listed)).chmod(0o600)
    assert [layer.table for layer in read_layers()] == [{}]
    with pytest.raises(ConfigurationError, match="home directory is not known: set HOME"):
        TrustedFiles().add(file, "0")
    if base == "~":
        with pytest.raises(ConfigurationError, match="home directory is not known: set HOME"):
            load_settings()


# --- what an untrusted project still may say


def key(origins, host, model="gpt-4.1-mini"):
    body = json.dumps({**BODY, "model": model}).encode()
    call = HttpCall("POST", "https", host, None, "/v1/chat/completions", "", {"content-type": "application/json"}, body)
    request = recognise(call, origins).request
    return request.origin, request.machine, request.model


def test_aliases_of_an_untrusted_project_are_its_own(project, monkeypatch, capsys):
    """Its endpoints share answers among themselves, never with what the user, or another project, calls so."""
    rules = '[origins]\n"https://east.example" = {alias = "team"}\n"https://west.example" = {alias = "team"}\n'
    file = write(project / "genai-cache.toml", rules)
    theirs = origins_of(load_settings())
    assert key(theirs, "east.example") == key(theirs, "west.example")
    write(file, rules + '"https://evil.example" = {alias = "team"}\n')
    evil = key(origins_of(load_settings()), "evil.example")
    assert evil != key(theirs, "east.example")
    assert any("among that file's own rules" in note for note in describe(load_settings()).notes)
    ran(capsys, "trust")
    trusted = key(origins_of(load_settings()), "east.example")
    file.unlink()
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", '{"https://mine.example": {"alias": "team"}}')
    assert key(origins_of(load_settings()), "mine.example") == trusted != evil


def test_a_project_gives_no_origin_the_key_of_another(project):
    """Not by an alias that is an address, not by a model's name, not for the user's own alias."""
    plain = origins_of(load_settings())
    real = {key(plain, "api.openai.com", model) for model in ("gpt-4.1", "gpt-4.1-mini")}
    for rule in ('alias = "https://api.openai.com"', 'models = {"gpt-4.1-mini" = "gpt-4.1"}'):
        for origin in ("https://api.openai.com", "https://evil.example"):
            write(project / "genai-cache.toml", f'[origins]\n"{origin}" = {{{rule}}}\n')
            assert key(origins_of(load_settings()), origin.removeprefix("https://")) not in real


def test_a_project_can_not_put_people_together_again(project):
    """`extra_headers` and `key_include` that the user set, to keep people apart, stay beside the project's."""
    write(
        Path.home() / ".config" / "genai-cache" / "config.toml",
        'extra_headers = ["authorization"]\nkey_include = ["user"]\n',
    )
    write(project / "genai-cache.toml", 'extra_headers = ["x-tenant"]\nkey_include = ["trace"]\n')
    assert load_settings().extra_headers == {"authorization", "x-tenant"}
    assert load_settings().key_include == {"user", "trace"}


# --- where it is seen


def test_what_is_ignored_stands_under_the_first_cell(project):
    """Once a session, as words; the call goes on, and `create_cache` tells its listener."""
    write(project / "genai-cache.toml", 'encryption = "off"\n')
    session = Session(dir=str(project / "cache"))
    first, second = (session.scope(session.options()) for _ in range(2))
    shown = bundle(summarise(first))
    for kind in ("text/plain", "text/html"):
        assert "genai-cache.toml sets encryption: ignored" in shown[kind]
        assert "genai-cache.toml`, and start the kernel anew" in shown[kind]
    assert second.troubles == ()
    again = Session(dir=str(project / "cache"))
    runs = [again.scope(again.options(), cell=cell) for cell in ("a", "b", "a")]
    assert [run.troubles for run in runs] == [first.troubles, (), first.troubles]  # saved alike, run again
    heard = []
    create_cache("memory", on_event=heard.append).close()
    assert "ignored" in heard[0].message


def test_config_says_it(project, capsys):
    """The command shows the value in force, why it is that, and the fix; others warn beside their output."""
    write(project / "genai-cache.toml", 'encryption = "off"\n')
    code, out, _ = ran(capsys, "config")
    assert code == 0
    assert "ignored in ~/work/clone/genai-cache.toml" in out
    assert "`genai-cache trust ~/work/clone/genai-cache.toml`" in out
    assert "genai-cache trust" in ran(capsys, "stats")[2]


def test_not_encrypted_stands_under_the_cell(project):
    """As long as encryption is off, and not otherwise."""
    for encryption in ("off", "local"):
        session = Session(dir=str(project / "cache"), encryption=encryption)
        shown = bundle(summarise(session.scope(session.options())))
        for kind in ("text/plain", "text/html"):
            assert ("Not encrypted" in shown[kind]) == (encryption == "off")


def test_quiet_does_not_hide_that_answers_are_plain(project):
    """Where a model was called; a quiet cell that called none shows nothing."""
    session = Session(dir=str(project / "cache"), encryption="off")
    for calls in (0, 1):
        scope, shown = session.scope(session.options()), []
        for _ in range(calls):
            scope.emit(CallRecord(Outcome.MISS))
        LiveBadge(lambda data, **_: shown.append(data), quiet=True, updates=False).show(scope)  # noqa: B023 - called here
        assert len(shown) == calls
    assert "Not encrypted" in shown[0]["text/plain"]


@pytest.mark.parametrize(
    "line",
    [
        'l2_password = "hushhush"',
        'l2_account_key = "hushhush"',
        'l2-connection-string = "AccountName=team;AccountKey=hushhush=="',
        'l2 = "rediss://u:hushhush@team.redis.example"',
        'l2 = "team.redis.example:6380,password=hushhush"',
        'l2 = ["rediss://team.redis.example", "hushhush"]',
    ],
)
def test_what_opens_the_tier_is_not_shown(project, capsys, line):
    """Trusting a file says that it sets a credential, not which."""
    write(project / "genai-cache.toml", line)
    code, out, err = ran(capsys, "trust")
    assert code == 0
    assert "l2" in out
    assert "hushhush" not in out + err


HOSTILE = """
l2 = ["rediss://user:hunter2@h:6380/0?password=hunter2", "https://a.blob.core.windows.net/c?sv=1&sig=hunter2"]
l2_password = "hunter2"
l2_pasword = "hunter2"
l2_connection_string = "AccountName=x;AccountKey=hunter2"
l2_account_key = "hunter2"
key_vault_url = "https://u:hunter2@v.vault.azure.net/?x=hunter2"
extra_headers = ["authorization: Bearer hunter2", "x-tenant"]
semantic = {token = "hunter2"}
retry = {max_attempts = 3, password = "hunter2"}
network = {allowed_ips = ["10.0.0.0/8"], token = {of = "hunter2"}}
compression = {level = 3, key = ["hunter2"]}

[cdn]
endpoint = "https://edge.example.com/?sv=1&sig=hunter2"
path = "/llm-cache?sig=hunter2"
token = "hunter2"
rules = [{match = "team/*", ttl = "1d", token = "hunter2"}]

[origins]
"https://u:hunter2@gateway.example.com/v1?key=hunter2" = "openai"
"https://llm.example.com/v1" = {provider = "openai", alias = "shared", api_key = "hunter2"}

[monitoring]
alerts = ["HighMissRate", {name = "HighErrorRate", threshold = 0.3, token = "hunter2"}]
webhook = "https://hooks.example.com/services/hunter2"
connection_string = "InstrumentationKey=hunter2"
conection_string = "InstrumentationKey=hunter2"
endpoint = "https://u:hunter2@otel.example.com/hunter2?token=hunter2"
"""


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_trusting_shows_who_is_told_and_no_secret(isolated, capsys, options):
    """Whatever is wrong with the file, of which nothing is checked yet: a misspelled name may hold a password."""
    (Path.cwd() / "genai-cache.toml").write_text(HOSTILE)
    code, said, _ = ran(capsys, "trust", *options)
    assert code == 0
    assert "hunter2" not in said
    for host in ("hooks.example.com", "otel.example.com", "edge.example.com", "v.vault.azure.net", "x-tenant"):
        assert host in said
    for known in ("/llm-cache", "team/*", "shared", "HighMissRate", "0.3", "10.0.0.0/8", "'max_attempts': 3"):
        assert known in said


def test_settings_are_described_without_what_signs_in(isolated, monkeypatch):
    """An address may have been given with a user, a password and a query, whichever setting it is in."""
    monkeypatch.setenv("GENAI_CACHE_KEY_VAULT_URL", "https://u:hunter2@v.vault.azure.net/?x=hunter2")
    said = str(Session().describe().lines)
    assert "https://v.vault.azure.net/" in said
    assert "hunter2" not in said
