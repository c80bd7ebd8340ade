"""A rating: this dialog owns the digits while it is open."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from screens.confirm import choice
from studio.display import shown_line

WORDS = ("take the rating back", "not usable", "poor", "fair", "good", "could be real")


class RateScreen(ModalScreen["int | None"]):
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(rating), f"rate({rating})", words) for rating, words in enumerate(WORDS)),
        Binding("escape,q", "close", "Close"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name_of_tile = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content(shown_line(f"Rate {self._name_of_tile}", 50))
            dialog.border_subtitle = Content("a digit · esc")
            yield Static(Content("\n").join([choice(str(rating), words) for rating, words in enumerate(WORDS)]))

    def action_rate(self, rating: int) -> None:
        self.dismiss(rating)

    def action_close(self) -> None:
        self.dismiss(None)
