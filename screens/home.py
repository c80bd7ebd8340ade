"""Home: every run, how the newest goes, what data there is, and what could come next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input

from screens import run_facts, wording
from screens.frame import StudioScreen
from screens.watching import JobNews, Watched
from screens.widgets.device_bars import DeviceBars
from screens.widgets.empty import Empty
from screens.widgets.job_table import Column, JobTable
from screens.widgets.picture_grid import PictureGrid, Tile
from screens.widgets.plot import RunPlot
from screens.widgets.words import Words
from studio.errors import StudioError

COLUMNS = (
    Column("", 1), Column("id", 4), Column("name"), Column("data"), Column("base"), Column("step", right=True),
    Column("loss", right=True), Column("valid", right=True), Column("when", right=True),
)  # fmt: skip
LEGEND = "● running  ✓ completed  ‖ can be resumed  ! failed"


class HomeScreen(StudioScreen):
    MODE = "home"
    CSS_PATH = "home.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new_run", "New run", tooltip="Train on a data set"),
        Binding("r", "resume", "Resume", tooltip="Go on with a stopped run where its newest checkpoint is"),
        Binding("i", "import_data", "Import data", tooltip="Bring pictures into the workspace"),
        Binding("c", "compare", "Compare", tooltip="The runs shown, best first, with the settings that they differ in"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show only runs that match some words"),
        Binding(
            "D",
            "demo",
            "Demo",
            tooltip="Go once round the whole circle on built-in data: about ten minutes on two cores",
        ),
    ]

    def body(self) -> Iterable[Widget]:
        with Container(id="body"):
            yield Empty(
                "Nothing here yet.",
                ("D", "go once round on built-in data: import, train, generate, measure, export"),
                ("i", "import your own pictures"),
                ("?", "see every key"),
                id="nothing",
            )
            with Horizontal(id="upper"):
                with Vertical(id="runs", classes="frame"):
                    yield Input(placeholder="words that a run must have; esc clears", id="filter")
                    yield JobTable(COLUMNS, id="table")
                    yield Words(id="fate")
                yield RunPlot(id="plot", classes="frame", empty="No steps yet.")
            with Horizontal(id="lower"):
                yield Words(id="sets", classes="frame")
                yield PictureGrid(id="preview", classes="frame", empty="No previews yet.")
                yield DeviceBars(id="devices", classes="frame")

    def on_mount(self) -> None:
        self.query_one("#runs").border_title = "Runs"
        self.query_one("#sets").border_title = "Data"
        self.query_one("#preview").border_title = "Latest preview"
        self.query_one("#devices").border_title = "Devices"
        self.query_one("#plot").border_title = "Loss"
        self.query_one("#plot").border_subtitle = "train ⠂  smoothed ⣿  validation ○"
        self.query_one("#filter").display = False
        self.set_focus(self.query_one(JobTable))

    # Showing

    def show_all(self) -> None:
        self._show_runs()
        self._show_data()
        self.show_loads()

    def show_news(self, news: list[JobNews]) -> None:
        if not news:
            self._show_data()
        if any(one.job.section == "runs" for one in news):
            self._show_runs()
        if any(one.job.section != "runs" and one.before != one.job.state.status for one in news):
            self._show_data()

    def show_loads(self) -> None:
        app = self.studio
        self.query_one(DeviceBars).show(app.loads, app.free_bytes, app.live_jobs())

    def _show_runs(self) -> None:
        jobs = {str(job.path): job for job in self.studio.jobs("runs") if self._matches(job)}
        rows = sorted(jobs.items(), key=lambda pair: pair[1].state.updated_at, reverse=True)
        self.query_one(JobTable).show({key: run_facts.run_row(job) for key, job in rows})
        self.query_one("#runs").border_subtitle = Content(f"{wording.count(len(jobs), 'run')} · newest activity first")
        self._show_run_in_view()
        self._show_emptiness()

    def _matches(self, job: Watched) -> bool:
        words = self.query_one("#filter", Input).value.lower().split()
        text = " ".join(str(cell) for cell in run_facts.run_row(job)).lower() + " " + job.state.status
        return all(word in text for word in words)

    def _show_run_in_view(self) -> None:
        job = self.job_in_view
        plot = self.query_one(RunPlot)
        plot.border_title = Content(f"Loss · {wording.title_of(job.state)}" if job else "Loss")
        plot.show(job)
        self.query_one("#fate", Words).say(Content((job and run_facts.fate(job)) or LEGEND))
        previews = [] if job is None else list(job.state.previews)
        grid = self.query_one(PictureGrid)
        newest = [one for one in previews if one.step == previews[-1].step] if previews else []
        tiles = [Tile(job.path / one.path, wording.subject(one.prompt)) for one in newest if job is not None]
        grid.show(tiles[:4])
        grid.border_title = Content(
            f"Latest preview · {job.state.folder.path.name[:4]} @ {newest[0].step:,}"
            if job and newest
            else "Latest preview"
        )
        self.refresh_bindings()

    def _show_data(self) -> None:
        from screens.data_facts import data_lines

        self.query_one("#sets", Words).say(data_lines(self.studio))
        self._show_emptiness()

    def _show_emptiness(self) -> None:
        app = self.studio
        nothing = app.journals.has_looked and not app.jobs("runs") and not app.jobs("datasets") and not app.waiting
        self.query_one("#nothing").display = nothing
        self.query_one("#upper").display = self.query_one("#lower").display = not nothing

    @property
    def job_in_view(self) -> Watched | None:
        key = self.query_one(JobTable).row_in_view
        return next((job for job in self.studio.jobs("runs") if str(job.path) == key), None)

    # Keys and messages

    @on(JobTable.RowHighlighted)
    def _look_at_row(self) -> None:
        self._show_run_in_view()

    @on(JobTable.RowSelected)
    def _open_row(self) -> None:
        job = self.job_in_view
        if job is not None:
            self.studio.run_in_view = job.watch.folder
            self.studio.switch_mode("train")

    @on(Input.Changed, "#filter")
    def _filter_rows(self) -> None:
        self._show_runs()

    @on(Input.Submitted, "#filter")
    def _leave_filter(self) -> None:
        self.set_focus(self.query_one(JobTable))

    def action_filter(self) -> None:
        self.query_one("#filter").display = True
        self.set_focus(self.query_one("#filter"))

    def action_back(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = ""
        field.display = False
        self.set_focus(self.query_one(JobTable))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "resume":
            job = self.job_in_view if self.is_mounted else None
            return True if job and job.state.status in ("stopped", "interrupted", "failed") else None
        if action == "compare":
            return True if len(self.studio.jobs("runs")) > 1 else None
        return True

    def action_compare(self) -> None:
        from screens.compare_runs import CompareRunsScreen

        self.app.push_screen(CompareRunsScreen([job for job in self.studio.jobs("runs") if self._matches(job)]))

    def action_resume(self) -> None:
        job = self.job_in_view
        if job is not None:
            resume(self, job)

    def action_new_run(self) -> None:
        from screens.new_run import ask_for_run

        ask_for_run(self.studio)

    def action_import_data(self) -> None:
        from screens.import_form import ask_for_import

        ask_for_import(self.studio)

    def action_demo(self) -> None:
        from studio.demo import demo_jobs

        self.studio.start_series(demo_jobs(self.studio.workspace, self.studio.session.device))
        self.studio.tell("The circle begins: data, training, tiles, figures, export.", "Demo")


def resume(screen: StudioScreen, job: Watched) -> None:
    """Go on with a run that has not completed."""
    from studio import requests

    app = screen.studio
    try:
        app.start(requests.resume_job(app.workspace, job.path.name))
    except StudioError as error:
        app.tell_error(error)
