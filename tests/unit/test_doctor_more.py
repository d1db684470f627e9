"""The doctor's checks: each has a name and a fix, the page lists them, and what is around the cache is looked at."""

from __future__ import annotations

import os
import re
import sys
import time
import types
from pathlib import Path

import pytest
from sessions import session_of

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.errors import StoreDenied
from genai_cache_magic.ops import doctor, doctor_local, doctor_team, findings, surroundings
from genai_cache_magic.ops.checks import CHECKS, Severity
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.ops.findings import Finding
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.base import LookUp
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.stores.rights import Rights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def found(isolated, monkeypatch):
    """What the doctor finds with these settings, by its checks."""

    def look(**settings):
        with session_of(monkeypatch, **settings) as session:
            return {one.check: one for one in examine(session)}

    return look


def test_the_page_lists_the_checks():
    """The table of the page and that of the code are one."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (ok|warning|error) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    told = [(name, of.part, of.severity.name.lower(), of.means, of.fix) for name, of in CHECKS.items()]
    assert rows == told


def test_every_check_is_made():
    """No check is listed that nothing finds, and whatever is not well is found by one."""
    files = (ROOT / "genai_cache_magic" / "ops").glob("doctor*.py")
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r'found_by\(\s*"([\w-]+)"', code)) | set(doctor_team._WAYS.values())
    assert used == CHECKS.keys()
    assert "Severity.WARNING, " not in code
    assert "Severity.ERROR, " not in code


def test_a_finding_says_its_fix_to_scripts():
    """What is not well comes with the check and the fix in one line; what is well needs none."""
    one = findings.found_by("encryption-off", "answers are stored as plain text")
    assert one.as_json()["check"] == "encryption-off"
    assert one.as_json()["fix"] == CHECKS["encryption-off"].fix
    assert Finding("key", Severity.OK, "it is there").as_json()["fix"] == ""


def library(monkeypatch, name, **attributes):
    """Let a module be imported that is called so, with a class in it."""
    module = types.ModuleType(name)
    module.Client = type("Client", (), {"__module__": name, **attributes})
    monkeypatch.setitem(sys.modules, name, module)
    return module.Client


def method_of(package, around=None):
    """Return a function of a package, around another."""
    place = {"__name__": f"{package}.inner", "__builtins__": __builtins__}
    exec("def send(self): return None", place)
    function = place["send"]
    function.__module__ = "httpx"  # as those claim who wrap
    if around is not None:
        function.__wrapped__ = around
    return function


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        (["httpx"], []),
        (["httpx", "genai_cache_magic"], []),
        (["httpx", "vcr"], [("vcr", True)]),
        (["httpx", "vcr", "genai_cache_magic"], [("vcr", True)]),
        (["httpx", "genai_cache_magic", "opentelemetry"], [("opentelemetry", False)]),
    ],
)
def test_who_else_takes_hold_of_a_client(monkeypatch, packages, told):
    """Whoever has wrapped a method is named, be it below or above ours; a library's own method is nobody's."""
    function = None
    for package in packages:
        function = method_of(package, function)
    for module, *_ in surroundings._POINTS:
        monkeypatch.delitem(sys.modules, module, raising=False)
    library(monkeypatch, "httpx", send=function)
    assert [(package, answers) for _, package, answers in surroundings.others()] == told


def test_a_recorder_that_answers(found, monkeypatch):
    """A recorder is a warning; whoever only looks on is said, and no warning."""
    monkeypatch.setattr(doctor, "others", lambda: [("Client.send of httpx", "vcr", True)])
    assert found()["http-answered"].severity is Severity.WARNING
    monkeypatch.setattr(doctor, "others", lambda: [("Client.send of httpx", "opentelemetry", False)])
    assert "http-answered" not in found()


def test_a_package_that_is_too_old(found, monkeypatch):
    """It is named with the releases that are of use; an extra that is not installed as a whole asks for nothing."""
    wanted = ["orjson>=999", 'typer>=999 ; extra == "whole"', 'orjson>=0 ; extra == "whole"']
    wanted += [
        'rich>=999 ; extra == "part"',
        'nobody-has-this>=1 ; extra == "part"',
        'rich>=999 ; python_version < "3"',
    ]
    monkeypatch.setattr(surroundings.metadata, "requires", lambda _: wanted)
    assert {name for name, _, _ in surroundings.outdated_packages()} == {"orjson", "typer"}
    assert "pip install -U" in found()["package-outdated"].says


def test_packages_here_are_new_enough():
    """What tests run with is what this package says it needs."""
    assert list(surroundings.outdated_packages()) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_a_kernel_from_before_an_update(found, isolated, monkeypatch):
    """A process that uses this cache, and began before the code was replaced, is told to be restarted; none else is."""
    with create_cache() as cache:
        cache.set("a", 1)
        monkeypatch.setattr(surroundings, "_updated_s", lambda: 0.0)
        assert "kernel-outdated" not in found()
        monkeypatch.setattr(surroundings, "_updated_s", lambda: time.time() + 60)
        assert f"process {os.getpid()}" in found()["kernel-outdated"].says
        others = [one for one in surroundings.outdated_processes(isolated / "cache") if one != os.getpid()]
    assert others == []


def test_a_notebook_that_is_not_trusted(found, isolated, monkeypatch):
    """Only what is saved and unsigned is told, and it is no warning."""
    pytest.importorskip("nbformat", reason="pip install nbformat")
    import nbformat
    from nbformat.sign import NotebookNotary

    path = isolated / "work.ipynb"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="a")])
    nbformat.write(book, path)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(isolated / "jupyter"))
    assert "notebook-untrusted" not in found()
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    assert found()["notebook-untrusted"].severity is Severity.OK
    notary = NotebookNotary()
    notary.sign(nbformat.read(path, as_version=nbformat.NO_CONVERT))
    notary.store.close()
    assert "notebook-untrusted" not in found()


def test_a_directory_to_be_made_on_a_share(found, monkeypatch):
    """What the first cell would refuse is told before."""
    monkeypatch.setattr(doctor_local, "file_system_of", lambda *_: ("nfs4", ""))
    assert found()["directory-shared"].severity is Severity.ERROR
    assert "local disk" in found()["directory-shared"].says


@pytest.mark.parametrize(
    ("memory", "check"), [((99, 100), "tier-full"), ((10, 100), None), ((10, 0), None), ((0, 1), None)]
)
def test_how_full_a_server_is(isolated, monkeypatch, memory, check):
    """Little room is a warning; room enough, or a server that does not say, is nothing."""
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://127.0.0.1:1")
    monkeypatch.setattr("genai_cache_magic.stores.redis.limits.memory_of", lambda _: memory)
    session = Session()
    told = {one.check for one in doctor_team._server(session.settings)}
    session.close()
    assert told == ({check} if check else set())


def test_a_way_without_tls(isolated, monkeypatch):
    """Beyond this machine it is a warning of the tier."""
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://cache.example.com:6379")
    monkeypatch.setattr("genai_cache_magic.stores.redis.limits.memory_of", lambda _: (1, 100))
    session = Session()
    (told,) = doctor_team._server(session.settings)
    session.close()
    assert (told.check, told.severity) == ("tier-plain", Severity.WARNING)


@pytest.mark.parametrize("is_reader", [True, False])
def test_an_edge_is_tried_by_who_may_write_alone(isolated, is_reader):
    """It takes a value of our own, which a reader may not store: to him the tier refuses nothing that he needs."""

    def refuses():
        raise StoreDenied("the container refuses this identity")

    tier = types.SimpleNamespace(
        name="tier",
        look_up=lambda *_: LookUp(b"1", time.time(), {}),
        store=MemoryStore(),
        **dict.fromkeys(("look_near", "refuse", "forget"), str),
        try_edge=refuses,
    )
    line = types.SimpleNamespace(
        tier=tier,
        breaker=Breaker("tier", rights=Rights("tier", is_reader=is_reader)),
        document=lambda _: MemoryDocument(),
        settle=tuple,
        patience_s=30,
        overdue=str,
    )
    looked = doctor_team._reached(line, load_settings(), "default", None)
    if is_reader:
        assert [one.says for one in looked] == ["tier answers, and is empty for namespace default"]
    else:
        with pytest.raises(StoreDenied):
            list(looked)
