"""What a page asks a kernel that lives and is idle: by a comm, so that no code runs in the user's name.

One comm is one question: its opening holds ``path`` and ``body`` (`spec/report.md` §7), its one message the
``answer``, or the sentence of an ``error``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import ConfigurationError, GenaiCacheError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

TARGET: Final = "genai_cache_magic"


def listen(shell: InteractiveShell) -> None:
    """Let pages ask the kernel of `shell`; nothing where there is none."""
    manager = _manager(shell)
    if manager is not None:
        manager.register_target(TARGET, _opened)


def end(shell: InteractiveShell) -> None:
    """Undo `listen`."""
    manager = _manager(shell)
    if manager is not None:
        manager.targets.pop(TARGET, None)


def _manager(shell: InteractiveShell) -> Any:
    return getattr(getattr(shell, "kernel", None), "comm_manager", None)


def _opened(comm: Any, message: dict[str, Any]) -> None:
    reply: dict[str, Any] = {"error": "that failed in an unforeseen way: the log of the kernel says how"}
    try:
        reply = {"answer": _answer(message["content"]["data"])}
    except GenaiCacheError as exc:
        reply = {"error": str(exc)}
    finally:
        comm.send(reply)
        comm.close()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    from genai_cache_magic.jupyter.controls import KernelCaches
    from genai_cache_magic.jupyter.server import answers

    if asked.get("path") != "explain":
        raise ConfigurationError("a kernel is asked to explain calls, and nothing else")
    body: dict[str, Any] = asked.get("body", {})
    return answers.explain(KernelCaches(), body, shows_text=True)
