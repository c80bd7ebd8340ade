"""Jump: one key to a screen or a pane, also while a text field has the keyboard."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from screens.confirm import choice
from screens.frame import TABS

LETTERS = "qwertasdfgzxcvb"


class JumpScreen(ModalScreen[None]):
    """Digits for the screens, letters for the panes of this one."""

    def __init__(self, screen: Screen[Any]) -> None:
        super().__init__()
        self._panes = dict(zip(LETTERS, panes_of(screen), strict=False))

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = Content("Jump")
            dialog.border_subtitle = Content("press a key · esc")
            lines = [choice(str(number), title) for number, (_, title) in enumerate(TABS, 1)]
            lines += [choice(letter, name) for letter, (name, _) in self._panes.items()]
            yield Static(Content("\n").join(lines))

    def on_key(self, event: events.Key) -> None:
        event.stop()
        key = event.character or event.key
        if key.isdigit() and 1 <= int(key) <= len(TABS):
            self.dismiss()
            self.app.call_later(self.app.switch_mode, TABS[int(key) - 1][0])
        elif key in self._panes:
            self.dismiss()
            self.app.call_later(self._panes[key][1].focus)
        elif event.key in ("escape", "ctrl+o", "q"):
            self.dismiss()


def panes_of(screen: Screen[Any]) -> list[tuple[str, Widget]]:
    """(title, what takes the focus) of every framed pane of a screen that can have it, from left to right."""
    panes = []
    for pane in screen.query(".frame"):
        target = pane if pane.can_focus else next((one for one in pane.query("*") if one.focusable), None)
        title = Content.from_markup(pane.border_title).plain if pane.border_title else pane.id
        if target is not None and target.focusable and title:
            panes.append((str(title), target))
    return panes
