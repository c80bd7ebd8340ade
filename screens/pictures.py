"""Pictures for the terminal: which way this one draws them, and a thread that encodes them once for each size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from textual.message import Message

if TYPE_CHECKING:
    from screens.driver import TerminalAnswered
    from screens.shell import StudioApp
    from screens.widgets.picture import Picture

Protocol = Literal["wait", "sixel", "halfcell", "off"]
Drawn = "str | list[Strip] | None"

# An answer later than this still turns sixels on; until then half cells are shown.
WAIT_SECONDS = 0.7
CACHE_CHARACTERS = 64_000_000
USUAL_CELL_PX = (10, 20)


@dataclass(frozen=True)
class Wanted:
    """One picture at one size; `crop` is the part in view: (x, y, width, height) in cells."""

    path: Path
    modified_ns: int
    columns: int
    rows: int
    crop: tuple[int, int, int, int]
    cell_px: tuple[int, int]
    background: tuple[int, int, int]
    protocol: Protocol


class PicturesReady(Message):
    """A thread has encoded pictures that widgets wait for."""

    def __init__(self, widgets: list[Picture]) -> None:
        super().__init__()
        self.widgets = widgets


class Pictures:
    """What the terminal can show, and the encoded pictures; nothing is encoded on the event loop."""

    def __init__(self, setting: str) -> None:
        self.protocol: Protocol = "wait"
        self.cell_px = USUAL_CELL_PX
        self._setting = setting
        self._app: StudioApp | None = None
        self._cache: OrderedDict[Wanted, Any] = OrderedDict()
        self._characters = 0
        self._asked: dict[Wanted, list[Picture]] = {}
        self._some = threading.Condition()
        self._closed = False

    def start(self, app: StudioApp) -> None:
        """Begin to encode; called after the first paint."""
        self._app = app
        threading.Thread(target=self._work, name="pictures", daemon=True).start()
        if self._setting in ("sixel", "halfcell", "off"):
            self._choose(self._setting)  # type: ignore[arg-type]
        elif app.is_headless:
            self._choose("halfcell")
        elif self.protocol == "wait":
            app.set_timer(WAIT_SECONDS, self._stop_waiting)
        self.measure_cells()

    def close(self) -> None:
        with self._some:
            self._closed = True
            self._some.notify()

    def measure_cells(self) -> None:
        """Ask the terminal device for the size of a cell."""
        from screens.driver import cell_size

        found = None if self._app is None or self._app.is_headless else cell_size()
        if found is not None and found != self.cell_px:
            self.cell_px = found
            self.redraw()

    def answered(self, answer: TerminalAnswered) -> None:
        """The terminal told what it can do, at once or a long way later."""
        if answer.cell_px is not None and self.cell_px == USUAL_CELL_PX:
            self.cell_px = answer.cell_px
        if answer.sixel is not None and self._setting == "auto":
            self._choose("sixel" if answer.sixel else "halfcell")

    def _stop_waiting(self) -> None:
        if self.protocol == "wait":
            self._choose("halfcell")

    def _choose(self, protocol: Protocol) -> None:
        if self.protocol != protocol:
            self.protocol = protocol
            self.redraw()

    def redraw(self) -> None:
        """Draw every picture in view again."""
        if self._app is None or not self._app.is_running:
            return
        from screens.widgets.picture import Picture

        for picture in self._app.screen.query(Picture):
            picture.refresh()

    def drawn(self, wanted: Wanted, widget: Picture) -> Any:
        """The encoded picture, if it is there; else the widget is drawn again when it is."""
        with self._some:
            if wanted in self._cache:
                self._cache.move_to_end(wanted)
                return self._cache[wanted]
            waiting = self._asked.setdefault(wanted, [])
            if widget not in waiting:
                waiting.append(widget)
            self._some.notify()
        return None

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                drawn = encode(wanted)
            except Exception as error:  # the edge: a picture that cannot be drawn is told in its place
                drawn = unshown(wanted, error)
            self._keep(wanted, drawn)

    def _next(self) -> Wanted | None:
        with self._some:
            while True:
                # What nobody looks at any more is not worth encoding; the newest wish comes first.
                for wanted in [one for one, widgets in self._asked.items() if not any(w.wants(one) for w in widgets)]:
                    del self._asked[wanted]
                if self._closed:
                    return None
                if self._asked:
                    return next(iter(self._asked))
                self._some.wait()

    def _keep(self, wanted: Wanted, drawn: Any) -> None:
        with self._some:
            self._cache[wanted] = drawn
            self._characters += len(drawn) if isinstance(drawn, str) else 20_000
            while self._characters > CACHE_CHARACTERS:
                _, old = self._cache.popitem(last=False)
                self._characters -= len(old) if isinstance(old, str) else 20_000
            widgets = self._asked.pop(wanted, [])
        if self._app is not None and self._app.is_running and not self._closed:
            self._app.post_message(PicturesReady(widgets))


def encode(wanted: Wanted) -> Any:
    """The picture as a sixel string, or as strips of half cells."""
    from screens.widgets import drawing  # Pillow and textual-image; only needed once a picture is in view

    return drawing.sixels(wanted) if wanted.protocol == "sixel" else drawing.half_cells(wanted)


def unshown(wanted: Wanted, error: Exception) -> Any:
    """Strips that say that a picture cannot be shown."""
    from screens.widgets import drawing

    return drawing.words(wanted, f"{wanted.path.name} cannot be shown: {error}")
