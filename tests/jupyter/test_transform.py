"""The input transform: pure, every line in its place, and everything that is not ours untouched."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell

from genai_cache_magic.jupyter.transform import CellTransform, has_top_level_await

transform = CellTransform()


def transformed(cell: str) -> str:
    return "".join(transform(cell.splitlines(keepends=True)))


def in_ipython(cell: str) -> str:
    manager = TransformerManager()
    manager.cleanup_transforms.append(CellTransform())
    return manager.transform_cell(cell)


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "x = 1\n",
        "# only a comment\n",
        "x = 1\n%%llm_cache\n",
        "'''\n%%llm_cache\n'''\n",
        "%%llm_cache?\n",
        "%%llm_cache??\n",
        "%%llm_cache ?\n",
        "%%llm_caches\n1\n",
        "%llm_cache status\n",
        "%%time\n1\n",
        "%%time\n%%llm_cache\n1\n",
        "%%time\nawait x()\n",
        "%%bash\n%%llm_cache\nawait\n",
        "# a comment\n%%time\n%%llm_cache\nawait x()\n",
    ],
)
def test_what_is_not_ours_is_left_alone(cell):
    """Other cells, other magics and questions for help come out as they went in."""
    assert transformed(cell) == cell


BEGIN = "get_ipython().run_line_magic('llm_cache', 'begin')\n"
BELOW = "get_ipython().run_cell_magic"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%%llm_cache", BEGIN),
        ("%%llm_cache --tag a\nx\n", "get_ipython().run_line_magic('llm_cache', 'begin --tag a')\nx\n"),
        ("# c\n\n%%llm_cache\nx", f"# c\n\n{BEGIN}x"),
        ("# c\n%%llm_cache --help\nx\ny", "# c\nget_ipython().run_line_magic('llm_cache', 'help')\n\n\n"),
        (
            "%%llm_cache --tag 'a' \\\r\n  --run \"{b}\"\r\nx\r\n",
            "get_ipython().run_line_magic('llm_cache', 'begin --tag \\'a\\' --run \"{b}\"')\n\nx\r\n",
        ),
        ("%%llm_cache\n\n# c\n%%time -q\nx\n", f"{BEGIN}\n# c\n{BELOW}('time', '-q', 'x\\n')\n"),
        ("%%llm_cache\n%%bash\nawait x\n", f"{BEGIN}{BELOW}('bash', '', 'await x\\n')\n"),
    ],
)
def test_only_the_magics_line_is_replaced(cell, expected):
    """Comments, blanks and the body stay; a continued line leaves blanks; a magic below is spelt out."""
    assert transformed(cell) == expected


@pytest.mark.parametrize(
    ("cell", "magic"),
    [
        ("%%llm_cache\n%%time\nawait x()\n", "time"),
        ("%%time\n%%llm_cache\nawait x()\n", "time"),
        ("%%timeit -n 1\n%%llm_cache\nasync for a in b(): pass\n", "timeit"),
        ("%%capture\n%%llm_cache\nawait x()\n", "capture"),
        ("%%capture\n%%llm_cache\n%%time\nawait x()\n", "time"),
        ("%%llm_cache\n%%time\n!ls\ny = %pwd\nawait x()\n", "time"),
    ],
)
def test_await_below_a_magic_that_hides_it_is_checked_at_run_time(cell, magic):
    """The first thing that such a cell does is the check, and its lines stay where they were."""
    result = in_ipython(cell)
    assert result.startswith(f"get_ipython().run_line_magic('llm_cache', 'await-under {magic}'); ")
    assert ast.parse(result)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("await x()\n", True),
        ("async with a as b:\n    pass\n", True),
        ("[await y async for y in z()]\n", True),
        ("!ls\nawait x()\n", True),
        ("async def f():\n    await x()\n", False),
        ("'await x()'\n", False),
        ("await x(\n", False),
        ("x = 1\n", False),
    ],
)
def test_top_level_await_is_told_from_any_other(body, expected):
    """Only what would make IPython run the cell as a coroutine counts."""
    assert has_top_level_await(body.splitlines(keepends=True)) is expected


def test_it_is_left_out_of_completeness_checks():
    """Else a terminal would run the magic's line before the body is typed."""
    assert transform.has_side_effects is True
    manager = TransformerManager()
    manager.cleanup_transforms.append(transform)
    assert manager.check_complete("%%llm_cache\nx = 1")[0] == "incomplete"


text = st.text(st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=40)


@given(head=st.sampled_from(["", "# c\n", "\n\n", "  \n#\n"]), options=text, body=text)
def test_any_option_and_any_body_pass_verbatim(head, options, body):
    """Whatever is written behind the magic reaches it as written, and no line moves."""
    options = options.replace("\n", " ").strip()
    if options in {"?", "??"} or options.endswith("\\"):
        return
    cell = f"{head}%%llm_cache {options}\nbody = 1\n{body}"
    lines = transformed(cell).splitlines(keepends=True)
    assert len(lines) == len(cell.splitlines(keepends=True))
    call = ast.parse(lines[head.count("\n")]).body[-1].value
    assert [ast.literal_eval(argument) for argument in call.args] == ["llm_cache", f"begin {options}".strip()]
    assert "".join(lines[head.count("\n") + 1 :]) == f"body = 1\n{body}"


@given(text)
def test_it_is_applied_once_or_twice_with_the_same_result(body):
    """IPython transforms some cells more than once."""
    once = transform(f"%%llm_cache --tag a\n{body}".splitlines(keepends=True))
    assert transform(once) == once


def test_an_interrupt_ends_the_cell_and_not_the_kernel(monkeypatch):
    """One that comes while a cell is read is that of the cell: IPython reports it as such, and goes on."""
    shell = InteractiveShell()

    def interrupted(lines):
        raise KeyboardInterrupt

    shell.input_transformers_cleanup.append(CellTransform())
    monkeypatch.setattr("genai_cache_magic.jupyter.transform.has_top_level_await", interrupted)
    result = shell.run_cell("%%llm_cache\n%%time\nawait x\n")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert shell.run_cell("1 + 1").result == 2
