"""Two threads that look so that the interface need not wait: one reads journals, the other asks the devices."""

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from studio.devices import DeviceLoad, cpu_load, gpu_loads
from studio.events import Event, Started, StepDone
from studio.runs import JobFolder, RunState, RunWatch, Status
from studio.workspace import Workspace, folders

POLL_SECONDS = 0.1
SCAN_SECONDS = 1.0
DEVICE_SECONDS = 0.5
LIVE: tuple[Status, ...] = ("running", "paused")


@dataclass
class Watched:
    """One job as the screens know it."""

    watch: RunWatch
    section: str
    steps: list[StepDone] = field(default_factory=list)
    size_bytes: int = -1
    seen_live: bool = False

    @property
    def state(self) -> RunState:
        return self.watch.state

    @property
    def path(self) -> Path:
        return self.watch.folder.path

    @property
    def is_live(self) -> bool:
        return self.state.status in LIVE


@dataclass(frozen=True)
class JobNews:
    """What became known about one job since the last look."""

    job: Watched
    events: list[tuple[float, Event]]
    before: Status
    is_first: bool

    @property
    def has_ended(self) -> bool:
        """Whether a job that was seen at work, or asked for here, is no longer."""
        after = self.job.state.status
        return self.job.seen_live and not self.job.is_live and after not in ("new", self.before)


class JobWatcher(threading.Thread):
    """Follows every journal of a workspace, and tells what changed; live ones ten times a second."""

    def __init__(self, workspace: Workspace, tell: Callable[[list[JobNews]], None]) -> None:
        super().__init__(name="journals", daemon=True)
        self._sections = {
            "runs": workspace.runs,
            "batches": workspace.batches,
            "datasets": workspace.datasets,
            "evaluations": workspace.evaluations,
            "exports": workspace.exports,
        }
        self._tell = tell
        self._wake = threading.Event()
        self._closed = False
        self._expected: set[Path] = set()
        self.jobs: dict[Path, Watched] = {}
        self.has_looked = False

    def expect(self, path: Path) -> None:
        """A job begins in this folder: look at once, and tell of its end even where it lasts no longer than a look."""
        self._expected.add(path)
        if path in self.jobs:
            self.jobs[path].seen_live = True
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    def run(self) -> None:
        looks = round(SCAN_SECONDS / POLL_SECONDS)
        look = 0
        while not self._closed:
            woken = self._wake.wait(POLL_SECONDS) if look else False
            self._wake.clear()
            self.look(scan=woken or look % looks == 0)
            look += 1

    def look(self, scan: bool) -> None:
        """Read what is new: of live jobs, or of all folders."""
        if not scan:
            self._report([job for job in list(self.jobs.values()) if job.is_live])
            return
        for section, parent in self._sections.items():
            # Newest first, and told section by section, so that the first screen fills at once.
            found = [self._job(section, path) for path in reversed(folders(parent))]
            self._report([job for job in found if job is not None])
        for path in [path for path in self.jobs if not path.is_dir()]:
            del self.jobs[path]
        if not self.has_looked:
            self.has_looked = True
            self._tell([])

    def _job(self, section: str, path: Path) -> Watched | None:
        """The job of a folder, if there may be news of it."""
        known = self.jobs.get(path)
        try:
            size_bytes = (path / "events.jsonl").stat().st_size
        except OSError:
            return None
        if known is None:
            known = self.jobs[path] = Watched(RunWatch(JobFolder(path)), section)
            known.seen_live = path in self._expected
        if known.size_bytes == size_bytes and not known.is_live and known.state.status != "interrupted":
            return None
        known.size_bytes = size_bytes
        return known

    def _report(self, jobs: list[Watched]) -> None:
        news = [one for job in jobs if (one := look_at(job)) is not None]
        if news and not self._closed:
            self._tell(news)


def look_at(job: Watched) -> JobNews | None:
    """Read what is new of one job; None where nothing is."""
    before, is_first = job.state.status, not job.state.updated_at
    events = job.watch.poll()
    for _, event in events:
        if isinstance(event, StepDone):
            job.steps.append(event)
        elif isinstance(event, Started):
            job.steps = [one for one in job.steps if one.step <= event.from_step]
    job.seen_live = job.seen_live or job.is_live or (before in LIVE and not is_first)
    if not events and job.state.status == before:
        return None
    return JobNews(job, events, before, is_first)


class DeviceWatcher(threading.Thread):
    """Asks the devices for their load twice a second; a driver may take its time to answer."""

    def __init__(self, folder: Path, tell: Callable[[list[DeviceLoad], int], None]) -> None:
        super().__init__(name="devices", daemon=True)
        self._folder = folder
        self._tell = tell
        self._closed = threading.Event()

    def close(self) -> None:
        self._closed.set()

    def run(self) -> None:
        gpus = True
        while not self._closed.is_set():
            found = gpu_loads() if gpus else []
            gpus = bool(found)
            free_bytes = shutil.disk_usage(self._folder).free
            if not self._closed.is_set():
                self._tell([*found, cpu_load()], free_bytes)
            self._closed.wait(DEVICE_SECONDS)
