"""``%%llm_cache`` in a real kernel: whatever stands in the cell, it runs as without, and its calls are counted."""

from __future__ import annotations

import re
import threading
import time

import pytest

pytestmark = pytest.mark.service


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_repeated_call_is_a_hit_and_reaches_no_model(kernel, server):
    """The second cell that asks the same is answered from the cache, and its badge says so."""
    first = kernel.run("%%llm_cache --tag greeting\nask('hello')")
    before = server.count
    second = kernel.run("%%llm_cache --tag greeting\nask('hello')")
    assert (first.counts, second.counts) == ((0, 1), (1, 0))
    assert first.result == second.result == "'[simulated]'"
    assert server.count == before


def test_calls_without_the_magic_are_none_of_ours(kernel, server):
    """A cell without the magic is not cached, shows nothing, and leaves no scope behind."""
    kernel.run("%%llm_cache\nask('plain')")
    before = server.count
    ran = kernel.run("ask('plain')")
    assert ran.badges == []
    assert server.count == before + 1


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("# a comment\n\n%%llm_cache --tag c\n1 + 1", "2"),
        ("\n\n%%llm_cache\n1 + 1", "2"),
        (">>> %%llm_cache\n>>> 1 + 1", "2"),
        ("In [1]: %%llm_cache\n   ...: 1 + 1", "2"),
        ("%%llm_cache\r\n1 + 1\r\n", "2"),
        ("%%llm_cache --tag a \\\n  --tag b\n1 + 1", "2"),
        ("  %%llm_cache\n  1 + 1", "2"),
        ("%%llm_cache\n1 + 1;", None),
        ("%%llm_cache\nx = 1", None),
        ("%%llm_cache", None),
        ("%%llm_cache\n%%time\n1 + 1", "2"),
        ("%%time\n%%llm_cache\n1 + 1", "2"),
        ("%%llm_cache\n\n# below\n%%time\n1 + 1", "2"),
        ("%%llm_cache\nawait asyncio.sleep(0)\n1 + 1", "2"),
        ("%%llm_cache\nprint('a{b}', {'x': 1})\n1 + 1", "2"),
        ("%%llm_cache --tag 'a {b} $c'\n1 + 1", "2"),
    ],
)
def test_the_cell_runs_as_if_the_line_were_not_there(kernel, source, result):
    """The last expression is shown, or not, as without the magic, and the badge stands last."""
    ran = kernel.run(source)
    assert ran.status == "ok", ran.error
    assert ran.result == result
    assert ran.outputs[-1]["data"]["text/plain"].startswith("llm_cache: no model calls")


def test_options_reach_the_scope_verbatim(kernel):
    """Braces, dollars, quotes and continued lines pass as written."""
    ran = kernel.run("%%llm_cache --tag 'a {b} $c' \\\n --run \"it's\"\npass")
    assert ran.badges[0]["tags"] == ["a {b} $c"]
    assert ran.badges[0]["run"] == "it's"


def test_line_numbers_stay(kernel):
    """A traceback names the line where the code stands in the cell."""
    ran = kernel.run("# one\n%%llm_cache --tag a \\\n   --tag b\nx = 1\n1 / 0")
    assert re.search(r"----> 5 1 ?/ ?0", plain(ran.error)) or "line 5" in plain(ran.error)


def test_top_level_await_is_cached(kernel, server):
    """``await`` and ``gather`` in the cell use the cache, and the scope ends with the cell."""
    body = "%%llm_cache\nprint(len(await asyncio.gather(*[aask(f'gather {i}') for i in range(5)])))"
    first, second = kernel.run(body), kernel.run(body)
    assert (first.counts, second.counts) == ((0, 5), (5, 0))
    before = server.count
    assert kernel.run("await aask('gather 1')").badges == []
    assert server.count == before + 1


def test_braces_in_prompts_pass(kernel):
    """IPython doesn't interpolate what stands in the body."""
    ran = kernel.run("%%llm_cache\nname = 'x'\nask('{name} {undefined} $name {{}}')")
    assert (ran.status, ran.counts) == ("ok", (0, 1))


@pytest.mark.parametrize(
    "source",
    [
        "%%llm_cache\n%%time\nask(question)",
        "%%time\n%%llm_cache\nask(question)",
        "%%llm_cache\n%time ask(question)",
        "%%llm_cache\nimport subprocess\n!true\nask(question)",
        "%%llm_cache\nget_ipython().run_cell('ask(question)')",
        "%%llm_cache\nthread = threading.Thread(target=ask, args=(question,))\nthread.start()\nthread.join()",
        "%%llm_cache\nwith ThreadPoolExecutor(2) as pool:\n    list(pool.map(ask, [question]))",
        "%%llm_cache\nawait asyncio.to_thread(ask, question)",
        "%%llm_cache\n%%prun -q\nask(question)",
        "get_ipython().run_cell_magic('llm_cache', '--tag a', 'ask(question)')",
        "get_ipython().run_cell('%%llm_cache\\nask(question)');",
    ],
)
def test_calls_are_counted_wherever_the_cell_makes_them(kernel, source):
    """Below and above other magics, in threads, pools and nested cells, the call is this cell's."""
    kernel.run(f"from concurrent.futures import ThreadPoolExecutor\nquestion = {source!r}")
    first, second = kernel.run(source), kernel.run(source)
    assert first.status == "ok", first.error
    assert (first.counts, second.counts) == ((0, 1), (1, 0))


def test_capture_above_takes_the_badge_with_the_output(kernel):
    """``%%capture`` captures all that the cell shows, its badge included."""
    ran = kernel.run("%%capture got\n%%llm_cache\nprint('out', ask('captured'))")
    assert ran.outputs == []
    seen = kernel.run("print(got.stdout, [sorted(o.data) for o in got.outputs])")
    assert "out [simulated]" in seen.text
    assert "application/vnd.genai-cache.cell+json" in seen.text


def test_capture_below_leaves_the_badge(kernel):
    """The magic above ``%%capture`` still says what happened."""
    ran = kernel.run("%%llm_cache\n%%capture got\nprint(ask('captured below'))")
    assert ran.counts == (0, 1)
    assert ran.text == ""


@pytest.mark.parametrize("source", ["%%llm_cache\n%%timeit -n2 -r2\n{}", "%%timeit -n2 -r2\n%%llm_cache\n{}"])
def test_timeit_runs_the_cell_many_times_in_one_scope(kernel, source):
    """A cell that is reached many times opens one scope and shows one badge."""
    ran = kernel.run(source.format(f"ask('timeit {source[2:5]}')"))
    hits, misses = ran.counts
    assert misses == 1
    assert hits == 3


def test_a_shell_cell_below_runs(kernel):
    """``%%bash`` below the magic is a cell magic as ever, ``await`` in it or not."""
    ran = kernel.run("%%llm_cache\n%%bash\necho await me")
    assert ran.text.strip() == "await me"
    assert len(ran.badges) == 1


@pytest.mark.parametrize(
    "source",
    [
        "%%llm_cache\n%%time\nawait aask('x')",
        "%%time\n%%llm_cache\nawait aask('x')",
        "%%capture\n%%llm_cache\nawait aask('x')",
    ],
)
def test_await_under_time_and_capture_is_refused_with_the_fix(kernel, server, source):
    """What IPython can't run stops the cell before any call is made, and the error says what to write."""
    before = server.count
    ran = kernel.run(source)
    assert ran.reply["ename"] == "ConfigurationError"
    assert "remove the %%" in ran.error
    assert server.count == before


def test_a_nested_cell_with_options_of_its_own_is_counted_apart(kernel):
    """A cell run inside a cell has its own scope, and the outer one goes on after it."""
    ran = kernel.run(
        "%%llm_cache --tag outer\nask('nest 1')\nget_ipython().run_cell('%%llm_cache --tag inner\\nask(\"nest 2\")')\n"
        "ask('nest 3');",
    )
    inner, outer = ran.badges
    assert (inner["tags"], inner["misses"]) == (["inner"], 1)
    assert (outer["tags"], outer["misses"]) == (["outer"], 2)


def test_a_nested_cell_that_fails_leaves_the_outer_scope(kernel):
    """An error, a syntax error or an empty nested cell doesn't end the outer scope."""
    ran = kernel.run(
        "%%llm_cache\nshell = get_ipython()\nshell.run_cell('1/0'); shell.run_cell('1 +'); shell.run_cell('')\n"
        "ask('after failing');",
    )
    assert ran.counts == (0, 1)


@pytest.mark.parametrize("line", ["raise ValueError('mine')", "raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_a_failing_cell_shows_its_calls_and_ends_its_scope(kernel, server, line):
    """The badge stands after the error, and the next cell is not in the scope."""
    ran = kernel.run(f"%%llm_cache\nask('failing {line[6:11]}')\n{line}")
    assert ran.counts == (0, 1)
    before = server.count
    kernel.run(f"ask('failing {line[6:11]}')")
    assert server.count == before + 1


def test_a_syntax_error_opens_nothing(kernel, server):
    """IPython's own message is shown, and no scope is left open."""
    ran = kernel.run("%%llm_cache\nask('x'\n)) 1")
    assert ran.reply["ename"] == "SyntaxError"
    assert ran.badges == []
    before = server.count
    kernel.run("ask('hello')")
    assert server.count == before + 1


@pytest.mark.parametrize("call", ["ask({!r})", "await aask({!r})"])
def test_an_interrupt_ends_the_cell_and_the_next_one_works(kernel, server, call):
    """Interrupted while the model is being asked, the kernel goes on, nothing is stored, the scope is over."""
    # A signal doesn't wake an event loop that waits for the network alone; other work does, as in any real cell.
    kernel.run(
        "async def tick():\n    while True:\n        await asyncio.sleep(0.05)\nticking = asyncio.create_task(tick())"
    )
    source = "%%llm_cache\n" + call.format(f"interrupted {call[:5]}")
    expected = server.count + 1
    server.hold()
    interrupter = threading.Thread(target=lambda: (server.wait_for(expected), kernel.interrupt()))
    interrupter.start()
    ran = kernel.run(source)
    interrupter.join()
    server.release()
    kernel.run("ticking.cancel()")
    assert ran.reply["ename"] in {"KeyboardInterrupt", "CancelledError"}
    assert ran.badges[0]["errors"] == 1
    before = server.count
    kernel.run("ask('hello')")
    assert server.count == before + 1
    assert kernel.run(source).counts == (0, 1)


def test_late_tasks_are_recorded_and_the_badge_follows(kernel, server):
    """A task that outlives its cell is still that cell's, and the badge is brought up to date."""
    server.hold()
    expected = server.count + 1
    ran = kernel.run("%%llm_cache\ntask = asyncio.create_task(aask('late'))\nawait asyncio.sleep(0)")
    assert ran.badges[0]["misses"] == 0  # it may have been sent by then, and be open
    assert server.wait_for(expected)
    server.release()
    after = kernel.run(
        "from genai_cache_magic import last_cell\nawait task\nfor _ in range(500):\n    await asyncio.sleep(0.01)\n"
        "    if last_cell().calls: break\nawait asyncio.sleep(0.6)",
    )
    updates = [o for o in after.outputs if o["output_type"] == "update_display_data"]
    assert updates[-1]["data"]["application/vnd.genai-cache.cell+json"]["misses"] == 1
    assert updates[-1]["transient"]["display_id"] == ran.outputs[-1]["transient"]["display_id"]


def test_rerun_runs_it_again(kernel):
    """``%rerun`` of a cell with the magic is a cell with the magic."""
    kernel.run("%%llm_cache\nask('rerun')")
    assert kernel.run("%rerun").counts == (1, 0)


def test_a_silent_cell_is_as_silent_with_the_magic(kernel, server):
    """An explicit magic is obeyed in the silent code of a front end too, which shows nothing."""
    kernel.run("%%llm_cache\nask('silent')")
    before = server.count
    ran = kernel.run("%%llm_cache\nask('silent')", silent=True)
    assert (ran.status, ran.outputs) == ("ok", [])
    assert server.count == before
    kernel.run("ask('silent')")
    assert server.count == before + 1


def test_help_works(kernel):
    """``%%llm_cache?`` is help, and names every option and command."""
    ran = kernel.run("%%llm_cache?")
    (page,) = ran.reply["payload"]
    for word in ("--samples", "--ttl", "--quiet", "invalidate", "explain"):
        assert word in page["data"]["text/plain"]


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("%%llm_cache", "incomplete"),
        ("%%llm_cache\nx = 1", "incomplete"),
        ("%%llm_cache\nx = 1\n\n", "complete"),
        ("x = 1", "complete"),
        ("if x:", "incomplete"),
        ("%llm_cache status", "complete"),
    ],
)
def test_completeness_is_judged_as_for_any_cell_magic(kernel, source, status):
    """A terminal waits for the blank line that ends a cell with a magic."""
    assert kernel.is_complete(source) == status
    assert kernel.is_complete(source.replace("llm_cache", "time")) == status


def test_two_subshells_at_once_keep_their_calls_apart(kernel, server):
    """Cells that run at the same time in different threads of the shell each have their own scope."""
    client = kernel.client
    message = client.session.msg("create_subshell_request")
    client.control_channel.send(message)
    subshell = client.get_control_msg(timeout=10)["content"]["subshell_id"]
    expected = server.count + 1
    server.hold()
    request = client.session.msg(
        "execute_request",
        {
            "code": "%%llm_cache --tag sub\nask('in a subshell')",
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        },
    )
    request["header"]["subshell_id"] = subshell
    client.shell_channel.send(request)
    assert server.wait_for(expected)
    main = kernel.run("%%llm_cache --tag main\n1 + 1")
    server.release()
    sub = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        got = client.get_iopub_msg(timeout=20)
        if got["parent_header"].get("msg_id") != request["header"]["msg_id"]:
            continue
        if got["msg_type"] == "display_data":
            sub.append(got["content"]["data"]["application/vnd.genai-cache.cell+json"])
        if got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
            break
    client.get_shell_msg(timeout=10)
    assert (main.badges[0]["tags"], main.badges[0]["misses"]) == (["main"], 0)
    assert [(badge["tags"], badge["misses"]) for badge in sub] == [(["sub"], 1)]
