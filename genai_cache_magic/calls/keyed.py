"""A model call as its key has it: without what the rules in force call noise."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.ignoring import ignoring

if TYPE_CHECKING:
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.providers.base import ModelCall

MOST_S: Final = 0.5
"""How long rules may keep one call waiting [s of this thread's own time, which a busy machine doesn't use up]."""


def keyed(call: ModelCall, options: Options) -> ModelCall:
    """Return `call` with the request of its key; itself where no rules are in force.

    Raises
    ------
    UncacheableRequest
        The rules take too long. The call goes on uncached.
    """
    if not options.ignore or call.keyed is not None:
        return call
    ends = time.thread_time() + MOST_S
    given_out = tuple(one.path for one in call.follows)
    request = ignoring(call.request, options.ignore, given_out, is_late=lambda: time.thread_time() > ends)
    return replace(call, keyed=request)
