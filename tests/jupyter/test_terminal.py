"""IPython in a terminal: the magic works there too, its badge is text."""

from __future__ import annotations

import sys

import pexpect
import pytest

pytestmark = pytest.mark.service


@pytest.fixture
def terminal(tmp_path, isolated_environment, preamble):
    """IPython on a pseudo-terminal, with the extension loaded."""
    script = tmp_path / "start.py"
    script.write_text(preamble)
    options = ["--simple-prompt", "--colors=nocolor", "--no-banner", "--ext=genai_cache_magic"]
    child = pexpect.spawn(
        sys.executable, ["-m", "IPython", *options, "-i", str(script)],
        env=isolated_environment, cwd=str(tmp_path), encoding="utf-8", timeout=30, echo=False,
    )  # fmt: skip
    child.expect(r"In \[1\]: ")
    yield child
    child.close(force=True)


def type_cell(terminal, *lines):
    """Type a cell magic and its body; a blank line ends it, once it is typed and once as the end of input."""
    for line in (*lines, "", ""):
        terminal.sendline(line)


def test_a_cell_is_complete_at_the_blank_line_and_shows_its_badge(terminal):
    """The line of the magic waits for a body; the badge is one line of text."""
    type_cell(terminal, "%%llm_cache --tag t", "ask('in a terminal')")
    terminal.expect(r"Out\[1\]: '\[simulated\]'")
    terminal.expect(r"llm_cache: . spent \$[\d.]+, saved \$0 · 0 hits, 1 miss")
    terminal.expect(r"In \[2\]: ")
    terminal.sendline("ask('in a terminal')")
    terminal.expect(r"In \[3\]: ")
    assert "llm_cache:" not in terminal.before


def test_capture_above_await_works_without_a_running_loop(terminal):
    """What only a kernel can't do is not refused in a terminal."""
    type_cell(terminal, "%%capture got", "%%llm_cache", "print(await aask('captured await'))")
    terminal.expect(r"In \[2\]: ")
    terminal.sendline("print(got.outputs[-1].data['text/plain'])")
    terminal.expect("0 hits, 1 miss")


@pytest.mark.parametrize(("answer", "said"), [("n", "nothing was cleared"), ("y", "1 of 1 known answer made invalid")])
def test_clear_asks(terminal, answer, said):
    """Where somebody can answer, a question is asked, and no is the default."""
    type_cell(terminal, "%%llm_cache", "ask('to be cleared')")
    terminal.expect("1 miss")
    terminal.expect(r"In \[2\]: ")
    terminal.sendline("%llm_cache clear")
    terminal.expect(r"\[y/N\]")
    terminal.sendline(answer)
    terminal.expect(said)
