"""One picture, as sixels where the terminal has them and as half cells where not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.control import Control
from rich.segment import ControlType, Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from screens.pictures import Wanted
from studio.display import shown_line

if TYPE_CHECKING:
    from screens.shell import StudioApp

_PLAIN = Style()


class Picture(Widget):
    """Shows a file as large as its own box allows; give borders to what holds it, not to it."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Picture { width: 1fr; height: 1fr; }"

    class Clicked(Message):
        """The picture was clicked on."""

        def __init__(self, picture: Picture) -> None:
            super().__init__()
            self.picture = picture

        @property
        def control(self) -> Picture:
            return self.picture

    def __init__(self, path: Path | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.path: Path | None = None
        self._modified_ns = 0
        self._wanted: Wanted | None = None
        self.show(path)

    def show(self, path: Path | None) -> None:
        """Show another file, the same one if it changed, or nothing."""
        modified_ns = 0
        if path is not None:
            try:
                modified_ns = path.stat().st_mtime_ns
            except OSError:
                path = None
        if (path, modified_ns) != (self.path, self._modified_ns):
            self.path, self._modified_ns, self._wanted = path, modified_ns, None
            self.refresh()

    def wants(self, wanted: Wanted) -> bool:
        return self._wanted == wanted

    def on_click(self, event: events.Click) -> None:
        self.post_message(self.Clicked(self))

    def render_lines(self, crop: Region) -> list[Strip]:
        if not crop:
            return []
        app: StudioApp = self.app  # type: ignore[assignment]
        # Behind a dialog the screen is drawn through a filter, which a picture cannot pass.
        if self.path is None or not self.screen.is_active or app.pictures.protocol == "wait":
            return self._blank(crop)
        if app.pictures.protocol == "off":
            return [self._named(crop), *self._blank(crop)[1:]]
        drawn: Any = app.pictures.drawn(self._want(app, crop), self)
        if isinstance(drawn, list):
            return drawn
        blank = self._blank(crop)
        return [*blank[:-1], self._over(blank[-1], drawn, crop)] if isinstance(drawn, str) else blank

    def _want(self, app: StudioApp, crop: Region) -> Wanted:
        assert self.path is not None
        ground = self.background_colors[1]
        self._wanted = Wanted(
            self.path,
            self._modified_ns,
            self.size.width,
            self.size.height,
            (crop.x, crop.y, crop.width, crop.height),
            app.pictures.cell_px,
            (ground.r, ground.g, ground.b),
            app.pictures.protocol,
        )
        return self._wanted

    def _blank(self, crop: Region) -> list[Strip]:
        return [Strip.blank(crop.width, self.rich_style)] * crop.height

    def _named(self, crop: Region) -> Strip:
        name = shown_line(self.path.name if self.path else "", crop.width)
        return Strip([Segment(name.ljust(crop.width), self.rich_style)], crop.width)

    def _over(self, last: Strip, sixels: str, crop: Region) -> Strip:
        """The last line with the picture drawn over all lines.

        The cursor is left on the last line of the picture, not below it: there the next line feed would scroll the
        whole screen when the picture is near its lower edge.
        """
        x, y = self.region.x + crop.x, self.region.y + crop.y
        controls = (
            Control.move_to(x, y).segment.text,
            sixels,
            Control.move_to(x + crop.width, y + crop.height - 1).segment.text,
        )
        drawn = [Segment(text, _PLAIN, [(ControlType.CURSOR_FORWARD, 0)]) for text in controls]
        return Strip([*last, *drawn], crop.width)
