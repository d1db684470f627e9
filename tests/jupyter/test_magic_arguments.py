"""The grammar of the magic: what is read, and that every mistake is an error that names its fix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from genai_cache_magic.cli.main import app
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.arguments import (
    Selection,
    parse_cell,
    parse_clear,
    parse_invalidate,
    parse_nothing,
    split_command,
    usage,
)
from genai_cache_magic.jupyter.grammar import COMMANDS


def test_options_of_a_cell_are_read_as_text():
    """Repeated options become tuples, what is not given is not there."""
    read = parse_cell("--tag a --tag 'b {c}' --ttl 30d --mode=use --store truncated --samples distinct --quiet")
    assert read.given == {
        "tags": ("a", "b {c}"), "ttl": "30d", "mode": "use", "store": ("truncated",), "samples": "distinct",
    }  # fmt: skip
    assert read.quiet
    assert parse_cell("") == parse_cell("  ")
    assert parse_cell("").given == {}


def test_a_command_for_terminals_says_so():
    """Whatever `genai-cache` knows and the magic does not."""
    for command in get_command(app).commands.keys() - COMMANDS.keys():
        with pytest.raises(ConfigurationError, match=f"in a terminal it is genai-cache {command}"):
            split_command(command)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--tags a", "did you mean --tag"),
        ("--sample distinct", "did you mean --samples"),
        ("--refresh", "known are --mode"),
        ("--tag", "--tag TAG wants its value"),
        ("--tag 'open", "close the quote"),
        ("status", "%llm_cache status"),
        ("baseline", "'baseline'"),
        ("--budget", "--budget USD wants its value"),
    ],
)
def test_a_wrong_option_is_an_error_with_its_fix(line, said):
    """Not a UsageError, which leaves no trace in an executed notebook."""
    with pytest.raises(ConfigurationError) as caught:
        parse_cell(line)
    assert said in str(caught.value)
    assert caught.value._render_traceback_() == [f"ConfigurationError: {caught.value}"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_split_from_its_rest(command):
    """The first word is the command."""
    assert split_command(f" {command}   --x  y ") == (command, "--x  y")


def test_an_empty_line_asks_for_the_status():
    """``%llm_cache`` alone says what is in force."""
    assert split_command("") == ("status", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("invaldate --tag a", "did you mean invalidate"),
        ("xyz", "known are status"),
        ("--tag a", "%%llm_cache"),
    ],
)
def test_an_unknown_command_is_an_error_with_its_fix(line, said):
    """It says what is meant, or known."""
    with pytest.raises(ConfigurationError, match="%llm_cache") as caught:
        split_command(line)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--tag a --dry-run", Selection("tag", "a", dry_run=True)),
        ("--entry 0a1b2c --yes", Selection("entry", "0a1b2c", yes=True)),
        ("--cell", Selection("cell", "")),
        ("--older-than 7d", Selection("older_than", "7d")),
        ("'gpt-4.1*'", Selection("pattern", "gpt-4.1*")),
        ("--model m", Selection("model", "m")),
        ("--person p", Selection("person", "p")),
        ("--run r", Selection("run", "r")),
    ],
)
def test_what_to_invalidate_is_read(line, expected):
    """Each selector by its name, the pattern by its place."""
    assert parse_invalidate(line) == expected


@pytest.mark.parametrize("line", ["", "--dry-run", "--tag a --run b", "--tag a pattern", "a b", "--older 7d"])
def test_not_exactly_one_selector_is_an_error(line):
    """Nothing is invalidated on a guess."""
    with pytest.raises(ConfigurationError):
        parse_invalidate(line)


def test_clear_takes_its_confirmation_only():
    """``clear`` with a selector is a mistake for ``invalidate``."""
    assert parse_clear("--yes") == Selection("all", "", yes=True)
    with pytest.raises(ConfigurationError):
        parse_clear("--tag a")


def test_a_command_without_options_refuses_them():
    """A mistyped option is not ignored."""
    parse_nothing("stats", "")
    with pytest.raises(ConfigurationError):
        parse_nothing("stats", "--verbose")


@given(st.text(max_size=60))
def test_no_line_breaks_the_parser(line):
    """Whatever is typed, it is read or it is a ConfigurationError."""
    for parse in (parse_cell, parse_invalidate, parse_clear, split_command):
        try:
            result = parse(line)
        except ConfigurationError:
            continue
        assert result is not None


def test_help_for_runs_says_what_may_be_written():
    """A line for each of its words, with their options."""
    said = usage("runs").bundle()["text/plain"]
    assert "it takes no options" not in said
    for written in ("diff A B", "export NAME FILE", "--plaintext", "import FILE", "--as NAME"):
        assert written in said


@pytest.mark.parametrize("command", ["entries", "keys", "gc"])
def test_a_command_of_the_terminal_is_named_there(command):
    """Who writes it in a cell learns where it belongs."""
    with pytest.raises(ConfigurationError, match=f"in a terminal it is genai-cache {command}$"):
        split_command(command)
