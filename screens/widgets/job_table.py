"""Tables whose rows are followed by key: only cells that changed are drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable
from textual.widgets.data_table import RowDoesNotExist


@dataclass(frozen=True)
class Column:
    name: str
    width: int | None = None
    right: bool = False


class JobTable(DataTable[Text]):
    """Rows of foreign text, never parsed as markup; the cursor stays on its row while others come and go."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
    ]

    def __init__(
        self, columns: Sequence[Column], enter: str = "Open", *, id: str | None = None, classes: str | None = None
    ) -> None:
        """`enter` says what the key does to a row; empty where it does nothing."""
        super().__init__(id=id, classes=classes, cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._bindings.key_to_bindings["enter"] = [Binding("enter", "select_cursor", enter, show=bool(enter))]
        self._named = tuple(columns)
        self._cells: dict[str, tuple[Text, ...]] = {}

    def on_mount(self) -> None:
        self._add_columns()

    def _add_columns(self) -> None:
        if self.columns:  # a dialog may have shown its rows before
            return
        for column in self._named:
            name = Text(column.name, justify="right" if column.right else "left")
            self.add_column(name, key=column.name, width=column.width)

    @property
    def row_in_view(self) -> str | None:
        """The key of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def show(self, rows: Mapping[str, Sequence[str | Text]]) -> None:
        """Show rows in this order."""
        self._add_columns()
        cells = {key: tuple(self._cell(cell, place) for place, cell in enumerate(row)) for key, row in rows.items()}
        if list(cells) != list(self._cells):
            self._fill(cells)
        else:
            for key, row in cells.items():
                for column, new, old in zip(self._named, row, self._cells[key], strict=True):
                    if new != old or new.style != old.style:
                        self.update_cell(key, column.name, new, update_width=column.width is None)
        self._cells = cells

    def go_to(self, key: str) -> None:
        try:
            self.move_cursor(row=self.get_row_index(key), animate=False)
        except RowDoesNotExist:
            return

    def _fill(self, cells: dict[str, tuple[Text, ...]]) -> None:
        here = self.row_in_view
        with self.app.batch_update():
            self.clear()
            for key, row in cells.items():
                self.add_row(*row, key=key)
        if here is not None:
            self.go_to(here)

    def _cell(self, cell: str | Text, place: int) -> Text:
        text = cell if isinstance(cell, Text) else Text(cell)
        text.justify = "right" if self._named[place].right else "left"
        text.no_wrap = True
        return text
