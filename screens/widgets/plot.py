"""Curves of a run; the plotting library is loaded when there is something to plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual.containers import Container

from screens.run_words import BIN_COLOURS, PROBED
from screens.widgets.words import Words
from studio.runs import smoothed

if TYPE_CHECKING:
    from screens.watching import Watched

SERIES = ("Loss", "Learning rate", "Gradient norm", "Images/s", "By noise", "Probe")
LACKING = {
    "By noise": "The validation loss was not taken apart by noise.",
    "Probe": "Nothing was probed. saving.probe_every tells what a run forgets and how varied its tiles are.",
}


class RunPlot(Container):
    """One series of one run; drawn again only when there is something new."""

    DEFAULT_CSS = "RunPlot > .nothing { color: $text-muted; padding: 1 2; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None, empty: str = "No steps yet.") -> None:
        super().__init__(id=id, classes=classes)
        self._empty = empty
        self._drawn: tuple[Any, ...] = ()
        self._plot: Any = None
        self._last: tuple[Watched | None, int] = (None, 0)

    def compose(self) -> Any:
        yield Words(self._empty, classes="nothing")

    def on_resize(self) -> None:
        self.call_after_refresh(lambda: self.show(*self._last))

    def show(self, job: Watched | None, series: int = 0) -> None:
        self._last = (job, series)
        if job is None or len(job.steps) < 2:
            self._show_nothing(_awaited(job) if job is not None and job.is_live else self._empty)
            return
        if series >= 4 and not any(_by_noise(job) if series == 4 else _probed(job)):
            self._show_nothing(LACKING.get(SERIES[series], self._empty))
            return
        if self._plot is None:
            self._mount_plot()
        elif not self._plot.display:
            self._plot.display = True
            self.query_one(".nothing").display = False
            self.call_after_refresh(self.call_later, lambda: self.show(*self._last))
        state = job.state
        measured = (len(state.validations), len(state.metrics))
        drawn = (job.path, series, len(job.steps), job.steps[-1].step, measured, self._plot.size)
        # A plot has no canvas to draw on before the layout that follows its mounting.
        if drawn == self._drawn or not self._plot.size:
            return
        self._drawn = drawn
        self._plot.show(self._lines(job, series), float(state.steps))

    def _mount_plot(self) -> None:
        from screens.widgets.loss_plot import LossPlot

        self.query_one(".nothing").display = False
        self._plot = LossPlot()
        self.mount(self._plot)
        self.call_after_refresh(self.call_later, lambda: self.show(*self._last))

    def _show_nothing(self, sentence: str) -> None:
        self._drawn = ()
        self.query_one(Words).say(sentence)
        if self._plot is not None:
            self._plot.display = False
        self.query_one(".nothing").display = True

    def _lines(self, job: Watched, series: int) -> list[Any]:
        variables = self.app.get_css_variables()
        faint, strong, points = variables["border-blurred"], variables["primary"], variables["accent"]
        steps = list(job.steps)
        if series == 1:
            return [_line([(one.step, one.learning_rate) for one in steps], "line", strong)]
        if series == 2:
            norms = [(one.step, one.gradient_norm) for one in steps]
            return [_line(norms, "faint", faint), _line(smoothed(norms), "line", strong)]
        if series == 3:
            rates = [(one.step, one.images / one.seconds if one.seconds else 0.0) for one in steps]
            return [_line(smoothed(rates, 0.9), "line", strong)]
        if series >= 4:
            pairs = _by_noise(job) if series == 4 else _probed(job)
            colours = [variables[name.removeprefix("$")] for name in BIN_COLOURS]
            return [_line(one, look, colours[place % len(colours)]) for place, one in enumerate(pairs)
                    for look in ("line", "points")]  # fmt: skip
        losses = [(one.step, one.loss) for one in steps]
        validations = [(one.step, one.loss) for one in list(job.state.validations)]
        return [
            _line(losses, "faint", faint),
            _line(smoothed(losses), "line", strong),
            _line(validations, "points", points),
        ]


def _awaited(job: Watched) -> str:
    return "The curve begins with the second step." if job.steps else "The first step is on its way."


def _by_noise(job: Watched) -> list[list[tuple[float, float]]]:
    """The validation loss in each part of the timesteps, from little noise to much."""
    looks = [one for one in list(job.state.validations) if one.bins]
    parts = max((len(one.bins) for one in looks), default=0)
    return [[(one.step, one.bins[part]) for one in looks if part < len(one.bins)] for part in range(parts)]


def _probed(job: Watched) -> list[list[tuple[float, float]]]:
    """How far tiles and predictions have moved from the base's."""
    metrics = list(job.state.metrics)
    return [[(one.step, one.value) for one in metrics if one.name == name and one.step is not None] for name in PROBED]


def _line(pairs: Sequence[tuple[float, float]], look: Any, colour: str) -> Any:
    import numpy as np

    from screens.widgets.loss_plot import Line

    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return Line(array[:, 0], array[:, 1], look, colour)
