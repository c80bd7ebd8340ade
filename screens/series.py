"""Jobs that follow from one another, such as the demo's circle, on a thread that waits between them."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from studio.errors import StudioError
from studio.events import Event, Finished
from studio.jobs import Job
from studio.session import Session


class Series(threading.Thread):
    """Starts the next job when the one before it is done; ends early where one was stopped, or failed."""

    def __init__(
        self,
        session: Session,
        jobs: Iterable[Job],
        begun: Callable[[Path], None],
        failed: Callable[[StudioError], None],
        goes_on: bool = False,
    ) -> None:
        """`goes_on` where a job that failed does not matter to those after it."""
        super().__init__(name="series")
        self._session = session
        self._jobs = jobs
        self._begun = begun
        self._failed = failed
        self._enough = ("completed", "failed") if goes_on else ("completed",)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    def run(self) -> None:
        try:
            for job in self._jobs:
                if self._stopping.is_set() or not self._do(job):
                    return
        except StudioError as error:
            self._failed(error)

    def _do(self, job: Job) -> bool:
        ended = threading.Event()
        outcomes: list[Finished] = []

        def watch(event: Event) -> None:
            if isinstance(event, Finished):
                outcomes.append(event)
                ended.set()

        self._session.start(job, watch)
        self._begun(job.folder.path)
        ended.wait()
        return outcomes[0].outcome in self._enough
