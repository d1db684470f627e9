"""joblib's workers, loky's by default, follow the cell that gives them work: cached, counted, and in its mode."""

from __future__ import annotations

import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss

joblib = pytest.importorskip("joblib", reason="pip install joblib")
loky = pytest.importorskip("joblib.externals.loky", reason="pip install joblib")


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own, and leaves no worker."""
    yield
    loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)


def asked(server, backend, count=4):
    """What `count` calls in a pool are answered."""
    bodies = [{"model": "m", "messages": [{"role": "user", "content": str(i)}]} for i in range(count)]
    url = f"{server.openai_url}/chat/completions"
    ask = joblib.delayed(httpx2.post)
    answers = joblib.Parallel(n_jobs=2, backend=backend)(ask(url, json=body, timeout=60) for body in bodies)
    return [answer.json() for answer in answers]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_the_second_run_is_all_hits(unique_server, backend):
    """Workers that were started by one cell follow the next one too, and outside of a cell they follow none."""
    with llm_cache() as first:
        answers = asked(unique_server, backend)
    assert (first.misses, first.hits, unique_server.count) == (4, 0, 4)
    with llm_cache() as second:
        assert asked(unique_server, backend) == answers
    assert (second.misses, second.hits, unique_server.count) == (0, 4, 4)
    assert first.troubles == second.troubles == ()
    asked(unique_server, backend, 1)
    assert unique_server.count == 5


def test_in_replay_no_worker_asks(unique_server):
    """What is missing ends the cell."""
    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        asked(unique_server, "loky", 1)
    assert unique_server.count == 0


def test_work_by_its_name(isolated):
    """Loky takes the work by its name as well, and says itself what is wrong with a call of its own."""
    pool = loky.get_reusable_executor(max_workers=1)
    with llm_cache() as cell:
        assert pool.submit(fn=abs).exception() is not None
        assert pool.submit(abs, -3).result(timeout=60) == 3
        with pytest.raises(TypeError):
            pool.submit()
    assert cell.troubles == ()
