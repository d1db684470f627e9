"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

import json
import os
import traceback

import pytest

from genai_cache_magic.api.origins import origins_of
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import tilde
from genai_cache_magic.settings.files import check_syntax
from genai_cache_magic.settings.model import machine_identity
from genai_cache_magic.settings.reading import describe, load_settings
from genai_cache_magic.settings.units import parse_duration, parse_seconds, parse_size, spell_duration, spell_size


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory and a home without any configuration."""
    for name in [name for name in os.environ if name.startswith("GENAI_CACHE_")]:
        monkeypatch.delenv(name)
    work = tmp_path / "project" / "notebooks"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def source_of(name, **options):
    lines = {line.name: line for line in describe(load_settings(**options), **options).lines}
    return lines[name].value, lines[name].source


def test_each_layer_wins_over_the_next(elsewhere, monkeypatch):
    """Option, environment, project file, user file, default: in this order, and `config` says which."""
    assert source_of("ttl") == ("30d", "default")
    user = elsewhere / "config" / "genai-cache" / "config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('ttl = "1h"\nsize-limit = "2gb"\n')
    assert source_of("ttl") == ("1h", str(user))
    project = elsewhere / "project" / "pyproject.toml"
    project.write_text('[tool.genai-cache-magic]\nttl = "2h"\n')
    assert source_of("ttl") == ("2h", str(project))
    nearer = elsewhere / "project" / "genai-cache.toml"
    nearer.write_text('ttl = "3h"\n')
    assert source_of("ttl") == ("3h", str(nearer))
    assert source_of("size_limit") == ("2 GiB", str(user))
    monkeypatch.setenv("GENAI_CACHE_TTL", "4h")
    assert source_of("ttl") == ("4h", "environment")
    assert source_of("ttl", ttl="5h") == ("5h", "option")


def test_config_prints_what_people_write(elsewhere, monkeypatch):
    """Sizes and durations with their units, paths from home, compression in words."""
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setenv("GENAI_CACHE_DIR", str(elsewhere / "cache"))
    shown = {line.name: line.value for line in describe(load_settings()).lines}
    assert shown["ttl"] == "30d"
    assert (shown["size_limit"], shown["memory"], shown["max_response"]) == ("1 GiB", "32 MiB", "8 MiB")
    assert shown["dir"] == "~/cache"
    assert shown["compression"] == "zstd, from 1 KiB, level 3"


SECRET = "hunter2"
SHOWN = [
    {"origins": {f"https://me:{SECRET}@gw.example/v1": "openai", f"http://b.example?api_key={SECRET}": {"alias": "x"}}},
    {"origins": {f"ftp://me:{SECRET}@gw.example": "openai"}},
    {"origins": {f"https://me:{SECRET}@gw.example": {"aliass": "x"}}},
    {"origins": {f"https://me:{SECRET}@gw.example": 3}},
    {"extra_headers": [f"authorization: Bearer {SECRET}"]},
]


@pytest.mark.parametrize("given", SHOWN)
@pytest.mark.parametrize("through", ["option", "environment", "file"])
def test_no_credential_of_an_origin_is_shown(elsewhere, monkeypatch, given, through):
    """Neither `config`, nor the settings' repr, nor an error and its traceback shows one, wherever it was written."""
    options = given if through == "option" else {}
    ((name, value),) = given.items()
    if through == "environment":
        monkeypatch.setenv(f"GENAI_CACHE_{name.upper()}", json.dumps(value))
    elif through == "file":
        table = json.dumps(value).replace('": ', '" = ') if isinstance(value, dict) else json.dumps(value)
        (elsewhere / "project" / "genai-cache.toml").write_text(f"{name} = {table}\n")
    try:
        settings = load_settings(**options)
        origins_of(settings)
        said = f"{settings!r} {settings} {describe(settings, **options)}"
    except ConfigurationError as exc:
        said = "".join(traceback.format_exception(exc))
    assert "gw.example" in said or "extra_headers" in said
    assert SECRET not in said


def test_the_machine_is_not_shown():
    """What ``config`` prints into a notebook does not name the host."""
    assert machine_identity() not in source_of("machine")[0]
    assert machine_identity() not in f"{load_settings()!r} {load_settings()}"


def test_nested_settings_in_the_environment(monkeypatch):
    """Two underscores separate the parts of a nested name; origins are JSON."""
    monkeypatch.setenv("GENAI_CACHE_COMPRESSION__ALGORITHM", "gzip")
    monkeypatch.setenv("GENAI_CACHE_COMPRESSION__THRESHOLD", "2kb")
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", '{"https://a.example": "openai", "https://b.example": {"alias": "b"}}')
    settings = load_settings()
    assert (settings.compression.algorithm, settings.compression.threshold) == ("gzip", 2048)
    assert settings.origins["https://a.example"].provider == "openai"
    assert settings.origins["https://b.example"].alias == "b"
    assert source_of("compression")[1] == "environment"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TTL", "soon", "ttl='soon' (environment, GENAI_CACHE_TTL)"),
        ("TTL", "90", "'90' has no unit: write 90s, 90m, 90h, 90d or 90w"),
        ("TTL", "-3d", "(environment, GENAI_CACHE_TTL): '-3d' is not a duration: write a number and s, m, h, d or w"),
        ("MODE", "replya", "did you mean replay?"),
        ("COMPRESSION__ALGORITHM", "gzp", "did you mean gzip?"),
        ("COMPRESSION__LEVEL", "99", "compression.level='99'"),
        ("COMPRESSION__LEVEL", "99", "write at most 19"),
        ("COMPRESSION__LEVEL", "fast", "write a whole number"),
        ("COMPRESSION__ALGORITM", "gzip", "did you mean algorithm?"),
        ("SIZE_LIMIT", "big", "size_limit='big'"),
        ("SIZE_LIMIT", "500", "size_limit=500 B (environment, GENAI_CACHE_SIZE_LIMIT): write at least 1 MiB"),
        ("MAX_RESPONSE", "64mb", "max_response=64 MiB (environment, GENAI_CACHE_MAX_RESPONSE): write at most 32 MiB"),
        ("L2_CREATE_CONTAINER", "maybe", "write true or false"),
        ("ORIGINS", '["https://x"]', 'write a table, such as {"https://'),
        ("ORIGINS", '{"https://x": {"models": "gpt"}}', "write a table"),
        ("ORIGINS", '{"https://x": {"zzz": 1}}', "known: alias, models, no_store, provider"),
        ("EXTRA_HEADERS", '"x-tenant"', 'write a list, such as ["x-tenant"]'),
        ("EXTRA_HEADERS", "[3]", "write a text, in quotes"),
        ("COMPRESSION__LEVEL", "99", "(environment, GENAI_CACHE_COMPRESSION__LEVEL)"),
        ("NAMESPACE", "../up", "such as team-a"),
        ("NAMESPACE", "../up", "namespace='../up' (environment, GENAI_CACHE_NAMESPACE)"),
        ("ORIGINS", "{", "GENAI_CACHE_ORIGINS (environment) is not JSON: write it like '{\"https://"),
        ("EXTRA_HEADERS", "authorization", "GENAI_CACHE_EXTRA_HEADERS (environment) is not JSON: write it like '[\"x-"),
        ("ORIGINS", '{"https://x": {"aliass": "y"}}', "aliass"),
        ("TLL", "1h", "did you mean ttl?"),
        ("CONNECT_TIMEOUT", "500", "is not a time-out"),
        ("MAXMEMORY", "much", "maxmemory='much' (environment, GENAI_CACHE_MAXMEMORY)"),
        ("EVICTION_POLICY", "volatile_lru", "did you mean volatile-lru?"),
        ("RETRY__MAX_ATTEMPTS", "many", "(environment, GENAI_CACHE_RETRY__MAX_ATTEMPTS): write a whole number"),
        ("RETRY__BACKOFF", "exponentil", "did you mean exponential?"),
        ("RETRY__FIRST_PAUSE", "2", "is not a time-out"),
        ("RETRY__ATTEMPTS", "2", "did you mean max_attempts?"),
        ("RETRY", "3", "write a table"),
        ("COMMAND_TIMEOUT", "2h", "is not a time-out"),
        ("BUDGET", "two", "write an amount in US dollars, above zero"),
        ("BUDGET_UNKNOWN", "-1", "write an amount in US dollars, 0 or more"),
        ("ENCRYPTION", "key_vault", "did you mean key-vault"),
        ("ENCRYPTION", "of", "did you mean off?"),
        ("PERSON", "Andr\udce9", "half a surrogate pair: UTF-8 has to hold it"),
        ("MACHINE", "lab-\udce9", "(environment, GENAI_CACHE_MACHINE)"),
    ],
)
def test_a_wrong_value_names_setting_value_source_and_fix(monkeypatch, name, value, said):
    """The message says what, where and what to do."""
    monkeypatch.setenv(f"GENAI_CACHE_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "variable", "shown"),
    [
        ("l2", "AZURE_REDIS_HOST", "rediss://team.redis.example"),
        ("key_vault_url", "AZURE_KEYVAULT_URL", "team.redis.example"),
        ("l2_password", "AZURE_REDIS_KEY", "(set)"),
        ("l2_connection_string", "AZURE_STORAGE_CONNECTION_STRING", "(set)"),
        ("l2_account_key", "AZURE_STORAGE_KEY", "(set)"),
        ("l2_account", "AZURE_STORAGE_ACCOUNT", "team.redis.example"),
    ],
)
def test_a_variable_of_azures_own_is_named_as_the_source(monkeypatch, setting, variable, shown):
    """Nobody shares a cache, or shows a credential to a server, by a default that doesn't say where it came from."""
    assert source_of(setting) == ("none", "default")
    monkeypatch.setenv(variable, "team.redis.example")
    assert source_of(setting) == (shown, f"environment, {variable}")
    monkeypatch.setenv(f"GENAI_CACHE_{setting.upper()}", "none")
    assert source_of(setting)[1] == "environment"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("hushhush", "(no address)"),
        ("team.redis.example:6380,password=hushhush,ssl=True", "(no address), (no address), (no address)"),
        ("AccountName=team;AccountKey=hushhush==", "(no address)"),
        ("rediss://u:hushhush@team.redis.example,password=hushhush", "rediss://team.redis.example, (no address)"),
        ("redis://:hush/hush@team.redis.example:6379", "(no address)"),
        ("redis://user:hush/hush=@team.redis.example", "(no address)"),
        ("redis://:hush?hush@team.redis.example", "(no address)"),
        ("redis://:hush hush@team.redis.example", "(no address)"),
        ("redis://user:12/hush?hush@team.redis.example", "(no address)"),
        ("rediss://user:12#hush@team.redis.example", "(no address)"),
        ("redis://:hush[hush@team.redis.example", "redis://team.redis.example"),
        ("redis://:hush'hush@team.redis.example/2", "redis://team.redis.example/2"),
        ("redis://:hush@hush@team.redis.example", "redis://team.redis.example"),
        ("redis://:hush,hush@team.redis.example", "(no address), (no address)"),
        ("redis://user:hush,redis://h", "(no address), redis://h"),
        ("redis+cluster://[::1]:7000", "redis+cluster://[::1]:7000"),
        ("https://a.blob.example/team/?sig=hush@hush#hush", "https://a.blob.example/team/"),
        ("http://127.0.0.1:10000/account/team?hush/hush", "http://127.0.0.1:10000/account/team"),
        ("azure-blob://team", "azure-blob://team"),
    ],
)
def test_what_is_no_address_of_a_team_tier_is_not_shown(monkeypatch, given, shown):
    """Portals offer connection strings to copy, with the key in them."""
    monkeypatch.setenv("GENAI_CACHE_L2", given)
    assert source_of("l2")[0] == shown


def test_a_team_tier_can_be_switched_off(monkeypatch):
    """By `none`, whatever Azure's variables say."""
    monkeypatch.setenv("AZURE_REDIS_HOST", "team.redis.example")
    monkeypatch.setenv("GENAI_CACHE_L2", "none")
    assert load_settings().l2 == ()


def test_values_are_shown_as_they_are_written():
    """What ``config`` shows can be written into a file."""
    assert source_of("l2_create_container")[0] == "false"
    assert source_of("max_stale")[0] == "5s; Blob 30s"


@pytest.mark.parametrize("heading", ["[tool.genai-cache-magic]", "[tool.genai-cache-magic.cdn]"])
@pytest.mark.parametrize("whose", ["project", "own"])
def test_a_heading_of_pyproject_in_another_file_is_called_so(elsewhere, heading, whose):
    """What was copied from a page is no unknown setting `tool`: which line to leave out is said."""
    own = elsewhere / "config" / "genai-cache" / "config.toml"
    path = own if whose == "own" else elsewhere / "project" / "genai-cache.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{heading}\nttl = "1d"\n')
    with pytest.raises(ConfigurationError, match=r"belongs into pyproject\.toml; here leave that line out"):
        load_settings()


@pytest.mark.parametrize(
    "text", ["ttl = ", "[tool.genai-cache-magic\n", "\xff", pytest.param("x = " + "[" * 3000, id="deep")]
)
def test_a_file_that_is_not_toml_is_named(elsewhere, text):
    """An unreadable file is an error with its path, at load time already."""
    path = elsewhere / "project" / "genai-cache.toml"
    path.write_bytes(text.encode("latin-1"))
    for read in (load_settings, check_syntax):
        with pytest.raises(ConfigurationError) as caught:
            read()
        assert str(path) in str(caught.value)


def test_a_table_that_is_none_is_named(elsewhere):
    """`tool.genai-cache-magic = 3` is no table."""
    (elsewhere / "project" / "pyproject.toml").write_text("[tool]\ngenai-cache-magic = 3\n")
    with pytest.raises(ConfigurationError):
        load_settings()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/cache", "{home}/cache"),
        ("$SCRATCH/cache", "{home}/scratch/cache"),
        ("${SCRATCH}/cache", "{home}/scratch/cache"),
        ("$TWICE/cache", "{home}/$SCRATCH/cache"),
        ("cache", "{here}/cache"),
    ],
)
@pytest.mark.parametrize("name", ["dir", "key_file"])
def test_places_are_expanded_once(elsewhere, monkeypatch, name, written, meant):
    """Variables and ``~`` are put in where settings are read, and the path no longer depends on where that was."""
    monkeypatch.setenv("HOME", str(elsewhere))
    monkeypatch.setenv("SCRATCH", f"{elsewhere}/scratch")
    monkeypatch.setenv("TWICE", f"{elsewhere}/$SCRATCH")
    expected = meant.format(home=elsewhere, here=elsewhere / "project" / "notebooks")
    monkeypatch.setenv(f"GENAI_CACHE_{name.upper()}", written)
    settings = load_settings()
    monkeypatch.chdir("/")
    assert str(getattr(settings, name)) == expected


@pytest.mark.parametrize("written", ["$NOWHERE/cache", "${NOWHERE}", "~nobody-of-this-name/cache", 3])
def test_a_place_that_means_nothing_is_refused(monkeypatch, written):
    """A variable that is not set, or a user that is not known, is an error that names the setting."""
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ConfigurationError, match="dir="):
        load_settings(dir=written)


def test_machine_identity_is_stable():
    """Two readings on one host agree and say something."""
    assert machine_identity() == machine_identity() != ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), (" 1.5 h ", 5400)],
)
def test_durations(text, seconds):
    """Durations are numbers with a unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1y", "-1", "0", "1e3", True, None, "1h30m", "9999d", "90", 90, "0.5"])
def test_wrong_durations(text):
    """Anything else is refused."""
    with pytest.raises(ConfigurationError):
        parse_duration(text)


@pytest.mark.parametrize("text", ["7", 7, " 1.5 "])
def test_a_duration_without_a_unit_is_refused_with_the_units(text):
    """A bare 7 is seconds to one reader and days to another: the message spells out what may be meant."""
    with pytest.raises(ConfigurationError, match=rf"{str(text).strip()}d or"):
        parse_duration(text)


def test_a_number_in_code_is_seconds():
    """Where a signature says [s], as in Redis's `expire`, a number is that; a text still needs its unit."""
    assert parse_seconds(60) == parse_seconds(60.0) == parse_seconds("1m") == 60
    for wrong in ("60", True, -1, 0):
        with pytest.raises(ConfigurationError):
            parse_seconds(wrong)


@pytest.mark.parametrize("text", ["1s", "90s", "90m", "25h", "30d", "3650d"])
def test_durations_are_spelled_as_they_are_read(text):
    """What `config` prints can be written into a configuration."""
    assert spell_duration(parse_duration(text)) == text


@pytest.mark.parametrize("text", ["0", "1 B", "1000 B", "1 KiB", "1536 MiB", "1 GiB"])
def test_sizes_are_spelled_as_they_are_read(text):
    """The same of sizes."""
    assert spell_size(parse_size(text)) == text


@pytest.mark.parametrize(("text", "size"), [("1kb", 1024), ("1KiB", 1024), (4096, 4096), ("2gb", 2 * 1024**3)])
def test_sizes(text, size):
    """Sizes are in powers of 1024."""
    assert parse_size(text) == size


def test_wrong_sizes():
    """A size needs a number."""
    with pytest.raises(ConfigurationError):
        parse_size("large")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("{home}", "~"),
        ("{home}/x", "~/x"),
        ("kept in {home}/x.", "kept in ~/x."),
        ("`chmod 700 {home}/x`", "`chmod 700 ~/x`"),
        ("`chmod 700 '{home}/a b'`", "`chmod 700 ~/'a b'`"),
        ("file://{home}/x", "file://~/x"),
        ("{home}2/x", "{home}2/x"),
        ("/srv{home}/x", "/srv{home}/x"),
        ("{home}.old", "{home}.old"),
    ],
)
def test_the_home_is_shown_as_people_write_it(elsewhere, monkeypatch, path, shown):
    """Wherever a path or a sentence is shown, and in every error of ours; a path that only begins alike is another."""
    monkeypatch.setenv("HOME", "/home/someone")
    given, expected = (text.format(home="/home/someone") for text in (path, shown))
    assert tilde(given) == expected
    assert str(ConfigurationError(given)) == expected


@pytest.mark.parametrize("home", ["", "/"])
def test_no_home_is_none(elsewhere, monkeypatch, home):
    """A home that is everything, or unknown, shortens nothing."""
    monkeypatch.setenv("HOME", home)
    assert tilde("/etc/x") == "/etc/x"


def test_settings_of_the_tier_are_shown_as_they_are_written(monkeypatch):
    """Also where the default is none."""
    assert [source_of(name)[0] for name in ("maxmemory", "eviction_policy")] == ["none", "none"]
    assert source_of("retry") == ("exponential, 500ms to 60s, without end", "default")
    monkeypatch.setenv("GENAI_CACHE_MAXMEMORY", "2gb")
    monkeypatch.setenv("GENAI_CACHE_EVICTION_POLICY", "volatile-lru")
    monkeypatch.setenv("GENAI_CACHE_RETRY__MAX_ATTEMPTS", "3")
    monkeypatch.setenv("GENAI_CACHE_MAX_STALE", "90s")
    shown = [source_of(name)[0] for name in ("maxmemory", "eviction_policy", "retry", "max_stale")]
    assert shown == ["2 GiB", "volatile-lru", "exponential, 500ms to 60s, at most 3 times", "90s"]
