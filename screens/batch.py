"""One batch: a grid's sheet, or what became of a class plan, with the tiles that were refused, else those made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen

from screens import batch_facts, wording
from screens.watching import Watched
from screens.widgets.browser import Browser
from screens.widgets.key_line import KeyLine
from screens.widgets.picture_grid import PictureGrid, Tile
from screens.widgets.words import Words
from studio.display import shown_line
from studio.errors import StudioError

if TYPE_CHECKING:
    from screens.shell import StudioApp

# Seconds between two looks at a batch that is being made.
LOOK_SECONDS = 1.0


class BatchScreen(Screen[None]):
    """Facts on the left, pictures on the right; a refused one tells why under itself."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "full_size", "Full size", tooltip="The pictures as large as the screen"),
        Binding("r", "resume", "Resume", tooltip="Make the tiles that are missing of a batch that stopped"),
        Binding("escape,q,v", "close", "Back"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    DEFAULT_CSS = """
    BatchScreen #facts { width: 46; height: 100%; }
    BatchScreen #said { width: 100%; }
    BatchScreen #right { width: 1fr; height: 100%; }
    BatchScreen Browser, BatchScreen #sheet { height: 1fr; }
    BatchScreen #why { height: auto; max-height: 2; color: $foreground 65%; }
    BatchScreen.-narrow #facts { width: 43; }
    """

    def __init__(self, job: Watched) -> None:
        super().__init__()
        self._job = job
        self._shown_at = -1.0

    def compose(self) -> ComposeResult:
        with Horizontal(id="body"):
            with VerticalScroll(id="facts", classes="frame"):
                yield Words(id="said")
            with Vertical(id="right", classes="frame"):
                yield PictureGrid(id="sheet")
                yield Browser((18, 9), "No tiles yet.", id="browser")
                yield Words(id="why")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one("#facts").border_title = Content(shown_line(self._job.path.name, 40))
        self._look()
        self.set_focus(self.query_one(Browser) if self.query_one(Browser).display else self.query_one("#facts"))
        self.set_interval(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if self._job.is_live or self._shown_at != self._job.state.updated_at:
            self._shown_at = self._job.state.updated_at
            self._show()

    def _show(self) -> None:
        job = self._job
        self.query_one("#said", Words).say(batch_facts.facts(job))
        is_sheet = batch_facts.has_sheet(job)
        refused = batch_facts.refused(job)
        tiles = batch_facts.sheet(job) if is_sheet else refused or batch_facts.tiles(job)
        self.query_one("#sheet").display, self.query_one(Browser).display = is_sheet, not is_sheet
        self.query_one("#right").border_title = "Sheet" if is_sheet else "Refused" if refused else "Tiles"
        self.query_one("#right").border_subtitle = "" if is_sheet else wording.count(len(tiles), "tile")
        if is_sheet:
            self.query_one("#sheet", PictureGrid).show(tiles)
            self.query_one("#why", Words).say("")
        else:
            self.query_one(Browser).browse(tiles, keep_place=True)
        self.refresh_bindings()

    @property
    def _tiles(self) -> Sequence[Tile]:
        """What is shown."""
        browser = self.query_one(Browser)
        return browser.all if browser.display else self.query_one("#sheet", PictureGrid).tiles

    @on(Browser.Moved)
    def _say_why(self, message: Browser.Moved) -> None:
        tiles = message.browser.all
        self.query_one("#why", Words).say(tiles[message.browser.cursor].caption if tiles else "")

    @on(Browser.Opened)
    def _open_tile(self, message: Browser.Opened) -> None:
        self._open(message.browser.all, message.place)

    @on(PictureGrid.Chosen)
    def _open_sheet(self, message: PictureGrid.Chosen) -> None:
        self._open(message.grid.tiles, message.place)

    def _open(self, tiles: Sequence[Tile], place: int = 0) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(tiles, place))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "resume":
            return True if self._job.state.status in wording.RESUMABLE else None
        if action == "full_size" and self.is_mounted:
            return True if self._tiles else None
        return True

    def action_full_size(self) -> None:
        if tiles := self._tiles:
            self._open(tiles)

    def action_resume(self) -> None:
        resume(self.app, self._job)  # type: ignore[arg-type]

    def action_close(self) -> None:
        self.dismiss()


def resume(app: StudioApp, job: Watched) -> None:
    """Make the tiles that are missing of a batch."""
    from studio import requests

    try:
        app.start(requests.resume_batch(app.workspace, job.path.name, app.session.device))
    except StudioError as error:
        app.tell_error(error)
    else:
        app.tell(f"Going on with {job.path.name}.")
