"""Connections to a real Redis, for one block or for the class of a contract."""

from __future__ import annotations

import contextlib

import pytest

from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget


@contextlib.contextmanager
def connected(url, **how):
    """A connection that is closed at the block's end."""
    with contextlib.closing(RedisConnection(RedisTarget(url, **how))) as connection:
        yield connection


class OverRedis:
    """What every contract over Redis has: a server, and a connection to it."""

    @pytest.fixture
    def url(self, redis_server):
        return redis_server.url

    @pytest.fixture
    def connection(self, url):
        with connected(url) as connection:
            yield connection
