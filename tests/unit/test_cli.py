"""The command: what it shows, what it changes, and how it fails."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys

import pytest
from commands import PROMPT, invalidated, one_answer, run_command, unconfigured_home  # noqa: F401 - fixtures
from typer.main import get_command

from genai_cache_magic import create_cache
from genai_cache_magic.cli.main import app
from genai_cache_magic.cli.overview import SECTIONS
from genai_cache_magic.cli.profile import LINE

pytestmark = pytest.mark.usefixtures("home")


def test_help_lists_what_there_is(run):
    """Without arguments the command shows its help: each command once, in a section, in a whole sentence."""
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "..." not in out.partition("First steps:")[2]
    sections = [name for names in SECTIONS.values() for name in names]
    assert sorted(sections) == sorted(name for name, command in get_command(app).commands.items() if not command.hidden)
    assert [name for name in sections if not re.search(rf"^  {name}  +\S", out, re.MULTILINE)] == []


@pytest.mark.parametrize("group", ["keys", "runs", "access", "alerts"])
def test_help_of_a_group_is_whole(run, group):
    """No sentence about a command is cut."""
    code, out, _ = run(group, "--help")
    assert code == 0
    assert "..." not in out.partition("Commands:")[2]


def commands(group):
    """Return all commands of a group, those of its groups too."""
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


@pytest.mark.parametrize("command", [pytest.param(one, id=one.name) for one in commands(get_command(app))])
def test_arguments_are_called_alike(command):
    """In capitals and in one pair of brackets at most, by a name of ours and not by that of a variable."""
    (usage,) = re.findall(
        r"Usage: .*", command.get_usage(command.make_context(command.name, [], resilient_parsing=True))
    )
    shown = usage.partition("[OPTIONS]")[2].split()
    assert [word for word in shown if not re.fullmatch(r"(\{[A-Z|]+\}|\[[A-Z|]+\])(\.\.\.)?", word)] == []


@pytest.mark.parametrize(
    ("typed", "command"), [(("stat",), "genai-cache"), (("access", "grant"), "genai-cache access grant")]
)
def test_what_is_mistyped_says_where_to_read(run, typed, command):
    """One line on standard error, which names the help of the command that was meant."""
    code, out, err = run(*typed)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"({command} --help says what it takes)\n")


def test_version(run):
    """`--version` names the version that is installed."""
    from genai_cache_magic import __version__

    assert run("--version") == (0, f"genai-cache {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["invalidat"], "invalidat"),
        (["invalidate", "--tagg", "x"], "--tag"),
        (["invalidate"], "--older-than"),
        (["invalidate", "--tag", "a", "--run", "b"], "tag and run"),
        (["invalidate", "--older-than", "soon"], "soon"),
        (["invalidate", "--entry", "xyz"], "--entry"),
        (["entries", "--limit", "0"], "--limit"),
        (["stats", "--namespace", "../up"], "namespace"),
        (["clear"], "--yes"),
        (["enable", "--profile", "../up"], "--profile"),
        (["keys", "show"], "key file"),
        (["demo", "--live"], "OPENAI_API_KEY"),
    ],
)
def test_trouble_is_one_line(run, monkeypatch, arguments, said):
    """What can't be done is one line that names the thing, exit code 2, and no traceback."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert said in err


def test_a_wrong_setting_is_one_line(run, monkeypatch):
    """A misspelt variable is named with the right spelling, by every command."""
    monkeypatch.setenv("GENAI_CACHE_NAMESPASE", "x")
    assert run("stats") == (
        2,
        "",
        (
            "genai-cache: namespase (environment, GENAI_CACHE_NAMESPASE) is no setting of genai-cache: "
            "did you mean namespace?\n"
        ),
    )


def test_config_names_sources(run, home):
    """`config` shows each value and where it was set."""
    (home / "genai-cache.toml").write_text('ttl = "7d"\n')
    code, out, _ = run("config")
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert code == 0
    assert lines["ttl"][1:] == ["7d", "~/genai-cache.toml"]
    assert lines["dir"][2] == "environment"
    assert lines["mode"][1:] == ["use", "default"]


def test_stats_of_an_empty_and_a_filled_cache(run, request):
    """`stats` counts what is there, also when that is nothing."""
    assert "0 answers" in run("stats")[1]
    request.getfixturevalue("answered")
    code, out, _ = run("stats")
    assert code == 0
    assert "1 answer," in out
    assert "gpt-4.1-mini  1" in out


@pytest.mark.usefixtures("answered")
def test_entries_show_prompts_only_on_request(run):
    """`entries` lists answers with their tags; the start of a prompt only with `--previews`."""
    _, out, _ = run("entries")
    assert "gpt-4.1-mini" in out
    assert "kept" in out
    assert PROMPT not in out
    assert PROMPT in run("entries", "--previews")[1]
    assert "0 answers" in run("entries", "claude*")[1]


def test_a_long_key_makes_no_wide_table(run, home):
    """Its start is shown, by which it is found, as by its id; scripts get all of it."""
    keys = {start + ' ["x"]' * 1_000 for start in ("one", "two")}
    with create_cache("disk") as cache:
        cache.mset(dict.fromkeys(keys, 1))
    lines = run("entries")[1].splitlines()[1:-1]
    assert max(map(len, lines)) < 200
    found = {line.split()[0]: line[line.index(line.split()[1]) : line.index("…") + 1] for line in lines}
    assert {name[:3] for name in found.values()} == {"one", "two"}
    for entry, name in found.items():
        assert invalidated(run("invalidate", name, "--dry-run")[1]) == "1"
        assert invalidated(run("invalidate", "--entry", entry, "--dry-run")[1]) == "1"
    told = {json.loads(line)["name"] for line in run("entries", "--json")[1].splitlines()}
    assert told == keys


def test_an_id_in_a_name_is_shown_by_its_start(run, home):
    """What is shown can be typed again, and scripts get all of it."""
    with create_cache("disk") as cache:
        key = cache.key_for({"asked": "by hand"})
        cache.set(key, 1)
        cache.set(f"call:module.f:{key}", 2)
        cache.set(f"{key}0", 3)  # no id, however alike
    code, out, _ = run("entries")
    assert "unknown" not in out  # no model was asked: there is nothing that could be known
    assert code == 0
    names = [line.split()[1] for line in out.splitlines()[1:-1]]
    assert sorted(names) == sorted([f"{key[:12]}…", f"call:module.f:{key[:12]}…", f"{key}0"])
    told = [json.loads(line)["name"] for line in run("entries", "--json")[1].splitlines()]
    assert sorted(told) == sorted([key, f"call:module.f:{key}", f"{key}0"])
    assert "1 answer" in run("entries", f"call:module.f:{key[:12]}…")[1]
    assert invalidated(run("invalidate", f"call:module.f:{key[:12]}…", "--yes")[1]) == "1"
    assert "2 answers" in run("entries")[1]


def test_an_id_is_typed_as_its_start(run, home):
    """Six digits are enough where they fit one answer; more than one is refused."""
    with create_cache("disk") as cache:
        cache.set("one", 1)
        cache.set("two", 2)
    ids = {row["name"]: row["id"] for row in map(json.loads, run("entries", "--json")[1].splitlines())}
    assert ids["one"][:6] != ids["two"][:6]
    assert run("explain", ids["one"][:6])[0] == 0
    assert invalidated(run("invalidate", "--entry", ids["one"][:6])[1]) == "1"
    code, _, err = run("invalidate", "--entry", ids["two"][:5])
    assert (code, "at least 6 hex digits" in err) == (2, True)


def test_a_name_can_not_command_the_terminal(run, home):
    """Escape sequences in names of others are shown as a mark, not sent to the terminal."""
    with create_cache("disk") as cache:
        cache.set("red\r\x07\x9b31m", 1)
    _, out, _ = run("entries")
    assert "red" in out
    assert not {"\r", "\x07", "\x9b"} & set(out)


@pytest.mark.usefixtures("answered")
@pytest.mark.parametrize(
    ("selector", "count"),
    [
        (["--tag", "kept"], "1"),
        (["--tag", "other"], "0"),
        (["--run", "sweep"], "1"),
        (["--model", "gpt-4.1-mini"], "1"),
        (["--person", "nobody"], "0"),
        (["--older-than", "1d"], "0"),
        (["gpt-4.1*"], "1"),
    ],
)
def test_invalidate_by_every_selector(run, selector, count):
    """A dry run counts what the real one then invalidates, and changes nothing itself."""
    assert invalidated(run("invalidate", *selector, "--dry-run")[1]) == count
    assert "1 answer," in run("stats")[1]
    assert invalidated(run("invalidate", *selector)[1]) == count
    assert ("1 answer," if count == "0" else "0 answers,") in run("stats")[1]


@pytest.mark.usefixtures("answered")
def test_clear_touches_one_namespace(run, home):
    """`clear --yes` empties the namespace that it was given, and no other."""
    with create_cache("disk", namespace="other") as cache:
        cache.set("a", 1)
    assert run("clear", "--dry-run")[1] == "1 of 1 known answer would be invalid; nothing was changed\n"
    assert run("clear", "--yes")[1] == "1 of 1 known answer made invalid, on this machine alone\n"
    assert "0 answers" in run("stats")[1]
    assert "1 answer," in run("stats", "--namespace", "other")[1]


def test_gc_removes_what_can_not_be_served(run, home):
    """`gc` removes entries that were invalidated elsewhere and files that no row names, and keeps the rest."""
    with create_cache("disk") as cache:
        cache.set("kept", 1)
        cache.set("stale", 2, tags=("old",))
        stale = cache._keys.tag("user", "old")
        cache._entries.generations.change(lambda g: g.invalidating_tags([stale]))
    shard = home / "cache/v1/default/l1/ab/cd"
    shard.mkdir(parents=True)
    for n in range(500):  # each opening of a cache sweeps a few of them
        (shard / f"{n:028x}.val").write_bytes(b"left by a killed writer")
        os.utime(shard / f"{n:028x}.val", (0, 0))
    with create_cache("disk") as cache:
        assert cache._entries.store.count() == 2
    code, out, _ = run("gc")
    with create_cache("disk") as cache:
        assert cache.get("kept") == 1
        assert cache._entries.store.count() == 1
    assert code == 0
    assert out.startswith("1 answer and")
    assert not shard.exists()


def test_keys_travel(run, home, monkeypatch):
    """A key that was exported is imported elsewhere, has the same fingerprint, and its file is private."""
    create_cache("disk").close()
    code, line, _ = run("keys", "export")
    shown = run("keys", "show")[1].split()[0]
    assert code == 0
    elsewhere = home / "elsewhere" / "new.key"
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(elsewhere))
    (home / "line").write_text(line)
    with (home / "line").open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert run("keys", "import")[1].split() == [shown, str(elsewhere)]
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o600


def test_enable_is_idempotent_and_leaves_no_trace(run, home):
    """`enable` adds one line however often it runs, `--remove` gives back exactly what was there."""
    path = home / "ipython/profile_default/ipython_config.py"
    path.parent.mkdir(parents=True)
    path.write_text("c = get_config()\nc.TerminalInteractiveShell.confirm_exit = False")
    before = path.read_text()
    assert run("enable")[0] == 0
    assert "as it was before" in run("enable")[1]
    assert path.read_text().splitlines().count(LINE) == 1
    assert run("enable", "--remove")[0] == 0
    assert path.read_text().rstrip("\n") == before
    assert "as it was before" in run("enable", "--remove")[1]


def test_enable_follows_a_link(run, home):
    """A configuration under version control stays a link to its file."""
    (home / "dotfile.py").write_text("")
    path = home / "ipython/profile_work/ipython_config.py"
    path.parent.mkdir(parents=True)
    path.symlink_to(home / "dotfile.py")
    assert run("enable", "--profile", "work")[0] == 0
    assert path.is_symlink()
    assert LINE in (home / "dotfile.py").read_text()


def test_enable_loads_the_extension_in_a_shell(run):
    """After `enable` a new IPython shell knows the magic without `%load_ext`."""
    run("enable")
    shell = subprocess.run(
        [sys.executable, "-m", "IPython", "--colors=NoColor", "-c", "%llm_cache status"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "llm_cache is on for cells" in shell.stdout


@pytest.mark.parametrize(("answer", "left"), [("n", "1 answer,"), ("y", "0 answers")])
def test_clear_asks_at_a_terminal(run, home, answer, left):
    """At a terminal `clear` asks, and does what it is told."""
    with create_cache("disk") as cache:
        cache.set("a", 1)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "genai_cache_magic.cli.main", "clear"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        asked = b""
        while b"[y/N]" not in asked:
            asked += os.read(ours, 1024)
        os.write(ours, f"{answer}\n".encode())
        assert process.wait() == 0
    os.close(ours)
    assert b"namespace default" in asked
    assert left in run("stats")[1]


def test_a_closed_pipe_is_no_error(run, home):
    """A reader that has seen enough, such as `head`, causes no error message."""
    with create_cache("disk") as cache:
        cache.mset({f"key-{n:05}-{'x' * 100}": 1 for n in range(900)})
    command = [sys.executable, "-m", "genai_cache_magic.cli.main", "entries", "--json", "--limit", "900"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b'{"id"')
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""


def test_help_imports_nothing_heavy():
    """`genai-cache --help` reads no settings and imports neither IPython nor a store nor a client."""
    heavy = ["IPython", "pydantic", "diskcache", "cryptography", "httpx", "openai", "nbclient", "zstandard"]
    code = (
        "import sys; from genai_cache_magic.cli.main import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print('LOADED', [name for name in {heavy} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("LOADED []\n")


def test_a_home_that_can_not_be_written_is_said_with_its_fix(run, home, monkeypatch):
    """Every command that writes names what to set; none takes a place that is gone tomorrow."""
    (home / "file").touch()
    for name in ("GENAI_CACHE_DIR", "GENAI_CACHE_KEY_FILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home / "file"))
    (home / "genai-cache.toml").write_text('ttl = "1h"\n')
    for words, fix in (
        (["stats"], "GENAI_CACHE_DIR"),
        (["keys", "show"], "GENAI_CACHE_KEY_FILE"),
        (["trust"], "XDG_CONFIG_HOME"),
        (["enable"], "IPYTHONDIR"),
    ):
        code, _, err = run(*words)
        assert (code, fix in err) == (2, True), words
    assert run("config")[0] == 0


def test_both_spellings_of_help(run):
    """`-h` and `--help`, of the command and of each of its own."""
    for words in (["-h"], ["--help"], ["trust", "-h"], ["keys", "show", "-h"]):
        code, out, _ = run(*words)
        assert (code, "Usage" in out) == (0, True)


@pytest.mark.parametrize("columns", ["80", "200"])
def test_usage_folds_no_name(run, answered, monkeypatch, columns):
    """Neither in a pipe, whatever a terminal would be wide, nor in a terminal of the usual width."""
    monkeypatch.setenv("COLUMNS", columns)
    for forced in ("", "1"):
        monkeypatch.setenv("TTY_COMPATIBLE", forced)
        assert re.search(r"^\S+ +gpt-4.1-mini ", run("usage")[1], re.MULTILINE)


@pytest.mark.parametrize("words", ["runs", "keys"])
def test_a_command_of_commands_alone_shows_them(run, home, words):
    """As the command itself does."""
    code, out, err = run(words)
    assert (code, err) == (0, "")
    assert "Commands:" in out


def test_usage_of_nothing(run, home):
    """A cache that nobody has used says so, and fails nobody."""
    code, out, _ = run("usage")
    assert code == 0
    assert "spent $0, saved $0, 0 hits, 0 misses" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "last week"), "since='last week' is no day"),
        (("--until", "7"), "until='7' is no day"),
        (("--since", "today", "--until", "yesterday"), "exchange them"),
        (("--by", "colour"), "by='colour': write one or more of day, model"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_usage_of_wrong_days(run, home, arguments, said):
    """One line says which option is wrong, and what may be written."""
    code, _, err = run("usage", *arguments)
    assert code == 2
    assert said in err
