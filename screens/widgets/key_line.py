"""The keys that act now, most used first, in one line that is drawn as a whole."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.content import Content
from textual.widget import Widget

LAST = ("jump", "command_palette", "help")


class KeyLine(Widget, can_focus=False):
    """What textual's footer shows, without a widget for each key: those cost a mode's switch its quickness."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyLine { height: 1; dock: bottom; background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self._line = Content("")
        self._ends: list[tuple[int, str]] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Any) -> None:
        if self.is_attached and screen is self.screen:
            self._compose_line()

    def on_resize(self) -> None:
        self._compose_line()

    def _compose_line(self) -> None:
        line, ends = key_line(self.screen, self.size.width)
        if line.plain != self._line.plain or line.spans != self._line.spans:
            self._line, self._ends = line, ends
            self.refresh()

    def render(self) -> Content:
        return self._line

    def on_click(self, event: events.Click) -> None:
        for end, key in self._ends:
            if event.x < end:
                self.app.simulate_key(key)
                return


def key_line(screen: Any, width: int) -> tuple[Content, list[tuple[int, str]]]:
    """The line for a screen's keys, and where each key's part ends; what does not fit is left to the help."""
    parts: dict[str, tuple[Content, str]] = {}
    dim = []
    for _, binding, enabled, _ in screen.active_bindings.values():
        if binding.show and binding.description and binding.action not in parts:
            parts[binding.action] = (_part(screen, binding, enabled), binding.key)
            if not enabled:
                dim.append(binding.action)
    last = [action for action in parts if action.split(".")[-1] in LAST]
    room = width - sum(parts[action][0].cell_length for action in last)
    shown = [action for action in parts if action not in last]
    # Keys that do nothing now go first, then those that are used least.
    going = [*[action for action in shown if action not in dim], *[action for action in shown if action in dim]]
    while going and sum(parts[action][0].cell_length for action in shown) > room:
        shown.remove(going.pop())
    line, ends = Content(""), []
    for action in [*shown, *last]:
        line = Content.assemble(line, parts[action][0])
        ends.append((line.cell_length, parts[action][1]))
    return line, ends


def _part(screen: Any, binding: Any, enabled: bool) -> Content:
    key = screen.app.get_key_display(binding)
    if not enabled:
        return Content.assemble((f" {key} {binding.description} ", "$foreground 35%"))
    return Content.assemble((f" {key} ", "bold $primary"), (f"{binding.description} ", "$foreground 75%"))
