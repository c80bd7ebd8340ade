"""What the command line lists: runs, the events of one as they come, and facts of the machine."""

import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio import __version__, config
from studio.devices import cpu_load, gpu_loads
from studio.display import shown_line
from studio.errors import UsageError
from studio.events import Event, to_record
from studio.models import checkpoints
from studio.runs import JobFolder, RunWatch, state_of
from studio.training.ranking import Measure, ranking_of
from studio.workspace import STARTER, Workspace, numbered_folders

_POLL_SECONDS = 0.2
_SECONDS_TO_BEGIN = 3.0
"""For so long a run that nobody works on may still be about to begin."""
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "torchgeo", "textual", "textual-image")


def run_records(workspace: Workspace) -> list[dict[str, Any]]:
    """Every run with what it is and how far it is, oldest first."""
    return [_run_record(path) for path in numbered_folders(workspace.runs)]


def _run_record(path: Path) -> dict[str, Any]:
    state = state_of(path)
    settings = _settings_of(path)
    best = state.best
    return {
        "run": path.name,
        "number": state.folder.number,
        "name": state.folder.name,
        "status": state.status,
        "data": _at(settings, "data", "name"),
        "base": _at(settings, "base"),
        "method": _at(settings, "method", "name"),
        "step": state.step,
        "steps": state.steps,
        "loss": state.losses[-1][1] if state.losses else None,
        "validation_loss": state.validations[-1].loss if state.validations else None,
        "best_step": best.step if best else None,
        "device": state.device,
        "updated": state.updated_at or None,
    }


def checkpoint_records(folder: Path) -> list[dict[str, Any]]:
    """Every checkpoint that a run has on disk with what was measured at it, oldest first."""
    state = state_of(folder)
    by: Measure = "kid" if _at(_settings_of(folder), "saving", "rank_by") == "kid" else "validation_loss"
    ranking = ranking_of(state, by)
    there = [checkpoints.step_of(path) for path in checkpoints.all_of(folder)]
    best, promoted = ranking.best(there), checkpoints.promoted_step(folder)
    validations = {one.step: one for one in state.validations}
    records = []
    for step in there:
        validation = validations.get(step)
        metrics = {one.name: one.value for one in state.metrics if one.step == step}
        records.append(
            {
                "checkpoint": f"{folder.name}@{step}",
                "step": step,
                "validation_loss": validation.loss if validation else None,
                "bins": validation.bins if validation else [],
                "metrics": metrics,
                "rank_by": by,
                "best": step == best,
                "promoted": step == promoted,
            }
        )
    return records


def _settings_of(path: Path) -> Any:
    """What the run's config.toml says, if it says anything; a list is no place to complain."""
    try:
        return config.read_toml(path / "config.toml").get("settings")
    except UsageError:
        return None


def _at(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def newest_run(workspace: Workspace) -> Path:
    """The run that was begun last.

    Raises:
        UsageError: there is none.
    """
    found = numbered_folders(workspace.runs)
    if not found:
        raise UsageError("There are no runs to watch.", "Begin one with: rs-studio WS train")
    return found[-1]


def followed(folder: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The events of a job from its beginning, as JSON and as text, until it ends."""
    watch = RunWatch(JobFolder(folder))
    began = time.monotonic()
    while True:
        for at, event in watch.poll():
            yield {**to_record(event), "time": at}, _in_words(at, event)
        waits = watch.state.status == "new" and (
            watch.folder.is_active() or time.monotonic() - began < _SECONDS_TO_BEGIN
        )
        if not waits and watch.state.status not in ("running", "paused"):
            return
        time.sleep(_POLL_SECONDS)


def _in_words(at: float, event: Event) -> str:
    record = to_record(event)
    kind = record.pop("type")
    facts = "  ".join(f"{key} {_short(value)}" for key, value in record.items() if value not in ("", None, {}))
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}  {kind}  {shown_line(facts, 160)}"


def _short(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def machine_facts(root: Path) -> Iterator[tuple[str, str]]:
    """What matters to the studio on this machine, without loading a library."""
    yield "rs-studio", __version__
    yield "python", platform.python_version()
    for library in _LIBRARIES:
        yield library, _version(library)
    cpu = cpu_load()
    yield "cpu", f"{cpu.label}, {cpu.memory_total_bytes / 2**30:.0f} GiB of memory"
    for gpu in gpu_loads():
        yield gpu.name, f"{gpu.label}, {gpu.memory_total_bytes / 2**30:.0f} GiB"
    place = next(path for path in [root.absolute(), *root.absolute().parents] if path.is_dir())
    yield "disk", f"{shutil.disk_usage(place).free / 2**30:.0f} GiB free at {place}"
    yield "workspace", f"{root} ({'is there' if (root / 'studio.toml').is_file() else 'not there yet'})"
    yield "starter", str(STARTER) if (STARTER / "model_index.json").is_file() else "missing: install rs-studio again"
    yield "terminal", f"TERM={os.environ.get('TERM', '')} COLORTERM={os.environ.get('COLORTERM', '')}"


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
