"""Work for other processes, which import it by name."""

from __future__ import annotations

import os
import threading

import openai


def ask(url, text, *, max_retries=0):
    """Ask the simulated model, and return the id of its answer."""
    return ask_model(url, "m", text, max_retries=max_retries)


def ask_model(url, model, text, *, max_retries=0):
    """The same of a model by name."""
    with openai.OpenAI(base_url=url, api_key="k", max_retries=max_retries) as client:
        return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}]).id


def ask_in_thread(url, text):
    """The same in a thread, of which nobody hears."""
    thread = threading.Thread(target=ask, args=(url, text))
    thread.start()
    thread.join()


def ask_and_die(url, text):
    """The same, and be killed at once."""
    ask(url, text)
    os._exit(9)


def scope_here(_=None):
    """Return the tags of the scope that is in force, None if there is none."""
    from genai_cache_magic.intercept.active import active

    here = active.get()
    return None if here is None else here.scope.options.tags


def ask_at_once(url, model, max_tokens, text, count):
    """Ask `count` different questions in threads at one time, and return how many were answered."""
    from concurrent.futures import ThreadPoolExecutor

    with (
        openai.OpenAI(base_url=url, api_key="k", max_retries=0, timeout=60) as client,
        ThreadPoolExecutor(count) as pool,
    ):

        def ask(number):
            messages = [{"role": "user", "content": f"{text} {number}"}]
            return client.chat.completions.create(model=model, max_tokens=max_tokens, messages=messages)

        futures = [pool.submit(ask, number) for number in range(count)]
        return sum(future.exception() is None for future in futures)
