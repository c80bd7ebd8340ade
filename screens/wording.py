"""Numbers, times and sizes as the screens say them."""

import re
from dataclasses import replace

from studio.display import shown_line
from studio.errors import StudioError
from studio.events import (
    CheckpointSaved,
    Event,
    Finished,
    MetricMeasured,
    Paused,
    Phase,
    Planned,
    PreviewSaved,
    Refused,
    Resumed,
    Started,
    Validated,
    Warned,
)
from studio.runs import RunState, Status

BATCH_KINDS = ("generate", "grid")
RESUMABLE: tuple[Status, ...] = ("stopped", "interrupted", "failed")
KIND_VERBS = {
    "import": "Import", "train": "Training", "generate": "Generation", "grid": "Grid", "evaluate": "Evaluation",
    "downstream": "Classifier", "export": "Export",
}  # fmt: skip


def subject(prompt: str) -> str:
    """A prompt without the words that most begin with, so that a few letters tell one from another."""
    return shown_line(re.sub(r"^(an? )?(satellite|aerial) (image|view|photo) of (an? )?", "", prompt) or prompt)


def duration(seconds: float) -> str:
    """1h 02m, 18m 44s, 9s."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 60}m {whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def time_left(seconds: float) -> str:
    """One short figure: 2h 10m left, 18m left, 40s left."""
    if seconds >= 3600:
        return f"{duration(seconds)} left"
    return f"{int(seconds // 60)}m left" if seconds >= 60 else f"{int(seconds)}s left"


def gigabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f}" if size_bytes < 100e9 else f"{size_bytes / 1e9:.0f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """1 run, 2 runs, 1,820 tiles."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def bar(share: float, width: int) -> tuple[str, str]:
    """(full, rest) of a thin bar of `width` cells."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full, "─" * (width - full)


def block_bar(share: float, width: int) -> str:
    """A bar of eighths of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def progress(state: RunState) -> tuple[int, int]:
    """(done, of how many) of a job, in steps or else in pieces; (0, 0) where it is not known yet.

    A run is as far as its steps, whatever is encoded or measured between two of them.
    """
    if not state.steps and state.phase is not None and state.phase.total:
        return state.phase.done, state.phase.total
    return state.step, state.steps


def phase_of(phase: Phase, width: int = 40) -> str:
    """Generating tiles 3/8 · step 12/20."""
    of = f" {phase.done:,}/{phase.total:,}" if phase.total else ""
    within = f" · step {phase.step:,}/{phase.steps:,}" if phase.steps else ""
    return f"{shown_line(phase.name, width)}{of}{within}"


def end_of(state: RunState, wanted: int) -> str:
    """How far a job came that ended before it was done, and what goes on with it.

    Args:
        wanted: how many tiles a batch was to have; 0 where it is not known.
    """
    if state.kind == "train":
        return f"stopped at step {state.step:,}. r on its screen resumes it."
    if state.kind in BATCH_KINDS:
        return f"stopped with {tiles_of(state, wanted)}. r on Prompt or in its view resumes it."
    return "stopped before it was done."


def tiles_of(state: RunState, wanted: int) -> str:
    """32 of 388 tiles."""
    made = len(state.images)
    return f"{made:,} of {count(wanted, 'tile')}" if wanted > made else count(made, "tile")


def phase_beside(state: RunState, width: int = 40) -> str:
    """The phase, to stand beside the progress; with its own count where that is another."""
    phase = state.phase
    if phase is None:
        return ""
    return phase_of(phase if state.steps else replace(phase, total=0), width)


def plan_of(plan: Planned) -> str:
    """What a run is expected to take, or was measured to."""
    at_once = "" if plan.micro_batch == plan.effective_batch else f", {plan.micro_batch:,} at once"
    share = f" · {plan.trained_parameters:,} of {plan.all_parameters:,} weights" if plan.all_parameters else ""
    return (
        f"{plan.steps:,} steps of {count(plan.effective_batch, 'picture')}{at_once} · {plan.epochs:.1f} passes over "
        f"{plan.pictures:,}{share} · {gigabytes(plan.memory_bytes)} GB · {duration(plan.seconds)} ({plan.source})"
    )


def by_noise(bins: list[float]) -> str:
    """The parts of a validation loss, from little noise to much."""
    return " ".join(f"{loss:.3f}" for loss in bins)


def title_of(state: RunState) -> str:
    """0007 lora for a run, the folder's name for other jobs."""
    number = state.folder.path.name.partition("-")[0]
    return shown_line(
        f"{number} {state.folder.name}" if state.folder.number is not None else state.folder.path.name, 40
    )


def error_text(error: StudioError) -> str:
    return f"{error.message}\n{error.hint}".strip()


def in_words(event: Event) -> str:
    """One line of the event log."""
    match event:
        case Started():
            again = f"resumed from step {event.from_step:,}" if event.from_step else "started"
            return f"{again} on {event.device}"
        case Validated():
            best, bins = "  best" if event.best else "", f"  by noise {by_noise(event.bins)}" if event.bins else ""
            return f"validation loss {event.loss:.4f} @ {event.step:,}{best}{bins}"
        case Planned():
            return f"expected: {plan_of(event)}"
        case PreviewSaved():
            return f"preview saved @ {event.step:,}"
        case CheckpointSaved():
            return f"checkpoint saved @ {event.step:,}"
        case MetricMeasured():
            return f"{event.name} {event.value:.4g}" + (f" @ {event.step:,}" if event.step is not None else "")
        case Refused():
            return f"refused {event.file}: {event.reason}"
        case Warned():
            return f"{event.message} {event.hint}".strip()
        case Paused():
            return f"paused @ {event.step:,}"
        case Resumed():
            return f"resumed @ {event.step:,}"
        case Finished():
            return f"{event.outcome}" + (f": {event.message}" if event.message else "")
        case _:
            return type(event).__name__
