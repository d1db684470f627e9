"""From the start of a cell to its end: which scope its model calls belong to.

IPython announces each cell before it runs and after it ran. A *frame* stands for a cell that is running;
``%%llm_cache`` opens a scope in the frame of its own cell, wherever in the cell it is reached, and the end
of the cell closes it. Cells nest (``run_cell`` in a cell) and run in several threads (subshells). Of a silent
cell (``%run x.ipynb``, ``ipython x.ipynb``) it says only that one begins and ends.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from genai_cache_magic import host
from genai_cache_magic.jupyter.arguments import CellArguments, parse_cell
from genai_cache_magic.jupyter.live import LiveBadge
from genai_cache_magic.jupyter.transform import NAME
from genai_cache_magic.jupyter.views import CellViews

if TYPE_CHECKING:
    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

    from genai_cache_magic.api.scopes.opened import OpenCell
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.errors import CellInterrupt


@dataclass(slots=True, eq=False)
class Opened:
    """A scope that a frame holds open, and how it was asked for."""

    line: str = field(repr=False)
    cell: OpenCell
    badge: LiveBadge


@dataclass(slots=True, eq=False)
class Frame:
    """A cell that is running.

    Attributes
    ----------
    info
        None for one whose start was not announced, such as the cell that loaded the extension.
    name
        Identity of the cell, once it was asked for.
    is_stranded
        Whether it stands for a cell that began before there was anyone to hear of it.
    """

    info: ExecutionInfo | None = field(repr=False)
    name: str = ""
    is_stranded: bool = False
    opened: list[Opened] = field(default_factory=list)

    def is_of(self, info: ExecutionInfo) -> bool:
        """Whether `info`, which is no frame's own, may tell of the end of this cell."""
        return self.info is None or self.info.raw_cell == info.raw_cell


class CellScopes:
    """The scopes of the cells of one shell.

    Attributes
    ----------
    known
        Values that options were given in this kernel, such as ``{"--tag": {"baseline"}}``, for completion.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.known: dict[str, set[str]] = {"--tag": set(), "--run": set(), "--namespace": set(), "--model": set()}
        self._shell = shell
        self._local = threading.local()  # `frames` of this thread, outermost first
        self._notebook: CellArguments | None = None  # of `%llm_cache on`
        self._bodies: Counter[str] = Counter()
        self._lock = host.process_lock()  # guards _bodies
        self.views = CellViews(shell)
        self._ended: WeakSet[CellScope] = WeakSet()  # their threads and tasks may still run

    @property
    def has_front_end(self) -> bool:
        """Whether there may be a browser, and no terminal."""
        return hasattr(self._shell, "kernel")

    # -- events of the shell

    def pre_execute(self) -> None:
        """Take note of a silent cell that starts."""
        info = _announcement().get("info")
        if info is not None and info.silent:
            self.pre_run_cell(info)

    def pre_run_cell(self, info: ExecutionInfo) -> None:
        """Remember that a cell starts; open its scope if the whole notebook has one."""
        frame = Frame(info)
        nested = any(below.opened and not below.is_stranded for below in self._frames)
        self._frames.append(frame)
        if self._notebook is not None and not nested:
            self._open_automatic(frame)

    def post_execute(self) -> None:
        """Take note of a silent cell that ended."""
        told = _announcement()
        if told.get("silent"):
            self.post_run_cell(told.get("result") or told.get("res"))

    def post_run_cell(self, result: ExecutionResult | None) -> None:
        """Close what the cell opened, and show what it did."""
        taken: list[Frame] = []
        try:
            self._take(result, taken)
            self._end(taken, result)
        except BaseException:  # an interrupt: the cell is over all the same, and nothing of it stays in force
            if not taken:
                self._take(result, taken)
            for frame in reversed(taken):
                self._abandon(frame)
            raise

    def close(self) -> None:
        """Close what this thread's cells have opened: the extension goes, and their end will not be heard."""
        while self._frames:
            self._finish(self._frames.pop())

    # -- what the magic asks for

    def begin(self, line: str) -> None:
        """Open a scope with the options of `line` in the running cell; once, however often it is reached.

        Raises
        ------
        ConfigurationError
            An option or its value is wrong.
        """
        frame = self._frames[-1] if self._frames else None
        if frame is None or (frame.opened and frame.opened[-1].line == line and not frame.opened[-1].badge.automatic):
            return
        self._open(frame, line, parse_cell(line))

    def run(self, line: str, body: str) -> None:
        """Run `body` as a cell of its own in a scope with the options of `line`, and raise what it raised.

        Raises
        ------
        ConfigurationError
            An option or its value is wrong.
        """
        arguments = parse_cell(line)
        frame = Frame(None, self._identity(None, body))
        try:
            self._open(frame, line, arguments)
            self._frames.append(frame)
            result = self._shell.run_cell(body)  # type: ignore[no-untyped-call]
        finally:
            if frame in self._frames:
                self._frames.remove(frame)
            lost = self._finish(frame)
        result.raise_error()
        if lost is not None:
            raise lost

    def turn_on(self, line: str) -> Options:
        """Give a scope to the rest of this cell and to every cell that follows.

        Raises
        ------
        ConfigurationError
            An option or its value is wrong; what was in force stays.
        """
        return self._turn_on(parse_cell(line))

    @property
    def kept(self) -> tuple[dict[str, Any], bool] | None:
        """What `turn_on_again` takes, in plain values; None if nothing is on."""
        return None if self._notebook is None else (self._notebook.given, self._notebook.quiet)

    def turn_on_again(self, given: dict[str, Any], quiet: bool) -> None:  # noqa: FBT001 - as `kept` gives them
        """Do what `turn_on` did before the extension was loaded anew; raises as `turn_on`."""
        self._turn_on(CellArguments(given, quiet))

    def _turn_on(self, arguments: CellArguments) -> Options:
        options = current().turn_on(**arguments.given)
        self._close_automatic()
        self._notebook = arguments
        if not self._frames:
            self._frames.append(Frame(None, is_stranded=True))
        if not self._has_own_scope():
            self._open_automatic(self._frames[-1])
        return options

    def cover_all(self) -> None:
        """Give a scope to every cell that follows, with no more options than the settings give."""
        current().enabled = True
        self._notebook = CellArguments({})

    def turn_off(self) -> None:
        """End what `turn_on` began, also for the rest of this cell."""
        current().turn_off()
        self._notebook = None
        self._close_automatic()

    # -- frames

    @property
    def _frames(self) -> list[Frame]:
        frames: list[Frame] | None = getattr(self._local, "frames", None)
        if frames is None:
            frames = self._local.frames = []
        return frames

    def _take(self, result: ExecutionResult | None, taken: list[Frame]) -> None:
        """Move the frame of the cell that ended to `taken`, with frames above it that lost their end."""
        frames = self._frames
        info = None if result is None else result.info
        own = next((i for i, frame in enumerate(frames) if info is not None and frame.info is info), None)
        if own is None and frames and (info is None or (_has_run(info) and frames[-1].is_of(info))):
            own = len(frames) - 1  # an interrupt costs IPython its record of the cell: the innermost it is
        if own is not None:
            taken += frames[own:]
            del frames[own:]

    def _end(self, frames: list[Frame], result: ExecutionResult | None) -> None:
        """End the cell of `frames`; with what was missing in its threads and tasks, if it came to a good end."""
        lost = [self._close(frame) for frame in reversed(frames)]
        late = [scope.outstanding() for scope in tuple(self._ended)]
        self._ended.update(opened.cell.scope for frame in frames for opened in frame.opened)
        error = next((error for error in [*lost, *map(_of_another, late)] if error is not None), None)
        if error is not None and result is not None and result.success:
            result.error_in_exec = error
            self._shell.showtraceback((type(error), error, None))
        for frame in reversed(frames):
            self._show(frame)

    def _finish(self, frame: Frame) -> CellInterrupt | None:
        """Close and show what `frame` opened; return what is still to be raised."""
        try:
            lost = self._close(frame)
            self._show(frame)
        except BaseException:  # as in `post_run_cell`
            self._abandon(frame)
            raise
        return lost

    def _abandon(self, frame: Frame) -> None:
        """Close what `frame` opened, whose end was interrupted, and show no more of its progress: under other cells."""
        self._close(frame)
        for opened in frame.opened:
            opened.badge.stop()

    def _close(self, frame: Frame) -> CellInterrupt | None:
        for opened in reversed(frame.opened):
            opened.cell.close()
        lost = [opened.cell.scope.outstanding() for opened in frame.opened]
        return next((error for error in lost if error is not None), None)

    def _show(self, frame: Frame) -> None:
        is_behind_the_scenes = frame.info is not None and frame.info.silent and hasattr(self._shell, "kernel")
        for opened in frame.opened:
            scope = opened.cell.scope
            self.views.has_run(frame.name, len(scope.calls))
            self.known["--model"].update(call.model for call in scope.calls if call.model)
            if is_behind_the_scenes and not self._frames:
                opened.badge.stop()
            else:
                opened.badge.show(scope)

    # -- scopes

    def _open_automatic(self, frame: Frame) -> None:
        if self._notebook is not None:
            self._open(frame, "", CellArguments({}, self._notebook.quiet), automatic=True)

    def _close_automatic(self) -> None:
        if self._has_own_scope():
            return  # it lies above the automatic one, which the end of the cell closes
        for frame in reversed(self._frames):
            for opened in reversed(frame.opened):
                opened.cell.close()

    def _has_own_scope(self) -> bool:
        """Whether the running cell, or one that it is part of, asked for a scope by name."""
        return any(not opened.badge.automatic for frame in self._frames for opened in frame.opened)

    def _open(self, frame: Frame, line: str, arguments: CellArguments, *, automatic: bool = False) -> None:
        from genai_cache_magic.api.scopes.cells import open_cell

        session = current()
        options = session.options(**arguments.given)
        self._remember(options)
        status = session.settings.status
        frame.name = frame.name or self._identity(frame.info)
        options = self.views.asked(frame.name, options)
        badge = LiveBadge(
            self._publish if status != "off" else _show_nothing,
            quiet=arguments.quiet or (self._notebook is not None and self._notebook.quiet),
            automatic=automatic,
            updates=status in ("auto", "widget") and hasattr(self._shell, "kernel"),
            make_view=self.views.maker(status, frame.name),
            expected=self.views.expected(frame.name),
            is_captured=self.views.is_captured,
            clearing=self.views.clearing(),
        )
        hints = self.views.hints(status, frame.name)

        def keep(cell: OpenCell) -> None:
            frame.opened.append(Opened(line, cell, badge))

        cell = open_cell(session, options, cell=frame.name, hooks=(badge.note,), keep=keep)
        cell.scope.notices += hints
        badge.start(cell.scope)

    def _remember(self, options: Options) -> None:
        self.known["--tag"].update(options.tags)
        self.known["--namespace"].add(options.namespace)
        if options.run:
            self.known["--run"].add(options.run)

    def _identity(self, info: ExecutionInfo | None, body: str = "") -> str:
        """Return the front end's id of the cell; where it sends none, a digest of its body and an ordinal."""
        if info is not None and info.cell_id:
            return str(info.cell_id)
        text = body if info is None else "\n".join(_body(info.raw_cell or ""))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        with self._lock:
            self._bodies[digest] += 1
            return f"{digest}-{self._bodies[digest]}"

    def _publish(self, data: dict[str, Any], /, *, display_id: str = "", update: bool = False) -> None:
        transient = {"display_id": display_id} if display_id else {}
        self._shell.display_pub.publish(data, {}, transient=transient, update=update)


def current() -> Session:
    """Return the session of this process; it is made, and its libraries imported, when first needed."""
    from genai_cache_magic.api.scopes.session import current_session

    return current_session()


def _announcement() -> dict[str, Any]:
    """Return the variables of the function of IPython that announces an event.

    Those about silent cells bear no arguments, and come with other messages to a kernel too.
    """
    return sys._getframe(3).f_locals  # noqa: SLF001 - above the callback, and the loop over the callbacks


def _show_nothing(data: dict[str, Any], /, *, display_id: str = "", update: bool = False) -> None:
    """Take the place of a publisher where ``status = "off"``."""


def _of_another(error: CellInterrupt | None) -> CellInterrupt | None:
    """Return what was missing behind a cell that had ended, as what stops another cell, which may call no model."""
    return None if error is None else type(error)(f"in a thread or task of an earlier cell: {error}")


def _has_run(info: ExecutionInfo) -> bool:
    """Whether IPython announced this cell: it passes over an empty one, but reports its end."""
    return bool(info.raw_cell and not info.raw_cell.isspace())


def _body(text: str) -> list[str]:
    """Return the lines of a cell without our own, so that another option leaves the cell's identity alone."""
    return [line for line in text.splitlines() if not line.startswith(f"%%{NAME}")]
