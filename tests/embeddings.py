"""Texts to embed by OpenAI's SDK, and what its simulated server was asked."""

from __future__ import annotations

import json

MODEL = "text-embedding-3-small"

# Batches that overlap, and what is asked for the second once the first is known.
FIRST = ["one", "two", "three"]
SECOND = ["three", "four", "one", "five"]
REST = ["four", "five"]


def texts(*numbers):
    return [f"text number {number}" for number in numbers]


def embed(client, inputs, **options):
    return client.embeddings.create(model=MODEL, input=inputs, **options)


def asked(server):
    return [json.loads(request.body)["input"] for request in server.requests]


def vectors(answer):
    return [one.embedding for one in answer.data]
