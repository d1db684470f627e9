"""The full torture: `python tests/torture/run.py [--seed TEXT]`, some minutes.

200 killed writers and 1,000 damaged stores of the disk tier, a stream of 5 GB through each HTTP client, and two minutes
of changed inputs for every parser; 100,000 steps of teams over memory, over Redis and over Azurite, a team over a
cluster whose slots move and whose nodes are killed for five minutes, a minute over each tier of machines that set the
same new keys at once, 10,000 fills that race with an invalidation, and 20 killed leaders; 50,000 texts in a vector
cache (`--vectors 1000000` takes most of an hour more). The exit code is 1 if any answer was wrong or stale, any
finished put was lost, anything but ``StoreUnavailable`` was raised, a stream took more memory than twice the largest
answer that is stored, a text more of a vector cache took more than the first ones, or a parser raised what it does not
promise. A seed that failed is printed, and fails again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.corruption import run_corruptions
from torture.fuzzing import run_fuzzing
from torture.kills import run_kills
from torture.streams import STREAM_BYTES, StreamReport, run_streams
from torture.team import run_team
from torture.vectors import VectorReport, run_vectors


def main() -> int:
    """Run all series, say what they showed, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--corruptions", type=int, default=1000)
    parser.add_argument("--stream-bytes", type=int, default=STREAM_BYTES, help="0 for none")
    parser.add_argument("--fuzzing-s", type=float, default=120.0, help="seconds; 0 for none")
    parser.add_argument("--team-steps", type=int, default=100_000, help="over memory, and as many over Redis")
    parser.add_argument("--blob-steps", type=int, default=100_000, help="over Azurite; 0 for none")
    parser.add_argument("--cluster-s", type=float, default=300.0, help="seconds over a cluster; 0 for none")
    parser.add_argument("--at-once-s", type=float, default=60.0, help="seconds of new keys, over each tier; 0 for none")
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--leaders", type=int, default=20)
    parser.add_argument("--vectors", type=int, default=50_000, help="texts of a vector cache; 0 for none")
    options = parser.parse_args()
    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="genai-cache-torture-") as name:
        kills = run_kills(Path(name, "kills"), options.kills, options.seed)
        say(
            f"{kills.kills} writers killed, {kills.acknowledged} finished puts: "
            f"{len(kills.wrong)} wrong, {len(kills.lost)} lost, {kills.rebuilds} rebuilds"
        )
        corruptions = run_corruptions(Path(name, "corruptions"), options.corruptions, options.seed)
        say(
            f"{corruptions.corruptions} stores damaged, {corruptions.answers} answers: {len(corruptions.wrong)} wrong, "
            f"{len(corruptions.unavailable)} times unavailable, {corruptions.rebuilds} rebuilds"
        )
        fuzzing = run_fuzzing(Path(name, "fuzzing"), options.fuzzing_s, options.seed)
        say(f"{fuzzing.inputs} inputs for parsers, {fuzzing.guided} guided by coverage: {len(fuzzing.faults)} wrong")
        vectors = (
            run_vectors(Path(name, "vectors"), options.vectors, options.seed) if options.vectors else VectorReport()
        )
        for line in vectors.lines:
            say(line)
    streams = run_streams(options.stream_bytes) if options.stream_bytes else StreamReport()
    for line in streams.lines:
        say(line)
    team = run_team(
        options.team_steps,
        options.blob_steps,
        options.races,
        options.leaders,
        options.cluster_s,
        options.at_once_s,
        options.seed,
    )
    for line in team.lines:
        say(line)
    faults = kills.wrong + kills.lost + corruptions.wrong + fuzzing.faults + streams.faults + team.faults
    faults += vectors.faults
    for fault in faults + corruptions.unavailable:
        say(f"  {fault}")
    return 1 if faults else 0


def say(text: str) -> None:
    """Write a line at once, since a series takes a while."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
