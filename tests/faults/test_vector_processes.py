"""Processes that write one vector cache: killed while they build or keep its index, and two at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")

from faults import vector_writers
from faults.vector_writers import BATCH, BATCHES, BEFORE, opened, texts_of, told, vector

POINTS = 16


@pytest.fixture(params=["Graph", "Signs"])
def kind(request, monkeypatch):
    vector_writers.graphs_begin_early(monkeypatch.setattr, request.param)
    return request.param


def ran(what, directory, kind, *more):
    """Let processes write, and wait for them."""
    directory.mkdir()
    command = [sys.executable, vector_writers.__file__, what, str(directory), kind, *map(str, more)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def finds(cache, texts):
    """Check that each text is found, by itself and by its vector, and nothing but what was added."""
    assert [[one.text for one in found] for found in cache.nearest_many(texts)] == [[text] for text in texts]
    by_vector = cache.nearest_many([vector(text) for text in texts])
    assert [[one.value for one in found] for found in by_vector] == [[text] for text in texts]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_writer_killed_at_any_step_loses_nothing(isolated, kind):
    """Killed while it builds the index or writes it: all that was told to be stored is found, and so is the next."""
    directory = isolated / "killed"
    ran("killed", directory, kind, POINTS)
    places = sorted(directory.glob("killed *"))
    assert len(places) == POINTS
    stages = set()
    for place in places:
        for unfinished in place.rglob("vectors-*.new"):
            os.truncate(unfinished, unfinished.stat().st_size // 2)  # as it may be if the machine itself fails
        events = []
        stored = told(place)
        stages.add(len(stored))
        with opened(place, on_event=events.append) as cache:
            there = cache.build()
            assert there == len(cache)
            # Whoever is killed behind a store, and before it was told, has stored that too.
            assert len(stored) <= there <= len(stored) + BATCH
            finds(cache, stored)
            cache.add("afterwards", "afterwards", vector=vector("afterwards"))
            finds(cache, ["afterwards"])
        with opened(place, on_event=events.append) as cache:
            assert cache.build() == there + 1
            finds(cache, [*stored[:3], "afterwards"])
        assert events == []
    assert stages <= {BEFORE + BATCH * batches for batches in range(BATCHES + 1)}
    assert len(stages) >= BATCHES  # nearly all of what a writer does is where it may end


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_two_processes_that_add_at_once_lose_nothing(isolated, kind):
    """Each keeps an index, one in place of the other's, and the next process finds what both have added."""
    directory = isolated / "together"
    ran("together", directory, kind)
    stored = told(directory)
    assert len(stored) == BEFORE + 2 * BATCHES * BATCH
    with opened(directory) as cache:
        assert cache.build() == len(stored)
        finds(cache, stored)


@pytest.mark.parametrize("is_last", ["the one", "the other"])
def test_an_index_of_one_is_not_taken_for_all_there_is(isolated, kind, is_last, monkeypatch):
    """What another process added after an index was last brought up to date is read in addition, and nothing else."""
    directory = isolated / "shared"
    directory.mkdir()
    one, other = opened(directory), opened(directory)
    for batch in range(4):
        vector_writers.add(one, directory, "one", texts_of("one", batch))
    assert one.build() == other.build() == 4 * BATCH
    late = one if is_last == "the other" else other
    vector_writers.add(late, directory, "late", texts_of("late", 0))
    for cache in (one, other) if is_last == "the other" else (other, one):
        cache._index._collection._unsaved = 1  # or it would be left as it is
        cache.close()
    with opened(directory) as cache:
        read = []
        original = cache._entries.read
        monkeypatch.setattr(cache._entries, "read", lambda ids: original([*map(_noted(read), ids)]))
        assert cache.build() == 5 * BATCH
        assert sorted(read) == sorted(cache._entries.id_of(text) for text in texts_of("late", 0))
        finds(cache, told(directory))


def _noted(read):
    def note(entry_id):
        read.append(entry_id)
        return entry_id

    return note
