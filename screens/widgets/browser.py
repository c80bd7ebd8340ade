"""Many pictures, a page at a time, with a cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message

from screens.widgets.picture_grid import PictureGrid, Tile


class Browser(PictureGrid, can_focus=True):
    """A grid over a list of any length; arrows move the cursor, and the page follows it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1)", "Before", show=False),
        Binding("right,l", "move(1)", "Next", show=False),
        Binding("up,k", "move_rows(-1)", "Row up", show=False),
        Binding("down,j", "move_rows(1)", "Row down", show=False),
        Binding("pageup,ctrl+u", "move_pages(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+d", "move_pages(1)", "Page down", show=False),
        Binding("home,g", "to(0)", "First", show=False),
        Binding("end,G", "to(-1)", "Last", show=False),
        Binding("enter", "open", "Full size", tooltip="The picture as large as the screen"),
    ]

    @dataclass
    class Moved(Message):
        """The cursor went to another picture, or other pictures came."""

        browser: Browser
        place: int

    @dataclass
    class Opened(Message):
        """A picture is wanted at full size."""

        browser: Browser
        place: int

    def __init__(self, cell: tuple[int, int], empty: str, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(cell, empty, id=id, classes=classes)
        self.all: list[Tile] = []
        self.cursor = 0
        self._top = 0
        self.range_in_view = ""

    def browse(self, tiles: Sequence[Tile], keep_place: bool = False) -> None:
        """Go through other pictures."""
        was_empty, self.all = not self.all, list(tiles)
        if was_empty != (not self.all):
            self.refresh_bindings()
        self.cursor = min(self.cursor, max(len(self.all) - 1, 0)) if keep_place else 0
        self._show_page()

    def go_to(self, place: int) -> None:
        if self.all:
            self.cursor = min(max(place, 0), len(self.all) - 1)
            self._show_page()

    def _show_page(self) -> None:
        self._top = self.cursor // self.places * self.places
        self.show(self.all[self._top : self._top + self.places], self.cursor - self._top if self.all else None)
        first, last = (self._top + 1, min(self._top + self.places, len(self.all))) if self.all else (0, 0)
        self.range_in_view = f"{first:,}–{last:,} of {len(self.all):,}"
        self.post_message(self.Moved(self, self.cursor))

    @on(PictureGrid.Fitted)
    def _fit_page(self) -> None:
        self._show_page()

    @on(PictureGrid.Chosen)
    def _choose(self, message: PictureGrid.Chosen) -> None:
        message.stop()
        self.focus()
        place = self._top + message.place
        if place == self.cursor:
            self.post_message(self.Opened(self, place))
        self.go_to(place)

    def on_mouse_scroll_down(self) -> None:
        self.go_to(self.cursor + self.columns)

    def on_mouse_scroll_up(self) -> None:
        self.go_to(self.cursor - self.columns)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if action == "open" and not self.all else True

    def action_move(self, by: int) -> None:
        self.go_to(self.cursor + by)

    def action_move_rows(self, by: int) -> None:
        self.go_to(self.cursor + by * self.columns)

    def action_move_pages(self, by: int) -> None:
        self.go_to(self.cursor + by * self.places)

    def action_to(self, place: int) -> None:
        self.go_to(place if place >= 0 else len(self.all) - 1)

    def action_open(self) -> None:
        if self.all:
            self.post_message(self.Opened(self, self.cursor))
