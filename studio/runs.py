"""A job's folder, and what the events in its journal add up to."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from studio import journal
from studio.control import Request, ask_elsewhere
from studio.errors import UsageError
from studio.events import (
    CheckpointSaved,
    Event,
    Finished,
    ImageSaved,
    MetricMeasured,
    Paused,
    Phase,
    Planned,
    PreviewSaved,
    Refused,
    Resumed,
    Started,
    StepDone,
    Validated,
    Warned,
)

Status = Literal["new", "running", "paused", "completed", "stopped", "interrupted", "failed"]
SYMBOLS: dict[Status, str] = {
    "new": "·", "running": "●", "paused": "‖", "completed": "✓", "stopped": "‖", "interrupted": "‖", "failed": "!",
}  # fmt: skip


@dataclass(frozen=True)
class JobFolder:
    """Where one job keeps its settings, journal and results; whoever can read it can watch the job."""

    path: Path

    @property
    def name(self) -> str:
        """The name without its number: lora for 0007-lora."""
        number, dash, name = self.path.name.partition("-")
        return name if dash and number.isdecimal() else self.path.name

    @property
    def number(self) -> int | None:
        number = self.path.name.partition("-")[0]
        return int(number) if number.isdecimal() else None

    @property
    def config_path(self) -> Path:
        return self.path / "config.toml"

    @property
    def journal_path(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def control_path(self) -> Path:
        return self.path / "control"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def previews(self) -> Path:
        return self.path / "previews"

    def is_active(self) -> bool:
        return journal.is_locked(self.journal_path)

    def ask(self, request: Request) -> None:
        """Leave a request for the process that works here.

        Raises:
            UsageError: nobody does.
        """
        if not self.is_active():
            raise UsageError(
                f"{self.path.name} is not running.", f"Resume it with: rs-studio WS resume {self.path.name}"
            )
        ask_elsewhere(self.path, request)


_SHARE_OF_A_STEP = 1 / 64
"""Weight of the newest step in what happens between steps, most of which does not happen at each."""


@dataclass
class RunState:
    """What a job's events add up to; a screen shows it and nothing else."""

    folder: JobFolder
    status: Status = "new"
    kind: str = ""
    device: str = ""
    from_step: int = 0
    steps: int = 0
    step: int = 0
    phase: Phase | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    validations: list[Validated] = field(default_factory=list)
    previews: list[PreviewSaved] = field(default_factory=list)
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    images: list[ImageSaved] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    metrics: list[MetricMeasured] = field(default_factory=list)
    last_step: StepDone | None = None
    finished: Finished | None = None
    started_at: float = 0.0
    updated_at: float = 0.0
    recent: deque[tuple[float, Event]] = field(default_factory=lambda: deque(maxlen=200))
    seconds_per_step: float = 0.0
    training_seconds: float = 0.0
    """Spent in steps, also in those that did not last."""
    plan: Planned | None = None
    _stepped_at: float = 0.0
    _seconds_between: float = 0.0
    """Each step's share of what happens between steps: encoding, looks and checkpoints."""

    @property
    def best(self) -> Validated | None:
        return min(self.validations, key=lambda one: one.loss, default=None)

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the present speed."""
        if self.status != "running" or not self.seconds_per_step or not self.steps:
            return None
        return max(self.steps - self.step, 0) * (self.seconds_per_step + self._seconds_between)

    def apply(self, at: float, event: Event) -> None:
        """Add one event that happened `at` seconds since 1970."""
        self.updated_at = at
        match event:
            case Started():
                self._restart(at, event)
            case StepDone():
                self.step, self.last_step, self.phase = event.step, event, None
                self.losses.append((event.step, event.loss))
                self.training_seconds += event.seconds
                share = 0.1 if self.seconds_per_step else 1.0
                self.seconds_per_step += share * (event.seconds - self.seconds_per_step)
                if self._stepped_at:
                    between = max(at - self._stepped_at - event.seconds, 0.0)
                    self._seconds_between += _SHARE_OF_A_STEP * (between - self._seconds_between)
                self._stepped_at = at
            case Phase():
                self.phase = event
            case Planned():
                self.plan = event
            case Validated():
                self.validations.append(event)
            case PreviewSaved():
                self.previews.append(event)
            case CheckpointSaved():
                self.checkpoints.append(event)
            case ImageSaved():
                self.images.append(event)
            case Refused():
                self.refused.append(event)
            case MetricMeasured():
                self.metrics.append(event)
            case Paused():
                self.status, self._stepped_at = "paused", 0.0  # a rest is no work
            case Resumed():
                self.status = "running"
            case Finished():
                self.finished, self.status, self.phase = event, event.outcome, None
            case Warned():
                pass
        if not isinstance(event, StepDone | Phase | ImageSaved | Refused):
            self.recent.append((at, event))

    def _restart(self, at: float, event: Started) -> None:
        """Begin again: what was recorded after the step resumed from did not last."""
        self.kind, self.device, self.from_step, self.steps = event.kind, event.device, event.from_step, event.steps
        self.step, self.status, self.finished, self.started_at = event.from_step, "running", None, at
        self.refused = []  # a job that looks at its input again refuses the same again
        last = event.from_step or -1  # from the beginning, even the look before the first step is taken again
        self.losses = [one for one in self.losses if one[0] <= last]
        self.validations = [one for one in self.validations if one.step <= last]
        self.previews = [one for one in self.previews if one.step <= last]
        self.checkpoints = [one for one in self.checkpoints if one.step <= last]
        self.metrics = [one for one in self.metrics if one.step is not None and one.step <= last]
        self.last_step, self.phase, self.seconds_per_step = None, None, 0.0
        self._stepped_at, self._seconds_between = 0.0, 0.0


class RunWatch:
    """Follows one job's journal, own or foreign alike."""

    def __init__(self, folder: JobFolder) -> None:
        self.folder = folder
        self.state = RunState(folder)
        self._reader = journal.JournalReader(folder.journal_path)

    def poll(self) -> list[tuple[float, Event]]:
        """Read what is new into the state, and return it."""
        news = self._reader.read()
        for at, event in news:
            self.state.apply(at, event)
        if self.state.status in ("running", "paused") and not self.folder.is_active():
            # The end may have been written between the read above and the look at the lock.
            late = self._reader.read()
            for at, event in late:
                self.state.apply(at, event)
            news += late
            if self.state.status in ("running", "paused"):
                self.state.status = "interrupted"
        elif self.state.status == "interrupted" and self.folder.is_active():
            self.state.status = "running"
        return news


def state_of(folder: Path) -> RunState:
    """What a job's folder says now."""
    watch = RunWatch(JobFolder(folder))
    watch.poll()
    return watch.state


def smoothed(losses: Iterable[tuple[int, float]], decay: float = 0.98) -> list[tuple[int, float]]:
    """Exponential moving average of a loss curve, corrected for its start."""
    average, weight, result = 0.0, 0.0, []
    for step, loss in losses:
        average = decay * average + (1 - decay) * loss
        weight = decay * weight + (1 - decay)
        result.append((step, average / weight))
    return result


def age(seconds_since_1970: float) -> str:
    """How long ago, in one short word: now, 5m, 2h, 3d."""
    seconds = time.time() - seconds_since_1970
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "now"
