"""The end of a job's log: what libraries printed, and tracebacks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from studio.display import shown

TAIL_BYTES = 64_000


class LogScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,L", "close", "Close")]
    DEFAULT_CSS = "LogScreen .dialog { width: 96%; height: 90%; }"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = Content("Log")
            dialog.border_subtitle = Content("esc closes")
            yield Static(Content(tail(self._path)))

    def on_mount(self) -> None:
        view = self.query_one(VerticalScroll)
        view.focus()
        self.call_after_refresh(view.scroll_end, animate=False)

    def action_close(self) -> None:
        self.dismiss()


def tail(path: Path) -> str:
    """The last lines of a log, made safe to show."""
    try:
        data = path.read_bytes()[-TAIL_BYTES:]
    except OSError:
        data = b""
    return shown(data.decode("utf-8", "replace").replace("\r\n", "\n")) or "Nothing was printed."
