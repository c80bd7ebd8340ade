"""A model that has to be downloaded, or unpacked from its file, before something can begin with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen

from screens import wording
from screens.confirm import ConfirmScreen
from screens.widgets.key_line import KeyLine
from screens.widgets.words import Words
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.events import Event, Phase

if TYPE_CHECKING:
    from screens.shell import StudioApp


class _Cancelled(Exception):
    """Asked to stop between two pieces; what is there is used by the next download."""


class FetchTold(Message):
    """The thread that fetches is so far."""

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.phase = phase


class FetchEnded(Message):
    """The model is there, or a fault says why not."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault


class FetchScreen(ModalScreen[bool]):
    """How far a download is; dismissed with whether the model is there."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", "Cancel")]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._model, self._is_closed = name, False

    @property
    def studio(self) -> StudioApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(shown_line(f"Fetching {self._model}", 56))
            dialog.border_subtitle = Content("esc cancels; it goes on from there later")
            yield Words("Asking for its files…", id="far")
        yield KeyLine()

    def on_mount(self) -> None:
        self._fetch()

    @work(thread=True)
    def _fetch(self) -> None:
        from studio.fetching import fetch_model

        try:
            fetch_model(self.studio.workspace, self._model, self._told)
        except _Cancelled:
            return
        except StudioError as error:
            self.post_message(FetchEnded(wording.error_text(error)))
        else:
            self.post_message(FetchEnded())

    def _told(self, event: Event) -> None:
        if self._is_closed:
            raise _Cancelled
        if isinstance(event, Phase):
            self.post_message(FetchTold(event))

    def on_fetch_told(self, message: FetchTold) -> None:
        phase = message.phase
        full, rest = wording.bar(phase.done / phase.total if phase.total else 0.0, 50)
        line = Content(wording.phase_of(phase, 44))
        self.query_one("#far", Words).say(
            Content.assemble(line, "\n", (full, "$primary"), (rest, "$foreground 40%")) if phase.total else line
        )

    def on_fetch_ended(self, message: FetchEnded) -> None:
        if message.fault:
            self.query_one("#far", Words).say(Content.assemble((shown(message.fault), "$error")))
        else:
            self.dismiss(True)

    def action_close(self) -> None:
        self._is_closed = True
        self.dismiss(False)


def with_model(app: StudioApp, name: str, begin: Callable[[], None]) -> None:
    """Begin something with a model, after asking and fetching it where it is not there yet."""
    from studio.fetching import is_here

    if is_here(app.workspace, name):
        begin()
    else:
        ask_to_fetch(app, name, begin)


def ask_to_fetch(app: StudioApp, name: str, then: Callable[[], None]) -> None:
    """Fetch a model once it was agreed to, as it may take hours and much of the disk."""

    def fetched(is_there: bool | None) -> None:
        if is_there:
            then()

    def answered(is_wanted: bool | None) -> None:
        if is_wanted:
            app.push_screen(FetchScreen(name), fetched)

    app.push_screen(_question(app, name), answered)


def _question(app: StudioApp, name: str) -> ConfirmScreen:
    free = f" {wording.gigabytes(app.free_bytes)} GB are free." if app.free_bytes else ""
    if Path(name).is_file():
        text = f"It has to be unpacked into the workspace first, which takes as much room again.{free}"
        return ConfirmScreen(shown_line(f"Unpack {name}?", 56), text, "Unpack it", "Not now")
    text = f"It is not here yet. Models of the hub are mostly of 2 to 14 GB, and are kept in the workspace.{free}"
    return ConfirmScreen(shown_line(f"Download {name}?", 56), text, "Download it", "Not now")
