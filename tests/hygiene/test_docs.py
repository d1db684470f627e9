"""What is written for users is true of the code: settings, options, commands, examples, links, version."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from typer.main import get_command

from genai_cache_magic.cli.codes import ALWAYS, MORE
from genai_cache_magic.cli.main import app
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.core.policy import STORE_KINDS
from genai_cache_magic.jupyter.grammar import COMMANDS, option_strings
from genai_cache_magic.providers.base import End
from genai_cache_magic.settings.edges import CdnSettings
from genai_cache_magic.settings.limits import LimitSettings
from genai_cache_magic.settings.model import PREFIX, CompressionSettings, OriginSettings, RetrySettings, Settings
from genai_cache_magic.settings.monitoring import ALERTS, METRICS, MonitoringSettings
from genai_cache_magic.settings.network import NetworkSettings
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.settings.trust import decides_trust

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "design").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIABLE = re.compile(r"GENAI_CACHE_[A-Z0-9_]+")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(language):
    return [
        pytest.param(block[2], id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8")))
        if block[1] == language
    ]


def variables(model, prefix=PREFIX):
    return {f"{prefix}{name.upper()}" for name in model.model_fields}


def named_by_settings():
    parts = {"CDN": CdnSettings, "COMPRESSION": CompressionSettings, "MONITORING": MonitoringSettings}
    parts |= {"LIMITS": LimitSettings, "NETWORK": NetworkSettings, "RETRY": RetrySettings}
    return variables(Settings).union(*(variables(model, f"{PREFIX}{name}__") for name, model in parts.items()))


@pytest.mark.parametrize("source", blocks("python"))
def test_python_examples_are_python(source):
    """Every Python example compiles as a notebook would run it, magics and top-level await included."""
    cell = TransformerManager().transform_cell(source)
    compile(cell, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert cell


@pytest.mark.parametrize("source", blocks("toml"))
def test_configuration_examples_are_settings(source):
    """Every configuration example is accepted."""
    table = tomllib.loads(source)["tool"]["genai-cache-magic"]
    assert load_settings(**table)


def test_every_setting_is_documented_and_no_other():
    """The page on configuration names exactly the variables that exist."""
    assert set(VARIABLE.findall(text_of("docs/configuration.md"))) == named_by_settings()


def test_what_a_project_is_not_heard_on_is_named():
    """Every setting that decides trust, one by one or by its family, and none beside them."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"A project's files \(3\) are heard on (.*?) only if", page, re.DOTALL)
    alone, families = said.split("all that begins with")
    named = set(re.findall(r"`(\w+)`", alone))
    begins = tuple(re.findall(r"`(\w+)`", families))
    deciding = {name for name in Settings.model_fields if decides_trust(name)}
    assert named | {name for name in deciding if name.startswith(begins)} == deciding


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_variable_that_is_not_there(page):
    """No page promises a variable that does not exist."""
    named = {name.rstrip("_") for name in VARIABLE.findall(page.read_text(encoding="utf-8"))}
    assert named - {"GENAI_CACHE"} <= named_by_settings()


LISTS = {"extra_headers", "key_include", "key_exclude"}


def test_documented_defaults_are_the_defaults():
    """The defaults in the table, read as a user would write them, are those of the code."""
    rows = re.findall(
        r"^\| `([\w.]+)` \| `GENAI_CACHE_\w+` \| `([^`]+)` \|", text_of("docs/configuration.md"), re.MULTILINE
    )
    told = {name: default for name, default in rows if name not in {"dir", "key_file", "origins", *LISTS}}
    flat = {name: value for name, value in told.items() if "." not in name}
    nested: dict[str, dict[str, str]] = {}
    for name in told.keys() - flat.keys():
        table, _, part = name.partition(".")
        nested.setdefault(table, {})[part] = told[name]
    assert set(nested) == {"cdn", "compression", "monitoring", "network", "retry"}
    settings = load_settings(**flat, **nested)
    assert len(flat) >= 8
    for name in flat:
        assert getattr(settings, name) == Settings.model_fields[name].default
    assert settings.compression == CompressionSettings()
    assert settings.network == NetworkSettings()
    assert settings.retry == RetrySettings()
    assert settings.cdn == CdnSettings()
    assert settings.monitoring == MonitoringSettings()


def test_what_is_watched_is_documented():
    """The page on monitoring names every number that is counted and every alert, with its threshold and window."""
    page = text_of("docs/monitoring.md")
    assert {name for name in METRICS if f"`{name}`" not in page} == set()
    rows = {name: f"| `{name}` | `{kind.threshold:g}` | `{kind.window}` |" for name, kind in ALERTS.items()}
    assert {name for name, row in rows.items() if row not in page} == set()


def test_fields_of_origins_are_told():
    """The page names what can be said of an origin."""
    page = text_of("docs/configuration.md")
    assert all(name in page for name in set(OriginSettings.model_fields) - {"circle"})  # which nobody writes


def test_the_magic_is_documented():
    """The page on the magic names every option, mode, command and selector, and what is still to come."""
    page = text_of("docs/magic.md")
    options = set(option_strings()) | set(option_strings("invalidate")) | set(option_strings("clear"))
    words = {*options, *Mode, *Samples, *(f"%llm_cache {name}" for name in COMMANDS)}
    assert {word for word in words if word not in page} == set()


def test_the_readme_names_options_that_exist():
    """Every option in the README is one of the magic's, the commands' or the tools' around them."""
    known = set(option_strings()) | {"--help", "--sealed"}  # the latter of `make team`
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text_of("README.md"))) <= known


def test_commands_are_documented():
    """The changes of this version, or the pages, name every command that is there, and none that is not."""
    there = set(get_command(app).commands)
    line = next(line for line in text_of("CHANGELOG.md").splitlines() if line.startswith("* The command `genai-cache`"))
    named = set(re.findall(r"`([a-z]+)`", line))
    assert named <= there
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert all(re.search(rf"genai-cache {name}\b", pages) for name in there - named)


def test_refusals_are_documented():
    """The page on providers names every reason for which an answer is not stored, and how to keep it."""
    page = text_of("docs/providers.md")
    reasons = {end.value for end in End} - {"complete", "tool-calls"} | {"stateful", "server-tools"}
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()
    assert set(re.findall(r"`--store ([\w-]+)`", page)) == set(STORE_KINDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every link to a file or a heading of this repository has an end."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in (link for link in links if "://" not in link):
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, link


def test_the_version_is_in_the_changes():
    """The newest section of the changes is that of the package's version, under what is not released yet."""
    sections = re.findall(r"^## (\S+)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert sections[sections[0] == "Unreleased"] == version("genai-cache-magic")


def test_simulated_is_said():
    """Where a person sees an answer of the simulated models, the page or the notebook says what it is."""
    notebook = json.loads(text_of("notebooks/quickstart.ipynb"))
    assert "simulated" in "".join(notebook["cells"][0]["source"])
    assert "simulated" in text_of("README.md")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_that_asks_a_model_says_how_to_run_it_without_a_key(path):
    """It starts the simulated models itself, or its first cell tells how to, at the port where they are by default."""
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert any("OpenAI(" in cell for cell in cells)
    if not any("SimulatedModelServer().start()" in cell for cell in cells):
        assert "python -m genai_cache_magic.testing.model_server" in cells[0]
        assert "OPENAI_BASE_URL=http://127.0.0.1:8000/v1" in cells[0]


def test_the_wheel_carries_the_notebooks():
    """The build puts each notebook where the demonstrations of an installed wheel look for it."""
    build = tomllib.loads(text_of("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert build["force-include"] == {name: f"genai_cache_magic/{name}" for name in there}


def test_every_rule_about_money_names_tests_that_exist():
    """The page on money shows each of its rules by tests that are there."""
    files = [*(ROOT / "tests" / "unit").glob("test_money*.py"), ROOT / "tests" / "unit" / "test_budgets.py"]
    tests = "".join(path.read_text(encoding="utf-8") for path in files)
    there = set(re.findall(r"def (test_\w+)", tests))
    rows = [line for line in text_of("docs/money.md").splitlines() if line.startswith("|") and "---" not in line]
    shown = [set(re.findall(r"`(test_\w+)`", row)) for row in rows if not re.search(r"\| test[^|]*\|$", row)]
    assert all(shown)
    assert set().union(*shown) <= there


def test_every_threat_names_tests_that_exist():
    """The page on security shows each row of its table of threats by tests that are there."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "genai_cache_magic" / "testing").rglob("*.py")]
    there = {name for text in texts for name in re.findall(r"def (test_\w+)", text)}
    table = text_of("docs/security.md").partition("## Threats")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|") and "---" not in line]
    shown = [set(re.findall(r"`(test_\w+)`", row)) for row in rows if not row.endswith("| test |")]
    assert len(shown) >= 15
    assert all(shown)
    assert set().union(*shown) - there == set()


def test_no_message_names_a_command_that_is_not_there():
    """What a sentence tells people to run can be run."""
    package = Path(__file__).parents[2] / "genai_cache_magic"
    named = {
        (path.name, command)
        for path in package.rglob("*.py")
        for command in re.findall(r"`genai-cache ([a-z-]+)", path.read_text(encoding="utf-8"))
    }
    assert named
    known = get_command(app).commands.keys()
    assert {(file, command) for file, command in named if command not in known} == set()


def commands(group: object, name: str = "") -> dict[str, object]:
    """Return every command that is shown, by the words that call it."""
    found: dict[str, object] = {}
    for word, command in group.commands.items():
        whole = f"{name} {word}".strip()
        found |= commands(command, whole) if hasattr(command, "commands") else {whole: command}
    return {word: command for word, command in found.items() if not command.hidden}


def test_one_table_has_the_commands_and_their_exit_codes():
    """What is there, whether it speaks to scripts, and with which codes it ends."""
    rows = re.findall(
        r"^\| `genai-cache ([a-z -]+)` \|.*\| (\w+) \| ([\d, ]+) \|$", text_of("docs/commands.md"), re.MULTILINE
    )
    said = {name: tuple(map(int, codes.split(", "))) for name, _, codes in rows}
    there = commands(get_command(app))
    assert said == {name: tuple(sorted({*ALWAYS, *MORE.get(name, ())})) for name in there}
    speaking = {name for name, command in there.items() if any("--json" in p.opts for p in command.params)}
    assert {name for name, json, _ in rows if json != "no"} == speaking == set(there)
