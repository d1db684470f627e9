"""The view of a cell and the panel as ipywidgets: the ES modules in `static/`, by the library anywidget."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import GenaiCacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[str, dict[str, Any]], dict[str, Any]]

HOW_TO_INSTALL: Final = "pip install 'genai-cache-magic[widget]'"
VIEW_MIME: Final = "application/vnd.jupyter.widget-view+json"
_STATIC = Path(__file__).parent / "static"
_UNFORESEEN = "that failed in an unforeseen way: the log of the kernel says how"


def is_installed() -> bool:
    """Return whether a widget can be made; nothing is imported for it."""
    return all(importlib.util.find_spec(name) is not None for name in ("anywidget", "ipywidgets"))


def cell_status(report: dict[str, Any], answer: Answer) -> Any:
    """Return a widget that draws `report`; what its buttons ask for is answered by `answer`.

    Its trait ``report`` is what is drawn. `answer` takes a path and a body (`spec/report.md` §7), in the thread in
    which the kernel hears of messages, and says what went wrong by a `GenaiCacheError`.
    """
    return _class("CellStatus", ("cell_status.js",))(answer, report=report)


def panel(answer: Answer, report: dict[str, Any]) -> Any:
    """Return a widget that shows `report`, what the cache holds and what it cost; else as `cell_status`."""
    return _class("CachePanel", ("cell_status.js", "panel.js"))(answer, report=report)


@cache
def _class(name: str, modules: tuple[str, ...]) -> Any:
    import anywidget
    import traitlets

    class Answering(anywidget.AnyWidget):
        """Answers the messages of its view."""

        _esm = _joined(modules)
        report = traitlets.Dict().tag(sync=True)

        def __init__(self, answer: Answer, **state: Any) -> None:
            super().__init__(**state)
            self._answer = answer
            self.on_msg(self._heard)

        def _heard(self, _widget: object, message: dict[str, Any], _buffers: object) -> None:
            number = message.get("id")
            reply = {"id": number, "error": _UNFORESEEN}
            try:
                reply = {"id": number, "answer": self._answer(message["path"], message["body"])}
            except GenaiCacheError as exc:
                reply["error"] = str(exc)
            finally:
                self.send(reply)

    Answering.__name__ = Answering.__qualname__ = name
    return Answering


def _joined(modules: tuple[str, ...]) -> str:
    """Return modules as one: a widget's can't import those that stand beside it."""
    texts = [(_STATIC / name).read_text(encoding="utf-8") for name in modules]
    if len(texts) == 1:
        return texts[0]
    first, *others = texts
    lines = [line for text in others for line in text.splitlines() if not line.startswith("import ")]
    return "\n".join([first.replace("export default", "export const cell_status ="), *lines])
