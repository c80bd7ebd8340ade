"""Train: one run as it goes, its settings, curve, previews, speed and events, and the keys that steer it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget

from screens import wording
from screens.frame import StudioScreen
from screens.home import resume
from screens.run_words import figures, speed, status, told
from screens.watching import JobNews, Watched
from screens.widgets.event_log import EventLog
from screens.widgets.picture_grid import PictureGrid, Tile
from screens.widgets.plot import SERIES, RunPlot
from screens.widgets.words import Words
from studio.display import shown_line

# Seconds between two drawings of a live curve.
PLOT_SECONDS = 0.5


class TrainScreen(StudioScreen):
    MODE = "train"
    CSS_PATH = "train.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "toggle_pause", "Pause", tooltip="Pause after the current step, or go on"),
        Binding("x", "stop", "Stop", tooltip="Save a checkpoint and stop; r goes on later"),
        Binding("s", "save", "Save", tooltip="Save a checkpoint now"),
        Binding("v", "preview", "Preview", tooltip="Make previews now"),
        Binding("r", "resume", "Resume", tooltip="Go on where the newest checkpoint is"),
        Binding("n", "new_run", "New", tooltip="Train on a data set"),
        Binding("b", "probe", "Probe", tooltip="Draw fixed prompts, to see what a base knows before it is trained"),
        Binding("c", "checkpoints", "Checkpoints", tooltip="What was measured at each; p promotes one"),
        Binding("e", "edit_copy", "Copy", tooltip="A new run from this one's settings"),
        Binding("z", "zoom", "Zoom", tooltip="The curve on the whole screen"),
        Binding("w", "export", "Write out", tooltip="Export this run as a LoRA or a whole model"),
        Binding("left_square_bracket", "series(-1)", "Curve", show=False, tooltip="The curve before"),
        Binding("right_square_bracket", "series(1)", "Curve", key_display="[ ]", tooltip="The next curve"),
        Binding("left", "preview_step(-1)", "Earlier previews", show=False),
        Binding("right", "preview_step(1)", "Later previews", show=False),
        Binding("enter", "full_size", "Full size", show=False, tooltip="The previews as large as the screen"),
        Binding("L", "log", "Log", show=False, tooltip="What libraries printed, and tracebacks"),
        Binding("up,k", "other_run(-1)", "Newer run", show=False),
        Binding("down,j", "other_run(1)", "Older run", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._series = 0
        self._steps_back = 0
        self._plot_is_due = False

    def body(self) -> Iterable[Widget]:
        with Horizontal(id="body"):
            with Vertical(id="left"):
                with VerticalScroll(id="settings", classes="frame"):
                    yield Words(id="told")
                yield Words(id="speed", classes="frame")
            with Vertical(id="right"):
                yield RunPlot(id="plot", classes="frame", empty="No steps yet. n begins a run.")
                with Container(id="below"):
                    yield PictureGrid(id="previews", classes="frame", empty="No previews yet. v makes some now.")
                    yield EventLog(id="events", classes="frame")

    def on_mount(self) -> None:
        self.query_one("#events").border_title = "Events"
        self.query_one("#previews").border_subtitle = "← → step   ↵ full size"
        self.query_one("#plot").border_subtitle = "train ⠂  smoothed ⣿  validation ○"
        self.set_interval(PLOT_SECONDS, self._draw_due_plot)

    # Showing

    @property
    def job(self) -> Watched | None:
        """The run in view: the one that was opened, else the one at work, else the newest."""
        app = self.studio
        runs = app.jobs("runs")
        if app.run_in_view is not None:
            for job in runs:
                if job.path == app.run_in_view.path:
                    return job
        return next((job for job in runs if job.is_live), runs[0] if runs else None)

    def show_all(self) -> None:
        job = self.job
        self.query_one("#told", Words).say(told(job) if job else Content("No run yet. n begins one."))
        self._show_state(job)
        self._show_plot()

    def show_news(self, news: list[JobNews]) -> None:
        job = self.job
        mine = [one for one in news if one.job is job]
        if not mine:
            if any(one.is_first and one.job.section == "runs" for one in news):
                self.show_all()
            return
        if any(one.is_first or one.before in ("new", "stopped", "interrupted", "failed") for one in mine):
            self._steps_back = 0
            self.show_all()
            return
        self._show_state(job)
        self._plot_is_due = True

    def _show_state(self, job: Watched | None) -> None:
        self.query_one("#speed", Words).say(speed(job) if job else Content(""))
        self._show_title(job)
        self.query_one(EventLog).show(job.state if job else None)
        self._show_previews(job)
        # The key says what it would do now.
        word = "Resume" if job and job.state.status == "paused" else "Pause"
        keys = self._bindings.key_to_bindings
        keys["space"] = [replace(one, description=word) for one in keys["space"]]
        self.refresh_bindings()

    def _show_title(self, job: Watched | None) -> None:
        """Which run it is and how it stands, on the settings, or on the speed where there is no room for those."""
        title, stands = (f" · {wording.title_of(job.state)}", status(job)) if job else ("", "")
        settings, speed = self.query_one("#settings"), self.query_one("#speed")
        settings.border_title = Content(f"Settings{title}")
        settings.border_subtitle = Content(shown_line(stands, 34))
        is_hidden = not settings.display
        speed.border_title = Content(f"Speed{title}" if is_hidden else "Speed")
        speed.border_subtitle = Content(shown_line(stands, max(self.size.width - 8, 20)) if is_hidden else "")

    def on_resize(self) -> None:
        # Only then has the style for the new size been applied.
        self.call_after_refresh(lambda: self._show_title(self.job))

    def _show_previews(self, job: Watched | None) -> None:
        previews = list(job.state.previews) if job else []
        steps = sorted({one.step for one in previews})
        self._steps_back = min(self._steps_back, max(len(steps) - 1, 0))
        grid = self.query_one("#previews", PictureGrid)
        if not job or not steps:
            grid.border_title = Content("Previews")
            grid.show([])
            return
        step = steps[-1 - self._steps_back]
        best = "  best" if job.state.best and job.state.best.step == step else ""
        grid.border_title = Content(f"Previews · step {step:,}{best}")
        # A preview asked for twice at one step replaces the first.
        newest = {(one.prompt, one.seed): one for one in previews if one.step == step}
        grid.show([Tile(job.path / one.path, wording.subject(one.prompt)) for one in newest.values()])

    def _draw_due_plot(self) -> None:
        if self._plot_is_due and self.is_current:
            self._show_plot()

    def _show_plot(self) -> None:
        self._plot_is_due = False
        plot, job = self.query_one(RunPlot), self.job
        names: list[tuple[str, str] | str] = []
        for place, name in enumerate(SERIES):
            names += [(name, "bold $primary" if place == self._series else "$foreground 65%"), "   "]
        plot.border_title = Content.assemble(*names[:-1])
        plot.border_subtitle = figures(job, SERIES[self._series]) if job and job.steps else Content("")
        plot.show(job, self._series)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        job = self.job if self.is_mounted else None
        if action in ("toggle_pause", "stop", "save", "preview"):
            return True if job and job.is_live else None
        if action == "resume":
            return True if job and job.state.status in ("stopped", "interrupted", "failed") else None
        if action in ("edit_copy", "log", "zoom", "series", "checkpoints", "export"):
            return True if job else None
        return True

    def action_toggle_pause(self) -> None:
        if job := self.job:
            self.studio.ask(job.watch.folder, "resume" if job.state.status == "paused" else "pause")

    def action_stop(self) -> None:
        if job := self.job:
            self.studio.ask(job.watch.folder, "stop")
            self.studio.tell("Stopping after this step, with a checkpoint.")

    def action_save(self) -> None:
        if job := self.job:
            self.studio.ask(job.watch.folder, "save")

    def action_preview(self) -> None:
        if job := self.job:
            self.studio.ask(job.watch.folder, "preview")

    def action_resume(self) -> None:
        if job := self.job:
            resume(self, job)

    def action_new_run(self) -> None:
        from screens.new_run import ask_for_run

        ask_for_run(self.studio)

    def action_probe(self) -> None:
        from screens.probe_form import ProbeScreen

        self.app.push_screen(ProbeScreen(self.studio))

    def action_edit_copy(self) -> None:
        from screens.new_run import ask_for_copy

        if job := self.job:
            ask_for_copy(self.studio, job.path)

    def action_series(self, by: int) -> None:
        self._series = (self._series + by) % len(SERIES)
        self._show_plot()

    def action_preview_step(self, by: int) -> None:
        self._steps_back = max(self._steps_back - by, 0)
        self._show_previews(self.job)

    def action_checkpoints(self) -> None:
        from screens.checkpoints import CheckpointScreen

        if job := self.job:
            self.app.push_screen(CheckpointScreen(job.path))

    def action_export(self) -> None:
        from screens.export_form import ask_for_run_export

        if job := self.job:
            ask_for_run_export(self.studio, job.path)

    def action_zoom(self) -> None:
        self.toggle_class("-zoomed")
        self.call_after_refresh(self._show_plot)

    def action_log(self) -> None:
        from screens.log import LogScreen

        if job := self.job:
            self.app.push_screen(LogScreen(job.watch.folder.log_path))

    def action_full_size(self) -> None:
        from screens.picture import PictureScreen

        tiles = self.query_one("#previews", PictureGrid).tiles
        if tiles:
            self.app.push_screen(PictureScreen(tiles))

    @on(PictureGrid.Chosen)
    def _open_preview(self, message: PictureGrid.Chosen) -> None:
        from screens.picture import PictureScreen

        self.app.push_screen(PictureScreen(message.grid.tiles, message.place))

    def action_other_run(self, by: int) -> None:
        runs, job = self.studio.jobs("runs"), self.job
        if job in runs:
            place = min(max(runs.index(job) + by, 0), len(runs) - 1)
            self.studio.run_in_view = runs[place].watch.folder
            self._steps_back = 0
            self.show_all()

    def action_back(self) -> None:
        self.remove_class("-zoomed")
        self.set_focus(None)
