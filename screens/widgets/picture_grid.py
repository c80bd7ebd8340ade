"""Pictures with captions in rows and columns; the widgets stay, what they show changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import events, on
from textual.containers import Container, Vertical
from textual.message import Message

from screens.widgets.picture import Picture
from screens.widgets.words import Words


@dataclass(frozen=True)
class Tile:
    """A picture with its caption; marked ones carry a sign."""

    path: Path
    caption: str = ""
    is_marked: bool = False


class PictureCell(Vertical):
    """One picture over one line of caption."""

    DEFAULT_CSS = """
    PictureCell { width: 1fr; height: 1fr; }
    PictureCell > Static { height: 1; width: 100%; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    PictureCell.-chosen > Static { color: $primary; text-style: bold; }
    """

    def compose(self) -> Any:
        yield Picture()
        yield Words()

    def show(self, tile: Tile | None, is_chosen: bool, has_caption: bool) -> None:
        self.query_one(Picture).show(tile.path if tile else None)
        sign = "" if tile is None else ("▸" if is_chosen else " ") + ("✓ " if tile.is_marked else " ")
        caption = self.query_one(Words)
        caption.display = has_caption
        caption.say(f"{sign}{tile.caption}" if tile else "")
        self.set_class(is_chosen, "-chosen")


class PictureGrid(Container, can_focus=False):
    """Shows the first tiles that fit into cells of at least `cell` columns and rows."""

    DEFAULT_CSS = """
    PictureGrid { layout: grid; grid-gutter: 0 1; }
    PictureGrid > .nothing { color: $text-muted; padding: 1 2; column-span: 1; }
    """

    @dataclass
    class Fitted(Message):
        """There is room for another number of pictures than before."""

        grid: PictureGrid

    @dataclass
    class Chosen(Message):
        """A picture was clicked on."""

        grid: PictureGrid
        place: int

    def __init__(
        self,
        cell: tuple[int, int] | None = None,
        empty: str = "Nothing to see yet.",
        *,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._cell = cell
        self._empty = empty
        self._tiles: list[Tile] = []
        self._chosen: int | None = None
        self._cells: list[PictureCell] = []
        self.columns, self.rows = 1, 1

    def compose(self) -> Any:
        yield Words(self._empty, classes="nothing")

    @property
    def tiles(self) -> list[Tile]:
        """What is shown."""
        return list(self._tiles)

    @property
    def places(self) -> int:
        """How many pictures fit."""
        return self.columns * self.rows

    def on_resize(self, event: events.Resize) -> None:
        before = (self.columns, self.rows)
        self._fit()
        self._fill()
        if before != (self.columns, self.rows):
            self.post_message(self.Fitted(self))

    def show(self, tiles: Sequence[Tile], chosen: int | None = None) -> None:
        """Show tiles; those beyond the last place are left out."""
        if (list(tiles), chosen) != (self._tiles, self._chosen):
            self._tiles, self._chosen = list(tiles), chosen
            self._fit()
            self._fill()

    def _fit(self) -> None:
        width, height = self.content_size.width, self.content_size.height
        if self._cell is not None:
            self.columns = max(width // self._cell[0], 1)
            self.rows = max(height // self._cell[1], 1)
        else:
            self.columns, self.rows = shape(len(self._tiles), width, height)
        self.styles.grid_size_columns = self.columns
        self.styles.grid_size_rows = self.rows

    def _fill(self) -> None:
        self.query_one(".nothing").display = not self._tiles
        wanted = self.places if self._tiles else 0
        while len(self._cells) > wanted:
            self._cells.pop().remove()
        new = [PictureCell() for _ in range(wanted - len(self._cells))]
        if new:
            self._cells += new
            self.mount(*new)
            self.call_after_refresh(self._show_cells)
        self._show_cells()

    def _show_cells(self) -> None:
        has_caption = any(tile.caption for tile in self._tiles)
        for place, cell in enumerate(self._cells):
            if cell.children:
                tile = self._tiles[place] if place < len(self._tiles) else None
                cell.show(tile, place == self._chosen, has_caption)

    @on(Picture.Clicked)
    def _tell_choice(self, message: Picture.Clicked) -> None:
        message.stop()
        place = next((place for place, cell in enumerate(self._cells) if cell is message.picture.parent), None)
        if place is not None:
            self.post_message(self.Chosen(self, place))


def shape(count: int, width: int, height: int) -> tuple[int, int]:
    """(columns, rows) that show `count` square pictures largest in a box of cells twice as high as wide."""
    best, best_side = (1, 1), -1.0
    for columns in range(1, max(count, 1) + 1):
        rows = -(-max(count, 1) // columns)
        side = min(width / columns, 2 * (height / rows - 1))
        if side > best_side:
            best, best_side = (columns, rows), side
    return best
