"""What one process has open: a workspace, its settings, a worker for each device, and the controls of its own jobs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from studio import config
from studio.control import Control, Request
from studio.devices import default_device
from studio.events import Event, Finished
from studio.jobs import Job, execute, ignore
from studio.runs import JobFolder
from studio.workers import DeviceWorker
from studio.workspace import Workspace

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Session:
    """The one object that a front holds: give it a job, steer a run, and wait for the work to end."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.settings = config.load(workspace.settings_path, config.WorkspaceSettings)
        self._workers: dict[str, DeviceWorker] = {}
        self._controls: dict[Path, Control] = {}

    @property
    def device(self) -> str:
        return default_device(self.settings.device)

    @property
    def waiting(self) -> int:
        """Jobs of this process that have not ended."""
        return sum(worker.waiting for worker in self._workers.values())

    def start(self, job: Job, watch: Callable[[Event], None] = ignore) -> None:
        """Put a job on its device's queue."""
        worker = self._workers.get(job.device)
        if worker is None:
            worker = self._workers[job.device] = DeviceWorker(job.device)
        worker.submit(job, *self._steered(job, watch))

    def execute(
        self, job: Job, watch: Callable[[Event], None] = ignore, stopping: Callable[[], bool] = lambda: False
    ) -> Finished:
        """Do a job on this thread; where the process is `stopping` already, only as far as its first look."""
        control, told = self._steered(job, watch)
        if stopping():
            control.ask("stop")
        return execute(job, control, told)

    def _steered(self, job: Job, watch: Callable[[Event], None]) -> tuple[Control, Callable[[Event], None]]:
        """A control of its own for each start, so that a run once stopped can go on; it is let go at the end."""
        path = job.folder.path
        control = self._controls[path] = Control(job.folder.control_path)

        def told(event: Event) -> None:
            if isinstance(event, Finished) and self._controls.get(path) is control:
                del self._controls[path]
            watch(event)

        return control, told

    def ask(self, folder: JobFolder, request: Request) -> None:
        """Ask a job for something, whether it works here or in another process.

        Raises:
            UsageError: nobody works on it.
        """
        control = self._controls.get(folder.path)
        if control is not None:
            control.ask(request)
        else:
            folder.ask(request)

    def stop_all(self) -> None:
        for control in list(self._controls.values()):
            control.ask("stop")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until every queue is empty; whether that came in time."""
        return all(worker.join(seconds) for worker in self._workers.values())

    def close(self) -> None:
        """Let the workers end after the jobs already given."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def reproduce(workspace: Workspace, tile: Path, device: str) -> dict[str, Any]:
    """Make a tile again from its recipe and compare; nothing is written, so this is no job."""
    from studio.generation.sidecar import recipe_of

    recipe_of(tile)  # a file that is no tile is told before torch has started
    from studio.generation.generate import reproduce

    return reproduce(workspace, tile, device)


def stop_on_signals(stop: Callable[[], None]) -> Callable[[], int | None]:
    """Let the first SIGTERM, SIGUSR1 or SIGINT ask for a stop and the second end the process at once.

    Returns a function that tells which signal came, if any. Call it once, on the main thread.
    """
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came:
            os._exit(128 + number)
        came.append(number)
        stop()

    for number in STOP_SIGNALS:
        signal.signal(number, handle)
    return lambda: came[0] if came else None
