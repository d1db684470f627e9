"""Runs with a name: what executes one, and how they are looked at."""

from __future__ import annotations

import openai

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session

MODEL = "gpt-4.1-mini"


def ask(url, text, **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more).id


def execute(url, *texts, run="sweep", **options):
    with llm_cache(run=run, **options):
        return [ask(url, text) for text in texts]


def runs():
    return current_session().cache("default").runs
