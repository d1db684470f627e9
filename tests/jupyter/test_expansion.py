"""Variables in the options of the magic: expanded as in IPython's own, when they are read, and never in the body."""

from __future__ import annotations

import json

import pytest
from IPython.core.interactiveshell import InteractiveShell

from genai_cache_magic import last_cell
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.expansion import expanded
from genai_cache_magic.jupyter.grammar import COMMANDS, option_strings


@pytest.fixture
def shell(isolated):
    """A shell with the extension, whose outputs are kept."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.shown = []
    shell.display_pub.publish = lambda data, *_, **__: shell.shown.append(data)
    shell.run_line_magic("load_ext", "genai_cache_magic")
    yield shell
    shell.run_line_magic("unload_ext", "genai_cache_magic")
    InteractiveShell.clear_instance()


def run(shell, text):
    result = shell.run_cell(text)
    result.raise_error()
    return result.result


SETUP = (
    'name, number, spaced, thing = "exp", 7, "two words --mode off", {"a": "x"}\nclass Conf: kind = "dev"\nconf = Conf'
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{name}", "exp"),
        ("$name", "exp"),
        ("$name-1", "exp-1"),
        ("run-{number:03}", "run-007"),
        ("{name!r}", "'exp'"),
        ("{name.upper()}", "EXP"),
        ("{thing['a']}", "x"),
        ("{name[1:]}", "xp"),
        ("$conf.kind", "dev"),
        ("{spaced}", "two words --mode off"),
        ('"$spaced!"', "two words --mode off!"),
        ("{{name}}", "{name}"),
        ("$$name", "$name"),
        ("5$", "5$"),
        ("'{name} $name'", "exp $name"),
        ("'a {nobody} $c'", "a {nobody} $c"),
        ("'a{1,3} b{2} c{2,} d{,4} {name} {{5}}'", "a{1,3} b{2} c{2,} d{,4} exp {5}"),
    ],
)
def test_an_option_is_expanded(shell, written, read):
    """By name or expression, each value one word whatever it holds; doubled signs stand for themselves."""
    run(shell, SETUP)
    run(shell, f"%%llm_cache --run {written} --tag a\n1")
    assert (last_cell().options.run, last_cell().options.mode.value) == (read, "use")
    assert run(shell, f"%llm_cache on --run {written}") is None
    run(shell, "1")
    assert last_cell().options.run == read


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{nme}", "there is no variable nme"),
        ("$nme", "write $$nme for the text itself"),
        ("{name.x}", "AttributeError"),
        ("{1/0}", "ZeroDivisionError"),
        ("{name", "write {{ and }}"),
        ("{}", "write {{}} for the text itself"),
    ],
)
@pytest.mark.parametrize(
    "line", ["%%llm_cache --run {}\n1", "%llm_cache on --run {}", "%llm_cache invalidate --tag {}"]
)
def test_what_can_not_be_expanded_is_an_error_in_words(shell, written, said, line):
    """Not left as it stands: a run called "{nme}" is nobody's wish."""
    run(shell, SETUP)
    with pytest.raises(ConfigurationError) as caught:
        run(shell, line.replace("{}", written, 1))
    assert said in str(caught.value)


def test_the_body_is_never_touched(shell):
    """Braces and dollars of a prompt are its own, under any magic of ours."""
    run(shell, SETUP)
    assert run(shell, '%%llm_cache --run {name}\n"{name} $name {{}}"') == "{name} $name {{}}"
    assert json.loads(run(shell, '%%llm_cache\nimport json; json.dumps({"$name": "{number}"})')) == {
        "$name": "{number}"
    }


def test_a_line_is_expanded_when_it_runs(shell):
    """Not when the cell is read: the same cell has another run once the variable is another."""
    for name in ("first", "second"):
        run(shell, f"name = {name!r}")
        run(shell, "%%llm_cache --run {name}\n1")
        assert last_cell().options.run == name


def test_a_name_of_the_function_that_the_magic_is_in(shell):
    """As in IPython, what is local there counts before the notebook's."""
    run(shell, SETUP)
    run(shell, "def inner(name):\n    get_ipython().run_line_magic('llm_cache', 'on --run $name')\ninner('local')\n1")
    run(shell, "1")
    assert last_cell().options.run == "local"


def test_a_plain_line_is_left_alone(shell):
    """Nothing is read where there is nothing to expand, not even quotes."""
    assert expanded("--tag 'a", shell) == "--tag 'a"


# --- what a wrong line, or a question, is told


@pytest.mark.parametrize("line", ["%llm_cache help", "%llm_cache --help", "%llm_cache -h", "%%llm_cache --help\n1"])
def test_help_is_shown(shell, line):
    """Options, commands and what each is for."""
    run(shell, line)
    shown = shell.shown[0]["text/plain"]
    for word in ("--ttl TTL", "--quiet", "%llm_cache invalidate", "12h"):
        assert word in shown


@pytest.mark.parametrize("head", ["%%llm_cache -h", "# why\n%%llm_cache --ttl 1d --help", "%%llm_cache help"])
def test_a_cell_that_asks_for_help_does_not_run(shell, head):
    """Who asks what can be written has not chosen it yet, so nothing of the cell may be spent."""
    run(shell, f"{head}\nran = 1\n")
    assert "--ttl TTL" in shell.shown[0]["text/plain"]
    assert len(shell.shown) == 1
    assert "ran" not in shell.user_ns


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"help"}))
def test_a_command_tells_its_options(shell, command):
    """`--help` after a command does nothing but tell, of that command alone."""
    for option in ("--help", "-h"):
        run(shell, f"%llm_cache {command} {option}")
        assert f"%llm_cache {command}: {COMMANDS[command]}" in shell.shown[-1]["text/plain"]
    shown = shell.shown[-1]["text/plain"]
    assert ("--tag TAG" in shown) is (command in {"invalidate", "on", "warm"})
    assert ("takes no options" in shown) is (not option_strings(command) and command != "runs")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%%llm_cache --ttl -3d\n1", "ttl='-3d' is not a duration: write a number and s, m, h, d or w, such as 12h"),
        ("%%llm_cache --ttl 3\n1", "3d or 3w"),
        ("%%llm_cache --ttl\n1", "--ttl TTL wants its value: how long answers are good, such as 12h or 30d"),
        ("%%llm_cache --mode --quiet\n1", "--mode MODE wants its value"),
        ("%%llm_cache --namespace a/b\n1", "such as team-a"),
        ("%llm_cache invalidate --older-than 7", "7d or 7w"),
        ("%llm_cache invalidate --older-than -7d", "'-7d' is not a duration"),
    ],
)
def test_a_wrong_option_is_told_its_fix(shell, line, said):
    """What is wrong, and what to write instead; no raw pattern, no parser's words."""
    with pytest.raises(ConfigurationError) as caught:
        run(shell, line)
    assert said in str(caught.value)


def test_nothing_that_is_saved_names_the_home(shell, isolated, monkeypatch):
    """What commands, badges and errors print into a notebook says `~`, wherever it comes from."""
    home = str(isolated.resolve())
    monkeypatch.setenv("HOME", home)
    for line in ("%llm_cache stats", "%llm_cache config", "%llm_cache status", "%%llm_cache\n1"):
        run(shell, line)
    shown = json.dumps(shell.shown)
    assert "~/cache" in shown
    assert home not in shown


def test_an_error_names_no_home_either(shell, isolated, monkeypatch):
    """It is saved with the notebook as well."""
    monkeypatch.setenv("HOME", str(isolated.resolve()))
    (isolated / "file").touch()
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated.resolve() / "file"))
    with pytest.raises(ConfigurationError, match="cache directory ~/file is a file") as caught:
        run(shell, "%llm_cache stats")
    assert str(isolated.resolve()) not in str(caught.value)
