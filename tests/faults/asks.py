"""A process that asks one question from several threads at once, and prints the ids of the answers.

Usage: asks.py URL QUESTION THREADS LATENCY; it starts when a line comes on its standard input. What became of its calls
is told on standard error, for whoever reads why a test failed.
"""

from __future__ import annotations

import sys
import threading
import time

import openai

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session


def say(*words: str) -> None:
    """Tell the test."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main(url: str, question: str, count: int, latency: str) -> None:
    client = openai.OpenAI(base_url=url, api_key="k", max_retries=0)
    found = []
    start = threading.Barrier(count)

    def ask() -> None:
        start.wait()
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": question}], extra_headers={"x-simulate-latency-s": latency}
        )
        found.append(answer.id)

    with llm_cache():
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "warm"}])
    # A machine that did not reach its team in time works alone until it has joined.
    session = current_session()
    while session.settings.l2 and session.cache(session.settings.namespace).team is None:
        time.sleep(0.01)
    with llm_cache() as cell:
        say("ready")
        sys.stdin.readline()
        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.stderr.write(f"{[(call.outcome, call.tier, call.reason) for call in cell.calls]} {cell.troubles}\n")
    say(*found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
