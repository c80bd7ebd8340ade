"""What every screen has: the line with the tabs on top, its own body, the line with work and devices, the keys."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from screens import wording
from screens.watching import JobNews, Watched
from screens.widgets.key_line import KeyLine
from studio.devices import DeviceLoad
from studio.display import shown_line

if TYPE_CHECKING:
    from screens.shell import StudioApp

TABS = (("home", "Home"), ("data", "Data"), ("train", "Train"), ("prompt", "Prompt"), ("gallery", "Gallery"),
        ("evaluate", "Evaluate"))  # fmt: skip
HOT_MEMORY, HOT_CELSIUS = 0.9, 85.0


class TopLine(Widget):
    """The workspace, the six screens, and the machine."""

    DEFAULT_CSS = "TopLine { height: 1; background: $panel; }"

    def __init__(self, active: str) -> None:
        super().__init__()
        self._active = active
        self._ends: list[tuple[int, str]] = []

    def render(self) -> Content:
        app: StudioApp = self.app  # type: ignore[assignment]
        name = shown_line(app.workspace.root.absolute().name, 24)
        left = f" rs-studio  {name}  " if self.size.width >= 100 else " rs-studio "
        line = Content.assemble((left[:10], "bold $primary"), left[10:])
        self._ends = []
        for number, (mode, title) in enumerate(TABS, 1):
            is_active = mode == self._active
            tab = f"▌{number} {title}▐" if is_active else f" {number} {title} "
            line = Content.assemble(line, (tab, "bold $primary on $surface" if is_active else "$foreground 65%"))
            self._ends.append((line.cell_length, mode))
        right = shown_line(
            f"{socket.gethostname()}:{app.workspace.root}", max(self.size.width - line.cell_length - 3, 0)
        )
        gap = self.size.width - line.cell_length - len(right) - 1
        return Content.assemble(line, " " * max(gap, 0), (right, "$foreground 40%")) if gap > 1 else line

    def on_click(self, event: events.Click) -> None:
        for end, mode in self._ends:
            if event.x < end:
                if self._ends[0][0] - 9 < event.x:
                    self.app.switch_mode(mode)
                return


class StatusLine(Widget):
    """What runs now, how far it is, and how busy the devices are."""

    DEFAULT_CSS = "StatusLine { height: 1; background: $panel; color: $text-muted; }"

    def __init__(self) -> None:
        super().__init__()
        self._line = Content("")

    def show(self, line: Content) -> None:
        if line != self._line:
            self._line = line
            self.refresh()

    def render(self) -> Content:
        return self._line


def status_line(live: list[Watched], waiting: int, loads: list[DeviceLoad], width: int) -> Content:
    """The status line for the jobs at work and the devices' loads."""
    line = work_part(live, waiting, width)
    for load in loads:
        part = load_part(load, width)
        if line.cell_length + part.cell_length + 3 > width:
            break
        line = Content.assemble(line, (" │ ", "$foreground 40%"), part)
    return line


def work_part(live: list[Watched], waiting: int, width: int) -> Content:
    if not live:
        return Content(" Idle" if not waiting else f" {wording.count(waiting, 'job')} waiting to start")
    state = live[0].state
    done, total = wording.progress(state)
    share = done / total if total else 0.0
    full, rest = wording.bar(share, 15 if width >= 100 else 8)
    symbol = ("‖", "$warning") if state.status == "paused" else ("●", "$success")
    parts: list[str | tuple[str, str]] = [" ", symbol, f" {shown_line(wording.title_of(state), 22)} "]
    if total:
        parts += [f" {done:,}/{total:,} ", (full, "$primary"), (rest, "$foreground 40%"), f" {share:4.0%}"]
    if state.phase is not None:
        parts.append(f"  {wording.phase_beside(state, 24)}")
    elif state.status == "paused":
        parts.append("  paused")
    elif state.seconds_left is not None:
        parts.append(f"  {wording.time_left(state.seconds_left)}")
    if len(live) > 1 or waiting > 1:
        parts.append(f"  +{max(len(live), waiting) - 1}")
    return Content.assemble(*parts)


def load_part(load: DeviceLoad, width: int) -> Content:
    """GPU0 98%  61/141 GB  612 W  58°, in colour where it is close to a limit."""
    name = "CPU" if load.name == "cpu" else load.name.replace("cuda:", "GPU")
    share = load.memory_used_bytes / load.memory_total_bytes if load.memory_total_bytes else 0.0
    memory = f"{wording.gigabytes(load.memory_used_bytes)}/{wording.gigabytes(load.memory_total_bytes)} GB"
    parts: list[str | tuple[str, str]] = [f"{name} "]
    if load.load_percent is not None:
        parts.append(f"{load.load_percent:.0f}%  ")
    parts.append((memory, "bold $error" if share >= HOT_MEMORY else ""))
    if load.power_watts is not None and width >= 100:
        parts.append(f"  {load.power_watts:.0f} W")
    if load.temperature_celsius is not None:
        hot = load.temperature_celsius >= HOT_CELSIUS
        parts.append((f"  {load.temperature_celsius:.0f}°", "bold $error" if hot else ""))
    return Content.assemble(*parts)


class StudioScreen(Screen[None]):
    """One of the six; a subclass gives its name and body and shows what changed."""

    MODE: ClassVar[str] = ""
    # Nothing has the focus at first, so that arrows and letters act on the screen.
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (80, "-normal"), (118, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-high")]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back", show=False)]

    @property
    def studio(self) -> StudioApp:
        return self.app  # type: ignore[return-value]

    def compose(self) -> ComposeResult:
        yield TopLine(self.MODE)
        yield from self.body()
        yield StatusLine()
        yield KeyLine()

    def body(self) -> Iterable[Widget]:
        """The screen's own widgets."""
        return ()

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        # Nothing about the styles has changed while another screen was in front; working them out again for every
        # widget would take longer than all the rest of the switch.
        event.refresh_styles = False
        self.show_status()
        # The screen is painted as it was left, then brought up to date.
        self.call_after_refresh(self.show_all)

    def show_all(self) -> None:
        """Bring the whole screen up to date, when it comes to the front."""

    def show_news(self, news: list[JobNews]) -> None:
        """Bring up to date what the news concern; called only while the screen is in front."""

    def show_loads(self) -> None:
        """Bring the devices' figures up to date."""

    def show_status(self) -> None:
        app = self.studio
        self.query_one(StatusLine).show(status_line(app.live_jobs(), app.session.waiting, app.loads, self.size.width))

    def action_back(self) -> None:
        """Leave a text field, so that single keys act again."""
        self.set_focus(None)
