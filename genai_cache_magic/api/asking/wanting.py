"""What is to be asked, of a list, a file of requests, a run file, or a run that keeps its requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.asking.requests_file import read_requests, recorded_requests
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs.again import OnlyAsRecorded
from genai_cache_magic.runs.run_file import is_run_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.api.asking.requests_file import Wanted
    from genai_cache_magic.intercept.active import Answers
    from genai_cache_magic.runs.lines import RecordedCall
    from genai_cache_magic.runs.runs import Runs

_NO_ANSWER = Response(200, (), b"", Form.JSON)


@dataclass(frozen=True, slots=True)
class Wanting:
    """Requests whose answers are wanted, each once.

    Attributes
    ----------
    equal
        How many more are equal to one of them.
    recorded
        The calls that they are taken from, without their answers; empty for requests of no run.
    left_out
        How many of a run can't be asked again, by the reason.
    """

    different: tuple[Wanted, ...] = field(repr=False)
    equal: int = 0
    recorded: tuple[RecordedCall, ...] = field(repr=False, default=())
    left_out: Counter[str] = field(repr=False, default_factory=Counter)

    def only(self, answers: Answers) -> Answers:
        """Return `answers` so that of recorded calls such alone are asked that come to what was recorded."""
        return OnlyAsRecorded(answers, self.recorded, self.left_out) if self.recorded else answers


def wanting(given: Any, runs: Runs, *, endpoint: str = "", from_run: str = "") -> Wanting:
    """Return what is to be asked: `given` as `read_requests` has it or the path of a run file, or a run by its name.

    Raises
    ------
    ConfigurationError
        Something is no request, or the run keeps none.
    """
    if from_run:
        if isinstance(given, str | Path) or tuple(given):
            raise ConfigurationError(f"requests and the run {from_run!r} are given: leave one out")
        return _of_calls(runs.kept(from_run))
    if isinstance(given, str | Path) and is_run_file(Path(given)):
        return _of_calls(runs.calls_in(Path(given)))
    wanted = read_requests(given, endpoint=endpoint)
    seen: dict[str, Wanted] = {}
    for one in wanted:
        seen.setdefault(repr((one.path, sorted(one.body.items(), key=lambda item: item[0]))), one)
    return Wanting(tuple(seen.values()), len(wanted) - len(seen))


def _of_calls(calls: Sequence[RecordedCall]) -> Wanting:
    wanted, left_out = recorded_requests(calls)
    equal = len(calls) - left_out.total() - len(wanted)
    return Wanting(wanted, equal, tuple(replace(call, response=_NO_ANSWER) for call in calls), left_out)
