"""A curve drawn with textual-plot, two points a column. Imported after the first paint, as numpy is behind it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from textual_hires_canvas import HiResMode
from textual_plot import NumericAxisFormatter, PlotWidget

Look = Literal["faint", "line", "points"]


@dataclass(frozen=True)
class Line:
    """One series: values over steps, and how it looks."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    look: Look
    colour: str


class Figures(NumericAxisFormatter):
    """Ticks with thousands separated, and with as many decimals as tell them apart."""

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        gap = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else 1.0
        if ticks and max(map(abs, ticks)) < 1e-3:
            return [f"{tick:.0e}" if tick else "0" for tick in ticks]
        decimals = max(-math.floor(math.log10(gap)), 0) if gap else 0
        return [f"{tick:,.{decimals}f}" for tick in ticks]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two others, 1, 2 or 5 times a power of ten apart, at most about `most` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    return [place * gap for place in range(math.ceil(low / gap), math.floor(high / gap) + 1)]


class LossPlot(PlotWidget, can_focus=False, inherit_bindings=False):
    """textual-plot without its keys, whose letters mean other things here."""

    DEFAULT_CSS = """
    LossPlot { width: 1fr; height: 1fr; }
    LossPlot > .plot--axis { color: $border-blurred; }
    LossPlot > .plot--tick { color: $text-muted; text-style: none; }
    """

    def __init__(self) -> None:
        super().__init__(allow_pan_and_zoom=False)
        self.set_x_formatter(Figures())
        self.set_y_formatter(Figures())

    def on_mount(self) -> None:
        super().on_mount()
        self.margin_top, self.margin_bottom, self.margin_left = 0, 1, 8

    def show(self, lines: list[Line], last_step: float = 0.0) -> None:
        """Draw series, with room to the last step that will be."""
        columns = max(self.size.width - self.margin_left - 2, 8)
        self._datasets, self._labels = [], []  # clear() would draw an empty plot first
        for line in lines:
            steps, values = thinned(line.steps, line.values, columns)
            if not len(steps):
                continue
            if line.look == "points":
                self.scatter(steps, values, marker="○", marker_style=line.colour)
            elif len(steps) > 1:
                self.plot(steps, values, line_style=line.colour, hires_mode=HiResMode.BRAILLE)
        ends = [line.steps[[0, -1]] for line in lines if len(line.steps)]
        if ends:
            self.set_xlimits(
                min(0.0, float(min(e[0] for e in ends))), max(last_step, float(max(e[1] for e in ends)), 1.0)
            )
            self.set_ylimits(*_limits(lines))
            self.set_xticks(ticks(self._x_min, self._x_max, columns // 10))
            self.set_yticks(ticks(self._y_min, self._y_max, max(self.size.height // 3, 2)))


def thinned(
    steps: NDArray[np.float64], values: NDArray[np.float64], columns: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the greatest value of each of `columns` equal parts, in order; all where there are few."""
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) <= 2 * columns:
        return steps, values
    edges = np.linspace(0, len(steps), columns + 1).astype(int)
    kept = []
    for begin, end in itertools.pairwise(edges):
        part = values[begin:end]
        kept += sorted({begin + int(part.argmin()), begin + int(part.argmax())})
    return steps[kept], values[kept]


def _limits(lines: list[Line]) -> tuple[float, float]:
    """Room for the smooth lines and points in full, and for all but the wildest of the faint ones."""
    low, high = [], []
    for line in lines:
        values = line.values[np.isfinite(line.values)]
        if len(values):
            wild = line.look == "faint" and len(values) > 50
            low.append(float(np.quantile(values, 0.005) if wild else values.min()))
            high.append(float(np.quantile(values, 0.995) if wild else values.max()))
    if not low:
        return 0.0, 1.0
    room = 0.05 * (max(high) - min(low)) or 0.05 * abs(max(high)) or 0.5
    return min(low) - room, max(high) + room
