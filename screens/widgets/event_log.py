"""What happened in a job, newest first."""

from __future__ import annotations

import time
from typing import Any

from textual.containers import VerticalScroll
from textual.content import Content

from screens.widgets.words import Words
from screens.wording import in_words
from studio.display import shown_line
from studio.events import CheckpointSaved, Event, Finished, Refused, Validated, Warned
from studio.runs import RunState

LINES = 100


class EventLog(VerticalScroll):
    """Times and sentences; faults in colour."""

    DEFAULT_CSS = "EventLog > Static { width: 100%; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shown: tuple[Any, ...] = ()

    def compose(self) -> Any:
        yield Words()

    def show(self, state: RunState | None) -> None:
        events = [] if state is None else list(state.recent)[-LINES:]
        shown = (state and state.folder.path, len(events), events[-1][0] if events else 0.0)
        if shown != self._shown:
            self._shown = shown
            lines = [_line(at, event) for at, event in reversed(events)]
            self.query_one(Words).say(Content("\n").join(lines) if lines else Content("Nothing has happened yet."))
            self.scroll_home(animate=False)


def _line(at: float, event: Event) -> Content:
    clock = time.strftime("%H:%M:%S" if time.time() - at < 86400 else "%d %b  ", time.localtime(at))
    return Content.assemble((f"{clock} ", "$foreground 40%"), (shown_line(in_words(event), 300), _colour(event)))


def _colour(event: Event) -> str:
    match event:
        case Finished(outcome="failed"):
            return "$error"
        case Warned() | Refused():
            return "$warning"
        case CheckpointSaved() | Validated(best=True) | Finished(outcome="completed"):
            return "$success"
        case _:
            return ""
