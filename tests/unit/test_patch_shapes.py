"""A release of a client that is built differently is told in words; its import and its calls go on as without us."""

from __future__ import annotations

import functools
import inspect
import warnings
from types import ModuleType

import httpx
import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.intercept import patching
from genai_cache_magic.intercept.patching import Patcher
from genai_cache_magic.intercept.points import Point, _can_replace

NAMES = ("Client", "AsyncClient")


def ours(self, request, **options):
    """Stands for a replacement."""


def ours_with_more(self, request, *args, **options):
    """Stands for a replacement that passes on what comes by place, too."""


class TestCanReplace:
    @pytest.mark.parametrize(
        ("original", "fits"),
        [
            (lambda self, request: None, True),
            (lambda self, request, *, stream=False, auth=None: None, True),
            (lambda self, request, **options: None, True),
            (lambda *args, **options: None, True),
            (lambda self, *args: None, True),
            (lambda self, request, /: None, True),
            (lambda self, request, context: None, False),
            (lambda self, request, stream=False: None, False),
            (lambda self, request=None: None, False),
            (lambda self: None, False),
            (lambda self, message: None, False),
            (lambda self, context, request: None, False),
            (print, True),
        ],
    )
    def test_every_way_to_call_it(self, original, fits):
        """What an original may be called with decides, by place and by name, and what says nothing is trusted."""
        assert _can_replace(ours, original) is fits

    def test_more_by_place(self):
        """A replacement that takes more by place stands in for an original that does."""
        assert _can_replace(ours_with_more, lambda self, request, stream=False, timeout=None: None)
        assert not _can_replace(ours_with_more, lambda self, stream, request: None)

    def test_a_wrapper_that_keeps_its_signature(self):
        """Only what a replacement takes itself counts, not what it wraps."""

        def original(self, request, context):
            """Take more."""

        assert inspect.signature(functools.wraps(original)(ours)) == inspect.signature(original)
        assert not _can_replace(functools.wraps(original)(ours), original)


def unfit(self):
    """Stand for a replacement that takes less."""


def release(**changes):
    """A module like httpx2 whose clients are classes of its own with the same methods, but for `changes`."""
    module = ModuleType("httpx2")
    module.__dict__.update({**vars(httpx2), "__version__": "99.0"})
    for name in NAMES:
        base = getattr(httpx2, name)
        own = {method: base.__dict__[method] for method in ("send", "_send_single_request")}
        for method, change in changes.items():
            own.pop(method)
            if change is not None:
                own[method] = change
        setattr(module, name, type(name, (), {"__module__": "httpx2", **own}))
    return module


def with_context(self, request, context):
    """Stand for a method that takes more by now."""
    return super(type(self), self)._send_single_request(request)


RELEASES = {
    "no such method": {"_send_single_request": None},
    "other arguments": {"_send_single_request": with_context},
    "no method": {"send": 1},
}


@pytest.fixture
def other():
    """A patcher of its own, as if one were installing."""
    patcher = Patcher()
    patcher._is_on = True
    return patcher


@pytest.mark.parametrize("change", RELEASES)
def test_unknown_release_is_told_to_the_cell(isolated, other, change):
    """In a cell it is a trouble that names library and release; nothing is patched, half of it neither."""
    module = release(**RELEASES[change])
    before = [vars(getattr(module, name)).copy() for name in NAMES]
    with llm_cache() as cell:
        other._imported(module)
    assert [vars(getattr(module, name)) for name in NAMES] == before
    assert other._replaced == []
    (trouble,) = cell.troubles
    assert "httpx2 99.0" in trouble.message


@pytest.mark.parametrize("change", RELEASES)
def test_unknown_release_is_a_warning_elsewhere(other, change):
    """Outside a cell it is a warning, which takes the library away from nobody, even where warnings are errors."""
    module = release(**RELEASES[change])
    with pytest.warns(RuntimeWarning, match=r"httpx2 99\.0"):
        other._imported(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other._imported(module)
    assert other._replaced == []


def test_module_that_lacks_what_we_build_on(isolated, other):
    """A module without the classes of its streams, or without clients, is left alone with words."""
    whole = release()
    del whole.AsyncByteStream
    strange = ModuleType("httpx2")
    strange.__dict__.update({name: getattr(whole, name) for name in NAMES}, SyncByteStream=1, AsyncByteStream=2)
    with llm_cache() as cell:
        for module in (ModuleType("httpx"), ModuleType("requests"), ModuleType("aiohttp"), whole, strange):
            other._imported(module)
        other._imported(ModuleType("botocore.endpoint"))
    assert other._replaced == []
    assert {trouble.where for trouble in cell.troubles} == {"intercept"}
    assert len(cell.troubles) >= 5


def test_known_releases_are_patched(isolated, other):
    """What is installed here is known: no trouble, and every place is taken hold of."""
    module = release()
    with llm_cache() as cell:
        other._imported(module)
    assert cell.troubles == ()
    assert len(other._replaced) == 6


def test_calls_of_an_unknown_release_go_on(isolated, unique_server, monkeypatch):
    """Where a library can't be seen, its calls reach the model and are no calls of the cell, and others are cached."""
    uninstall()
    known = patching._PATCHES["httpx"]

    def unlike(module):
        return [tuple(Point(owner, name, lambda _: unfit) for owner, name, *_ in group) for group in known(module)]

    monkeypatch.setattr(patching, "_PATCHES", {**patching._PATCHES, "httpx": unlike})
    asked = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
    with llm_cache() as cell:
        for module in (httpx, httpx, httpx2, httpx2):
            answer = module.post(f"{unique_server.openai_url}/chat/completions", json=asked)
            assert answer.is_success
    assert unique_server.count == 3
    assert (cell.misses, cell.hits, len(cell.calls)) == (1, 1, 2)
    assert [trouble.where for trouble in cell.troubles] == ["intercept"]
