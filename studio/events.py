"""What a job reports while it works: plain facts, one class each, that a journal keeps and a screen adds up."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["completed", "stopped", "failed"]


@dataclass(frozen=True)
class Started:
    """Work began, or began again at `from_step`; later steps on record no longer count."""

    kind: str
    device: str
    from_step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Phase:
    """A named part of the work, with how much of it is done where that is known, and how far the piece in hand is."""

    name: str
    done: int = 0
    total: int = 0
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Planned:
    """What a whole run is expected to take: estimated before its first step, and again once some were measured."""

    steps: int
    epochs: float
    pictures: int
    effective_batch: int
    micro_batch: int
    memory_bytes: float
    seconds: float
    source: str
    """Where the figures come from."""
    trained_parameters: int = 0
    all_parameters: int = 0


@dataclass(frozen=True)
class StepDone:
    """One optimiser step."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    images: int
    seconds: float


@dataclass(frozen=True)
class Validated:
    """Loss on the fixed validation batch, with fixed noise and timesteps."""

    step: int
    loss: float
    best: bool = False
    bins: list[float] = field(default_factory=list)
    """The same loss in even parts of the timesteps, from little noise to much; empty where there are none."""


@dataclass(frozen=True)
class PreviewSaved:
    """A picture of a fixed prompt and seed; `path` is relative to the run's folder."""

    step: int
    path: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class CheckpointSaved:
    """A whole checkpoint on disk; `path` is relative to the run's folder."""

    step: int
    path: str


@dataclass(frozen=True)
class ImageSaved:
    """A generated tile on disk; `path` is relative to the batch's folder."""

    index: int
    path: str
    seed: int
    sha256: str
    prompt: str


@dataclass(frozen=True)
class Refused:
    """A file that was given and not taken in, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class MetricMeasured:
    """A figure with all that is needed to believe it; `floor` is real against real at the same count."""

    name: str
    value: float
    n_real: int
    n_generated: int
    network: str
    weights_sha256: str
    split_sha256: str
    floor: float | None = None
    step: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Warned:
    """Something a person should know that does not stop the work."""

    message: str
    hint: str = ""


@dataclass(frozen=True)
class Paused:
    step: int


@dataclass(frozen=True)
class Resumed:
    step: int


@dataclass(frozen=True)
class Finished:
    """How the work ended; `result` holds what the command line prints as its last line."""

    outcome: Outcome
    message: str = ""
    hint: str = ""
    exit_code: int = 0
    result: dict[str, Any] = field(default_factory=dict)


Event = (
    Started
    | Phase
    | Planned
    | StepDone
    | Validated
    | PreviewSaved
    | CheckpointSaved
    | ImageSaved
    | Refused
    | MetricMeasured
    | Warned
    | Paused
    | Resumed
    | Finished
)

EVENT_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Started,
        Phase,
        Planned,
        StepDone,
        Validated,
        PreviewSaved,
        CheckpointSaved,
        ImageSaved,
        Refused,
        MetricMeasured,
        Warned,
        Paused,
        Resumed,
        Finished,
    )
}


def to_record(event: Event) -> dict[str, Any]:
    """The event as a flat JSON object with its type."""
    return {"type": type(event).__name__, **asdict(event)}


def from_record(record: dict[str, Any]) -> Event | None:
    """The event of a JSON object; None for a type that this version does not know."""
    kind = EVENT_TYPES.get(record.get("type", ""))
    if kind is None:
        return None
    known = {name: record[name] for name in kind.__dataclass_fields__ if name in record}
    event: Event = kind(**known)
    return event
