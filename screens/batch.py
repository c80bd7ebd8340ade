"""One batch: a grid's sheet, or what became of a class plan and the tiles that were refused."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import Screen

from screens import wording
from screens.batch_facts import facts, pictures
from screens.watching import Watched
from screens.widgets.browser import Browser
from screens.widgets.key_line import KeyLine
from screens.widgets.picture_grid import PictureGrid
from screens.widgets.words import Words
from studio.display import shown_line

# Seconds between two looks at a batch that is being made.
LOOK_SECONDS = 1.0


class BatchScreen(Screen[None]):
    """Facts on the left, pictures on the right; a refused one tells why under itself."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "full_size", "Full size", tooltip="The pictures as large as the screen"),
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

    def compose(self) -> ComposeResult:
        with Horizontal(id="body"):
            with VerticalScroll(id="facts", classes="frame"):
                yield Words(id="said")
            with Vertical(id="right", classes="frame"):
                yield PictureGrid(id="sheet")
                yield Browser((18, 9), "Nothing was refused.", id="browser")
                yield Words(id="why")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one("#facts").border_title = Content(shown_line(self._job.path.name, 40))
        self._show()
        self.set_focus(self.query_one(Browser) if self.query_one(Browser).display else self.query_one("#facts"))
        if self._job.is_live:
            self.set_interval(LOOK_SECONDS, self._show)

    def _show(self) -> None:
        self.query_one("#said", Words).say(facts(self._job))
        tiles = pictures(self._job)
        is_grid = self._job.state.kind == "grid"
        self.query_one("#sheet").display, self.query_one(Browser).display = is_grid, not is_grid
        self.query_one("#right").border_title = "Sheet" if is_grid else "Refused"
        if is_grid:
            self.query_one("#sheet", PictureGrid).show(tiles)
        else:
            self.query_one(Browser).browse(tiles, keep_place=True)
            self.query_one("#right").border_subtitle = wording.count(len(tiles), "tile")

    @on(Browser.Moved)
    def _say_why(self, message: Browser.Moved) -> None:
        tiles = message.browser.all
        self.query_one("#why", Words).say(tiles[message.browser.cursor].caption if tiles else "")

    @on(Browser.Opened)
    def _open_refused(self, message: Browser.Opened) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.browser.all, message.place))

    @on(PictureGrid.Chosen)
    def _open_sheet(self, message: PictureGrid.Chosen) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.grid.tiles, message.place))

    def action_full_size(self) -> None:
        from screens.picture import PictureScreen

        if tiles := pictures(self._job):
            self.app.push_screen(PictureScreen(tiles))

    def action_close(self) -> None:
        self.dismiss()
