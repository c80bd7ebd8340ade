"""What the workspace holds, in a few lines for Home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from screens import wording
from studio.datasets.dataset import finished_datasets
from studio.display import shown_line
from studio.errors import StudioError

if TYPE_CHECKING:
    from screens.shell import StudioApp


def data_lines(app: StudioApp) -> Content:
    """Data sets with their sizes, then what could be done next."""
    parts: list[str | tuple[str, str]] = []
    try:
        sets = finished_datasets(app.workspace)
    except StudioError as error:
        return Content.assemble((shown_line(error.message), "$error"))
    for dataset in sets[:6]:
        classes = f"  {len(dataset.classes)} cls" if dataset.classes else ""
        parts.append(f"{shown_line(dataset.name, 14):<14} {sum(dataset.splits.values()):>7,}{classes}\n")
    if not sets:
        parts.append("No data sets yet.\n")
    batches = app.jobs("batches")
    if batches:
        parts.append(f"{wording.count(len(batches), 'batch', 'batches')} of tiles\n")
    parts.append(("\n─ Next " + "─" * 26 + "\n", "$foreground 40%"))
    for key, text in _next(app, bool(sets)):
        parts += [(f"{key}  ", "bold $primary"), f"{text}\n"]
    return Content.assemble(*parts)


def _next(app: StudioApp, has_data: bool) -> list[tuple[str, str]]:
    if not has_data:
        return [("i", "import pictures"), ("D", "try it on built-in data")]
    runs = app.jobs("runs")
    steps = [("n", "train on a data set")]
    if runs:
        steps.append(("4", f"try a prompt with {shown_line(runs[0].path.name[:4])}"))
    if app.jobs("batches"):
        steps += [("5", "look at the tiles"), ("6", "measure them against real ones")]
    return steps
