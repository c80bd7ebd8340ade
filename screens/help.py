"""Every key that works where help was asked for, made from the bindings themselves, so it cannot be out of date."""

from __future__ import annotations

import textwrap
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

# Keys that every terminal program has.
UNTOLD = ("app.focus_next", "app.focus_previous", "screen.copy_text")
TEXT_WIDTH = 51


class HelpScreen(ModalScreen[None]):
    """The keys of a screen, of its pane in focus, and of the whole studio."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,f1", "close", "Close")]
    DEFAULT_CSS = "HelpScreen .dialog { width: 76; }"

    def __init__(self, screen: Screen[Any]) -> None:
        super().__init__()
        self._keys = keys_of(screen)

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as dialog:
            dialog.border_title = Content("Keys")
            dialog.border_subtitle = Content("esc closes")
            yield Static(self._keys)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_close(self) -> None:
        self.dismiss()


def keys_of(screen: Screen[Any]) -> Content:
    """Headed lists of keys: the screen's, the pane's, and those that work everywhere."""
    groups: dict[str, dict[str, tuple[list[str], str, bool]]] = {}
    for key, (node, binding, enabled, _) in screen.active_bindings.items():
        if binding.system or not binding.description or binding.action in UNTOLD:
            continue
        rows = groups.setdefault(_heading(node, screen), {})
        text = binding.tooltip or binding.description
        keys = rows.setdefault(f"{binding.action} {binding.description}", ([], text, enabled))[0]
        shown_key = screen.app.get_key_display(Binding(key, "", ""))
        if shown_key not in keys:
            keys.append(shown_key)
    lines: list[Any] = []
    for heading in sorted(groups, key=_order):
        lines.append((f"{heading}\n", "bold $primary"))
        for keys, text, enabled in groups[heading].values():
            lines.append((f"  {'  '.join(keys):<16}", "bold" if enabled else "dim"))
            wrapped = ("\n" + " " * 18).join(textwrap.wrap(text, TEXT_WIDTH))
            lines.append((f"{wrapped}\n", "" if enabled else "dim"))
        lines.append("\n")
    return Content.assemble(*lines).rstrip()


def _heading(node: Any, screen: Screen[Any]) -> str:
    if node is screen:
        return "This screen"
    return "Everywhere" if node is screen.app else "This pane"


def _order(heading: str) -> int:
    return ("This screen", "This pane", "Everywhere").index(heading)
