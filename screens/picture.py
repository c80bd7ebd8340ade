"""Pictures as large as the screen, one at a time or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen

from screens.recipe_words import recipe_line
from screens.widgets.key_line import KeyLine
from screens.widgets.picture import Picture
from screens.widgets.picture_grid import PictureGrid, Tile
from screens.widgets.words import Words
from studio.display import shown


class PictureScreen(Screen[None]):
    """One of several pictures at full size; left and right go through them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "go(-1)", "Before", key_display="←"),
        Binding("right,l", "go(1)", "Next", key_display="→"),
        Binding("escape,enter,q", "close", "Back"),
    ]
    DEFAULT_CSS = """
    PictureScreen > Vertical { height: 1fr; padding: 1 2 0 2; }
    PictureScreen #caption { height: auto; max-height: 4; padding: 0 2; color: $text-muted; }
    """

    def __init__(self, tiles: Sequence[Tile], place: int = 0) -> None:
        super().__init__()
        self._tiles, self._place = list(tiles), place

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Picture()
        yield Words(id="caption")
        yield KeyLine()

    def on_mount(self) -> None:
        self._show()

    def _show(self) -> None:
        tile = self._tiles[self._place]
        self.query_one(Picture).show(tile.path)
        text = f"{self._place + 1} of {len(self._tiles)}   {shown(tile.caption)}   {shown(tile.path.name)}"
        self.query_one("#caption", Words).say(Content(f"{text}\n{recipe_line(tile.path)}".rstrip()))

    def action_go(self, by: int) -> None:
        self._place = (self._place + by) % len(self._tiles)
        self._show()

    def action_close(self) -> None:
        self.dismiss()


class CompareScreen(Screen[None]):
    """Several pictures side by side, each with its caption."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,c", "close", "Back")]
    DEFAULT_CSS = "CompareScreen > Horizontal { height: 1fr; padding: 1 2; }"

    def __init__(self, tiles: Sequence[Tile]) -> None:
        super().__init__()
        self._tiles = list(tiles)

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield PictureGrid()
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(PictureGrid).show(self._tiles)

    def action_close(self) -> None:
        self.dismiss()
