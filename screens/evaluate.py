"""Evaluate: every measurement beside what it was measured with, and only figures that may be compared side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from screens import run_facts, wording
from screens.frame import StudioScreen
from screens.watching import JobNews, Watched
from screens.widgets.job_table import Column, JobTable
from screens.widgets.picture_grid import PictureGrid, Tile
from screens.widgets.words import Words
from studio.datasets.dataset import held_out_split, open_dataset
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.events import MetricMeasured
from studio.settings import DownstreamSettings, EvaluateSettings
from studio.workspace import Workspace, folders

COLUMNS = (
    Column("", 1), Column("generated", 14), Column("real", 13), Column("by", 2), Column("Fréchet↓", right=True),
    Column("KID↓", right=True), Column("acc↑", 5, right=True), Column("N", 5, right=True),
)  # fmt: skip
PICTURES = 6


class PairRead(Message):
    """A thread has found pictures of both sides of an evaluation."""

    def __init__(self, path: Path, tiles: list[Tile]) -> None:
        super().__init__()
        self.path, self.tiles = path, tiles


class EvaluateScreen(StudioScreen):
    MODE = "evaluate"
    CSS_PATH = "evaluate.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "measure", "Evaluate", tooltip="Compare a batch of tiles with real pictures"),
        Binding(
            "c", "classify", "Classifier", tooltip="Train a land-cover classifier on tiles and test it on real pictures"
        ),
        Binding("x", "stop", "Stop", tooltip="Stop the measurement in view"),
        Binding("y", "copy_path", "Copy path", tooltip="Copy the report's path"),
        Binding("L", "log", "Log", show=False, tooltip="What libraries printed, and tracebacks"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._pair_of: Path | None = None

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="left"):
                with Vertical(id="figures", classes="frame"):
                    yield JobTable(COLUMNS, id="table")
                    yield Words(id="with")
                yield PictureGrid(id="pair", classes="frame", empty="n measures a batch against real pictures.")
            with VerticalScroll(id="report", classes="frame"):
                yield Words(id="text")

    def on_mount(self) -> None:
        self.query_one("#figures").border_title = "Measurements"
        self.query_one("#figures").border_subtitle = "↓ lower is better   ↑ higher is better"
        self.query_one("#pair").border_title = "Real above, generated below"
        self.query_one("#report").border_title = "Report"
        self.query_one(JobTable).focus()

    # Showing

    def show_all(self) -> None:
        jobs = self.studio.jobs("evaluations")
        protocols = protocols_of(jobs)
        jobs.sort(key=lambda job: (letter(job, protocols) or "~", -float(job.state.updated_at)))
        self.query_one(JobTable).show({str(job.path): row(job, protocols) for job in jobs})
        lines = [Content.assemble((f"{name} ", "bold $primary"), words) for words, name in protocols.items()]
        if len(protocols) > 1:
            lines.append(Content("Figures under different letters must not be compared."))
        self.query_one("#with", Words).say(Content("\n").join(lines))
        self._show_report()

    def show_news(self, news: list[JobNews]) -> None:
        if any(one.job.section == "evaluations" for one in news):
            self.show_all()

    @property
    def job(self) -> Watched | None:
        key = self.query_one(JobTable).row_in_view
        return next((job for job in self.studio.jobs("evaluations") if str(job.path) == key), None)

    def _show_report(self) -> None:
        job = self.job
        self.refresh_bindings()
        if job is None:
            self.query_one("#text", Words).say(Content("No measurement yet.\n\nn  compares a batch with real pictures"))
            self.query_one(PictureGrid).show([])
            return
        self.query_one("#report").border_title = Content(f"Report · {wording.title_of(job.state)}")
        self.query_one("#text", Words).say(report(job))
        if self._pair_of != job.path:
            self._pair_of = job.path
            self._read_pair(self.studio.workspace, job.path)

    @work(thread=True, exclusive=True, group="pair")
    def _read_pair(self, workspace: Workspace, path: Path) -> None:
        self.post_message(PairRead(path, pair(workspace, path)))

    def on_pair_read(self, message: PairRead) -> None:
        if message.path == self._pair_of:
            self.query_one(PictureGrid).show(message.tiles)

    # Keys and messages

    @on(JobTable.RowHighlighted)
    def _look_at_row(self) -> None:
        self._show_report()

    @on(JobTable.RowSelected)
    def _read_report(self) -> None:
        self.query_one("#report").focus()

    @on(PictureGrid.Chosen)
    def _open_picture(self, message: PictureGrid.Chosen) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.grid.tiles, message.place))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("copy_path", "log", "stop") and self.is_mounted:
            job = self.job
            return True if job and (action != "stop" or job.is_live) else None
        return True

    def action_measure(self) -> None:
        from screens.evaluate_form import ask_for_evaluation

        ask_for_evaluation(self.studio, EvaluateSettings, "generated")

    def action_classify(self) -> None:
        from screens.evaluate_form import ask_for_evaluation

        ask_for_evaluation(self.studio, DownstreamSettings, "synthetic")

    def action_stop(self) -> None:
        if job := self.job:
            self.studio.ask(job.watch.folder, "stop")

    def action_copy_path(self) -> None:
        if job := self.job:
            path = str((job.path / "report.md").absolute())
            self.app.copy_to_clipboard(path)
            self.studio.tell(f"Copied {path}")

    def action_log(self) -> None:
        from screens.log import LogScreen

        if job := self.job:
            self.app.push_screen(LogScreen(job.watch.folder.log_path))


def protocol(metric: MetricMeasured) -> str:
    """All that must agree before two figures may be compared."""
    return (
        f"{metric.n_real:,} real (split {metric.split_sha256[:8]}) against {metric.n_generated:,} generated, "
        f"{shown_line(metric.network, 50)} {metric.weights_sha256[:8]}"
    )


def protocols_of(jobs: list[Watched]) -> dict[str, str]:
    """A letter for each way of measuring that occurs."""
    ways = dict.fromkeys(
        protocol(job.state.metrics[0]) for job in sorted(jobs, key=lambda one: one.path.name) if job.state.metrics
    )
    return {way: chr(ord("A") + place % 26) for place, way in enumerate(ways)}


def letter(job: Watched, protocols: dict[str, str]) -> str:
    return protocols.get(protocol(job.state.metrics[0]), "") if job.state.metrics else ""


def row(job: Watched, protocols: dict[str, str]) -> tuple[str | Text, ...]:
    state, folder = job.state, job.path
    found = {metric.name: metric for metric in state.metrics}
    batch = run_facts.setting(folder, "generated") or run_facts.setting(folder, "synthetic")
    real = run_facts.setting(folder, "real") + (f":{split}" if (split := run_facts.setting(folder, "split")) else "")
    frechet = found.get("fid") or found.get("frechet_distance") or found.get("frechet")
    kid = found.get("kid")
    accuracy = next(
        (metric for name, metric in found.items() if "overall_accuracy" in name or name == "accuracy"), None
    )
    counts = f"{state.metrics[0].n_generated:,}" if state.metrics else "-"
    if job.is_live:
        done, total = wording.progress(state)
        counts = f"{done}/{total}" if total else "…"
    return (
        run_facts.symbol(state),
        shown_line(batch, 14),
        shown_line(real, 13),
        letter(job, protocols),
        f"{frechet.value:.2f}" if frechet else "-",
        f"{kid.value:.4f}" if kid else "-",
        f"{accuracy.value:.1%}" if accuracy else "-",
        counts,
    )


def report(job: Watched) -> Content:
    """Every figure with all that is needed to believe it, then what the written report says beside its tables."""
    state = job.state
    lines: list[Content] = []
    if state.finished is not None and state.status == "failed":
        lines.append(Content.assemble((shown(f"{state.finished.message} {state.finished.hint}"), "$error")))
    for metric in state.metrics:
        lines.append(
            Content.assemble((f"{shown_line(metric.name, 34):<28}", ""), (f"{metric.value:.5g}", "bold $primary"))
        )
        if metric.floor is not None:
            lines.append(
                Content.assemble((f"  real against real at the same count {metric.floor:.5g}", "$foreground 65%"))
            )
        if metric.note:
            lines.append(Content.assemble((f"  {shown_line(metric.note)}", "$foreground 65%")))
    try:
        text = (job.path / "report.md").read_text("utf-8", "replace")
    except OSError:
        text = "" if state.metrics or not job.is_live else "Measuring…"
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    return Content("\n").join([*lines, Content(""), Content(re.sub(r"\n{3,}", "\n\n", shown(prose)))])


def pair(workspace: Workspace, path: Path) -> list[Tile]:
    """A few real pictures, then as many generated ones; runs on a thread."""
    batch = run_facts.setting(path, "generated") or run_facts.setting(path, "synthetic")
    name, _, split = run_facts.setting(path, "real").partition(":")
    try:
        dataset = open_dataset(workspace, name)
        pictures = dataset.pictures(held_out_split(dataset, run_facts.setting(path, "split") or split))
        step = max(len(pictures) // PICTURES, 1)
        real = [Tile(dataset.path(one), shown_line(one.label or "real", 20)) for one in pictures[::step][:PICTURES]]
    except StudioError:
        real = []
    batches = {folder.name: folder for folder in folders(workspace.batches)}
    tiles = sorted((batches[batch] / "tiles").glob("*.png")) if batch in batches else []
    step = max(len(tiles) // PICTURES, 1)
    return [*real, *[Tile(tile, "generated") for tile in tiles[::step][:PICTURES]]]
