"""A few values of a few settings, trained one after another from the same seed, and compared in one table."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import config, requests, sources
from studio.errors import UsageError, unknown
from studio.jobs import Job
from studio.runs import state_of
from studio.settings import TrainSettings
from studio.training.ranking import ranking_of
from studio.workspace import Workspace, check_name, free_name, make_workspace, slug

MOST_RUNS = 100


class SweepRecord(config.Model):
    """sweeps/NAME.toml: what was asked for; the runs hold what came of it."""

    recipe: str = ""
    """Where the settings came from, of which the sweep has its name."""
    vary: tuple[str, ...]
    """Settings with their values: key=a,b."""
    settings: TrainSettings
    """Of every run, but for what varies."""


@dataclass(frozen=True)
class Arm:
    """One run of a sweep: its name and what sets it apart."""

    run: str
    values: dict[str, str]
    settings: TrainSettings


@dataclass(frozen=True)
class Sweep:
    name: str
    record: SweepRecord
    arms: tuple[Arm, ...]


def plan_sweep(workspace: Workspace, record: SweepRecord, name: str = "") -> Sweep:
    """Every run of a sweep, with its settings checked and all that they name there; nothing is written yet.

    Raises:
        UsageError: a setting, a data set or a base is unknown, the name belongs to a sweep of other settings, or that
            of a run to something else.
        SettingsError: every fault of one run's settings at once.
    """
    sweep = _planned(workspace, record, name)
    named = {(arm.settings.data, arm.settings.base, arm.settings.method.name): arm.settings for arm in sweep.arms}
    for settings in named.values():
        requests.check_training(workspace, settings)
    taken = {} if path_of(workspace, sweep.name).is_file() else workspace.taken_names()
    clash = next((taken[arm.run] for arm in sweep.arms if arm.run in taken), None)
    if clash is not None:
        raise UsageError(
            f"A run of the sweep {sweep.name} would have the name of {clash.parent.name}/{clash.name}.",
            "Choose another with --name.",
        )
    return sweep


def _planned(workspace: Workspace, record: SweepRecord, name: str) -> Sweep:
    known = path_of(workspace, name)
    if name and known.is_file() and config.load(known, SweepRecord) != record:
        raise UsageError(f"The sweep {name} was begun with other settings.", "Choose another with --name.")
    names = {path.stem: path for path in sweep_files(workspace)}
    stem = slug(Path(record.recipe).stem or record.settings.method.name)
    name = check_name(name) if name else free_name(f"{stem}-sweep", names)
    values = dict(_values(one) for one in record.vary)
    if len(values) < len(record.vary):
        raise UsageError("A setting is varied twice.", "Give all its values at once: --vary rank=4,8,16.")
    if not values or math.prod(map(len, values.values())) > MOST_RUNS:
        raise UsageError(f"A sweep is of 1 to {MOST_RUNS} runs.", "Write --vary learning_rate=1e-4,3e-4.")
    arms = []
    for number, chosen in enumerate(itertools.product(*values.values()), 1):
        told = dict(zip(values, chosen, strict=True))
        sets = [f"{key}={value}" for key, value in told.items()]
        settings = sources.with_sets(record.settings.model_dump(mode="json"), sets, f"{name}-{number}")
        arms.append(Arm(f"{name}-{number}", told, settings))
    return Sweep(name, record, tuple(arms))


def sweep_jobs(workspace: Workspace, sweep: Sweep, device: str) -> Iterator[Job]:
    """The runs that are not completed, each made when the one before has ended; the sweep is kept first."""
    make_workspace(workspace.root)
    path_of(workspace, sweep.name).parent.mkdir(exist_ok=True)
    config.save(path_of(workspace, sweep.name), sweep.record)
    for arm in sweep.arms:
        folder = workspace.taken_names().get(arm.run)
        if folder is None or folder.parent != workspace.runs or state_of(folder).status != "completed":
            yield requests.train_job(workspace, arm.settings, arm.run, device)


def open_sweep(workspace: Workspace, name: str) -> Sweep:
    """A sweep that was begun.

    Raises:
        UsageError: there is none of this name.
    """
    names = [path.stem for path in sweep_files(workspace)]
    if name not in names:
        raise unknown("sweep", name, names)
    return _planned(workspace, config.load(path_of(workspace, name), SweepRecord), name)


def sweep_records(workspace: Workspace, sweep: Sweep) -> list[dict[str, Any]]:
    """Each run with what sets it apart and its best held-out measure, best first; those without one last."""
    records = [_arm_record(workspace, sweep, arm) for arm in sweep.arms]
    return sorted(records, key=lambda one: (one["best"] is None, one["best"] or 0.0))


def _arm_record(workspace: Workspace, sweep: Sweep, arm: Arm) -> dict[str, Any]:
    record: dict[str, Any] = {"sweep": sweep.name, "run": arm.run, "values": arm.values, "status": "new", "step": 0}
    record |= {"steps": arm.settings.optimiser.steps, "measure": arm.settings.saving.rank_by}
    record |= {"best": None, "best_step": None, "first": None, "seconds": 0.0}
    folder = workspace.taken_names().get(arm.run)
    if folder is None:
        return record
    state = state_of(folder)
    ranking = ranking_of(state, arm.settings.saving.rank_by)
    best = ranking.best()
    return record | {
        "run": folder.name,
        "status": state.status,
        "step": state.step,
        "steps": state.steps or record["steps"],
        "best": None if best is None else ranking.measured[best],
        "best_step": best,
        "first": ranking.measured.get(0),
        "seconds": state.training_seconds,
    }


def sweep_files(workspace: Workspace) -> list[Path]:
    return sorted((workspace.root / "sweeps").glob("[!.]*.toml"))


def path_of(workspace: Workspace, name: str) -> Path:
    return workspace.root / "sweeps" / f"{name}.toml"


def _values(text: str) -> tuple[str, Sequence[str]]:
    """A setting and its values; commas inside brackets or quotes part nothing."""
    key, equals, rest = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--vary {text} has no values.", "Write --vary learning_rate=1e-4,3e-4.")
    values, depth, quote = [""], 0, ""
    for letter in rest:
        if letter == "," and not depth and not quote:
            values.append("")
            continue
        if letter in "\"'":
            quote = "" if letter == quote else quote or letter
        depth += (letter in "[{") - (letter in "]}")
        values[-1] += letter
    found = [value.strip() for value in values]
    if not all(found) or len(set(found)) < len(found):
        raise UsageError(f"--vary {text} has an empty value, or one twice.", "Write --vary learning_rate=1e-4,3e-4.")
    return key.strip(), found
