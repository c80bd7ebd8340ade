"""The application around the six screens: keys that work everywhere, news of jobs and devices, leaving."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

from textual.app import App
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.message import Message
from textual.screen import Screen

from screens import wording
from screens.confirm import Leaving, QuitScreen
from screens.frame import TABS, StudioScreen
from screens.pictures import Pictures, PicturesReady
from screens.series import Series
from screens.sparing import Sparing
from screens.themes import STUDIO
from screens.watching import DeviceWatcher, JobNews, JobWatcher, Watched
from studio.control import Request
from studio.devices import DeviceLoad
from studio.display import shown, shown_line
from studio.errors import StudioError
from studio.events import Warned
from studio.jobs import Job
from studio.runs import JobFolder
from studio.session import Session


def _home() -> Screen[Any]:
    from screens.home import HomeScreen

    return HomeScreen()


def _data() -> Screen[Any]:
    from screens.data import DataScreen

    return DataScreen()


def _train() -> Screen[Any]:
    from screens.train import TrainScreen

    return TrainScreen()


def _prompt() -> Screen[Any]:
    from screens.prompt import PromptScreen

    return PromptScreen()


def _gallery() -> Screen[Any]:
    from screens.gallery import GalleryScreen

    return GalleryScreen()


def _evaluate() -> Screen[Any]:
    from screens.evaluate import EvaluateScreen

    return EvaluateScreen()


class JobsChanged(Message):
    """A thread read news of jobs."""

    def __init__(self, news: list[JobNews]) -> None:
        super().__init__()
        self.news = news


class DevicesAnswered(Message):
    """A thread asked the devices."""

    def __init__(self, loads: list[DeviceLoad], free_bytes: int) -> None:
        super().__init__()
        self.loads = loads
        self.free_bytes = free_bytes

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, DevicesAnswered)


class StudioApp(App[int]):
    """Six screens on one workspace; all work goes through the session, all news come from journals."""

    TITLE = "rs-studio"
    CSS_PATH = "app.tcss"
    # Here and not in the sheet, so that a dialog's own style stands above it.
    DEFAULT_CSS = """
    .dialog {
        width: 62;
        max-width: 96%;
        height: auto;
        max-height: 96%;
        border: heavy $border;
        border-title-color: $primary;
        background: $surface;
        padding: 1 2;
    }
    """
    DEFAULT_MODE = "home"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "home": _home, "data": _data, "train": _train, "prompt": _prompt, "gallery": _gallery, "evaluate": _evaluate,
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"go('{mode}')", title, show=False) for number, (mode, title) in enumerate(TABS, 1)),
        Binding("ctrl+o", "jump", "Jump", key_display="^o", tooltip="Go to a screen or pane, also while typing"),
        Binding("question_mark,f1", "help", "Help", key_display="?", tooltip="Every key that works here"),
        Binding("q", "quit", "Quit", show=False, tooltip="Leave the studio"),
        Binding(
            "ctrl+p",
            "command_palette",
            "Commands",
            key_display="^p",
            tooltip="Everything that can be done now",
            priority=True,
        ),
        Binding("colon", "command_palette", "Commands", show=False),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, session: Session, driver_class: type[Driver] | None = None) -> None:
        super().__init__(driver_class=driver_class)
        self.session = session
        self.workspace = session.workspace
        self.loads: list[DeviceLoad] = []
        self.free_bytes = 0
        self.leaving: Leaving | None = None
        self.run_in_view: JobFolder | None = None
        self.recipe_to_reuse: dict[str, Any] | None = None
        self.pictures = Pictures(session.settings.pictures)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._series: list[Series] = []
        self._sparing = Sparing()
        self.journals = JobWatcher(self.workspace, lambda news: self._post(JobsChanged(news)))
        self._devices = DeviceWatcher(
            self.workspace.root, lambda loads, free_bytes: self._post(DevicesAnswered(loads, free_bytes))
        )

    # Life

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[Any]:
        """The palette's commands; textual's own are not offered."""
        from screens.commands import commands

        return commands(self, screen)

    def on_mount(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.register_theme(STUDIO)
        theme = self.session.settings.theme
        self.theme = theme if theme in self.available_themes else STUDIO.name
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh(layout=True))
        self.call_after_refresh(self._start_watching)

    def _start_watching(self) -> None:
        """After the first paint, so that nothing delays it."""
        self.journals.start()
        self._devices.start()
        self.pictures.start(self)
        threading.Thread(target=_import_early, name="imports", daemon=True).start()

    def on_unmount(self) -> None:
        self.journals.close()
        self._devices.close()
        self.pictures.close()

    def _post(self, message: Message) -> None:
        if self.is_running:
            self.post_message(message)

    # News

    def on_jobs_changed(self, message: JobsChanged) -> None:
        for news in message.news:
            if news.has_ended:
                self._tell_end(news.job)
            elif warnings := [one for _, one in news.events if isinstance(one, Warned) and news.job.is_live]:
                # What else is said in one breath, such as advice on a recipe, is in the run's events.
                self._tell_warning(news.job, warnings[-1])
        screen = self.screen_stack[0]
        if isinstance(screen, StudioScreen):
            screen.show_news(message.news)
            screen.show_status()

    def on_devices_answered(self, message: DevicesAnswered) -> None:
        self.loads, self.free_bytes = message.loads, message.free_bytes
        self._sparing.look()
        screen = self.screen_stack[0]
        if isinstance(screen, StudioScreen):
            screen.show_loads()
            screen.show_status()

    def on_terminal_answered(self, message: Message) -> None:
        self.pictures.answered(message)  # type: ignore[arg-type]

    def on_pictures_ready(self, message: PicturesReady) -> None:
        for widget in message.widgets:
            if widget.is_attached:
                widget.refresh()

    def on_resize(self) -> None:
        self.pictures.measure_cells()

    def _tell_end(self, job: Watched) -> None:
        state = job.state
        name = f"{wording.KIND_VERBS.get(state.kind, 'Job')} {wording.title_of(state)}"
        if state.status == "completed":
            self.tell(f"{name} is done.")
        elif state.status == "failed" and state.finished is not None:
            self.tell(f"{state.finished.message}\n{state.finished.hint}".strip(), f"{name} failed", "error")
        else:
            from screens.batch_facts import wanted

            self.tell(f"{name} {wording.end_of(state, wanted(job))}", severity="warning")

    def _tell_warning(self, job: Watched, event: Warned) -> None:
        if not self.journals.has_looked:
            return  # it was said before the studio was opened
        name = f"{wording.KIND_VERBS.get(job.state.kind, 'Job')} {wording.title_of(job.state)}"
        self.tell(f"{event.message}\n{event.hint}".strip(), name, "warning")

    def jobs(self, section: str) -> list[Watched]:
        """The jobs of one folder of the workspace, newest name first."""
        return sorted(
            (job for job in list(self.journals.jobs.values()) if job.section == section),
            key=lambda job: job.path.name,
            reverse=True,
        )

    def live_jobs(self) -> list[Watched]:
        """Jobs at work, the latest begun first."""
        live = [job for job in list(self.journals.jobs.values()) if job.is_live]
        return sorted(live, key=lambda job: job.state.started_at, reverse=True)

    # Doing

    def start(self, job: Job) -> None:
        """Put a job on its device's queue, and follow it."""
        self.session.start(job)
        self.journals.expect(job.folder.path)

    def start_series(self, jobs: Iterable[Job], goes_on: bool = False) -> None:
        """Do jobs one after the other, each made when the one before it is done; on past one that failed, if told."""
        series = Series(self.session, jobs, self.journals.expect, self._series_failed, goes_on)
        self._series.append(series)
        series.start()

    def _series_failed(self, error: StudioError) -> None:
        self._post_soon(lambda: self.tell_error(error))

    def finish_series(self) -> None:
        """Wait for what was begun as a series; called when the interface is gone."""
        for series in self._series:
            if self.leaving == "stop":
                series.stop()
            series.join()

    @property
    def waiting(self) -> int:
        """Jobs of this process that have not ended."""
        return max(self.session.waiting, sum(series.is_alive() for series in self._series))

    def ask(self, folder: JobFolder, request: Request) -> None:
        """Ask a job for something; a refusal is told."""
        try:
            self.session.ask(folder, request)
        except StudioError as error:
            self.tell_error(error)

    # Telling

    def tell(
        self, text: str, title: str = "", severity: Literal["information", "warning", "error"] = "information"
    ) -> None:
        """A toast; errors stay twice as long."""
        seconds = 12.0 if severity == "error" else 5.0
        self.notify(shown(text), title=shown_line(title), severity=severity, timeout=seconds, markup=False)
        # A toast that goes leaves a hole in the pictures beneath it.
        self.set_timer(seconds + 0.3, self.pictures.redraw)

    def tell_error(self, error: StudioError) -> None:
        self.tell(error.hint or error.message, error.message if error.hint else "", "error")

    # Keys

    def delay_update(self, delay: float = 0.05) -> None:
        """Switch at once; textual would hold every new screen back for a twentieth of a second, against flicker."""

    def action_go(self, mode: str) -> None:
        self.switch_mode(mode)

    def action_help(self) -> None:
        from screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def action_jump(self) -> None:
        from screens.jump import JumpScreen

        self.push_screen(JumpScreen(self.screen))

    async def action_quit(self) -> None:
        if not self.waiting:
            self.leave("stop")
            return
        self.push_screen(QuitScreen(self.live_jobs(), self.waiting), self._answer_quit)

    def _answer_quit(self, answer: Leaving | None) -> None:
        if answer is not None:
            self.leave(answer)

    def leave(self, leaving: Leaving) -> None:
        self.leaving = leaving
        self.exit(0)

    def leave_soon(self, leaving: Leaving) -> None:
        """Leave, asked from a signal handler or another thread."""
        self._post_soon(lambda: self.leave(leaving))

    def _post_soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self.call_later(act))


def _import_early() -> None:
    """Load what pictures and plots need, while the first screen is already being read."""
    import numpy  # noqa: F401
    import PIL.Image  # noqa: F401

    import screens.widgets.loss_plot  # noqa: F401
