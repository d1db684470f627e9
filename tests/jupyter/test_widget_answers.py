"""What the kernel answers to the buttons of a cell's widget."""

from __future__ import annotations

from dataclasses import replace

import pytest
from widgets import (
    Kerneled,
    asked_cell,  # noqa: F401 - fixtures
)

from genai_cache_magic import create_cache
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.jupyter.controls import CellControls, PanelControls
from genai_cache_magic.jupyter.views import CellViews


def prefixes(cell):
    return [call.entry_id[:16] for call in cell.calls]


def test_a_cell_is_invalidated_through_its_view(asked):
    """Counted first; then its answers are gone, and a second time there is nothing left."""
    cell, answer, _ = asked
    body = {"store": cell.store, "entries": prefixes(cell)}
    counted = answer("invalidate", {**body, "dry_run": True})
    assert (counted["count"], counted["known"], counted["dry_run"]) == (2, 2, True)
    done = answer("invalidate", {**body, "dry_run": False})
    assert done["count"] == 2
    assert "made invalid" in done["sentence"]
    assert answer("invalidate", {**body, "dry_run": True})["count"] == 0


def test_what_is_not_saved_is_told_by_the_kernel(asked):
    """Latency of this cell's own calls, age and state of their entries."""
    cell, answer, _ = asked
    found = answer("live", {"store": cell.store})["entries"]
    assert set(found) == set(prefixes(cell))
    facts = found[prefixes(cell)[0]]
    assert facts["state"] == "valid"
    assert facts["age_s"] >= 0
    assert facts["latency_s"] == cell.calls[0].latency_s


def test_a_hit_is_told_from_where_it_came(asked):
    """The tier in which this cell's call found it; of what a run file answered, nothing of the cache's."""
    cell, answer, _ = asked
    first, second = cell.calls
    cell.emit(replace(first, outcome=Outcome.HIT, tier=Tier.L2))
    cell.emit(replace(second, outcome=Outcome.HIT, tier=Tier.FILE))
    found = answer("live", {"store": cell.store})["entries"]
    assert [found[name].get("tier") for name in prefixes(cell)[:2]] == ["L2", None]
    assert "state" not in found[prefixes(cell)[1]]


def test_a_miss_is_explained_by_the_nearest_call(asked):
    """Which part differs, and how, as a short diff."""
    cell, answer, _ = asked
    found = answer("explain", {"store": cell.store, "entry": prefixes(cell)[1]})
    assert found["differs"] == ["body.messages[0]"]
    assert found["diff"] == ["body.messages[0].content", "- Say hello to Ann", "+ Say hello to Bob"]


def test_what_a_replay_missed_is_explained_too(asked):
    """By what the error named."""
    cell, _, _ = asked
    missed = CallRecord(Outcome.ERROR, reason="replay: not in the cache", entry_id="ab" * 32, differs=("body.top_p",))
    cell.emit(missed)
    answer = CellControls(cell, lambda: None)
    assert answer("explain", {"store": cell.store, "entry": "ab" * 8}) == {
        "reason": "replay: not in the cache",
        "differs": ["body.top_p"],
        "diff": [],
        "notes": [],
    }


def test_a_fresh_run_is_asked_for(asked):
    """It comes with the next run of the cell."""
    _, answer, fresh = asked
    assert "next run" in answer("rerun", {"store": "", "fresh": True})["sentence"]
    assert fresh == [1]


@pytest.mark.parametrize("name", ["a-cell-id-4", "0123456789abcdef-2"])
def test_a_fresh_run_is_one_run(name):
    """The mode of the next run alone, and of no cell that names another mode."""
    views = CellViews(Kerneled())
    views.ask_fresh(name)
    assert views.asked("another", Options()).mode is Mode.USE
    again = name.replace("-2", "-3")
    assert views.asked(again, Options(mode=Mode.REPLAY)).mode is Mode.REPLAY
    views.ask_fresh(name)
    assert views.asked(again, Options()).mode is Mode.REFRESH
    assert views.asked(again, Options()).mode is Mode.USE


def test_another_cache_is_refused_with_a_sentence(asked, monkeypatch, tmp_path):
    """The kernel's settings changed since the cell ran."""
    cell, answer, _ = asked
    cell.store = "0" * 16
    with pytest.raises(GenaiCacheError) as error:
        answer("invalidate", {"store": cell.store, "entries": prefixes(cell), "dry_run": False})
    assert "this kernel has another cache" in str(error.value)
    assert "Traceback" not in str(error.value)


def test_settings_that_changed_lead_to_no_other_cache(asked, monkeypatch, tmp_path):
    """What the environment says meanwhile counts for the next kernel: this one opens nothing beside its cache."""
    cell, answer, _ = asked
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "another"))
    with create_cache() as another:
        another.set("a", 1)
        cell.store = another.fingerprint
    with pytest.raises(GenaiCacheError, match="this kernel has another cache"):
        answer("invalidate", {"store": cell.store, "entries": prefixes(cell), "dry_run": False})


@pytest.mark.parametrize("path", ["clear", "__class__", "body", ""])
def test_nothing_else_can_be_asked_for(asked, path):
    """A widget's message names one of a few paths."""
    _, answer, _ = asked
    for one in (answer, PanelControls(None)):
        with pytest.raises(ConfigurationError):
            one(path, {})
