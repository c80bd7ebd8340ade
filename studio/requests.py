"""From what a person asks for to a job: names and inputs checked, then the folder made and its settings written."""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from studio import __version__, config
from studio.datasets.dataset import FACTS, held_out_split, open_dataset
from studio.datasets.importer import scan
from studio.errors import UsageError, unknown
from studio.exports.export import check_export
from studio.generation.plans import (
    PLAN_FILE,
    PlannedTile,
    PromptLine,
    plan_classes,
    plan_tiles,
    read_plan,
    read_prompts,
    write_plan,
)
from studio.jobs import Job
from studio.journal import being_worked_on
from studio.models import checkpoints
from studio.models.registry import autoencoder_folder, resolve
from studio.runs import JobFolder, state_of
from studio.settings import (
    AutoencoderMethod,
    DownstreamSettings,
    EvaluateSettings,
    ExportSettings,
    GenerateSettings,
    ImportSettings,
    ScratchMethod,
    TrainSettings,
)
from studio.workspace import (
    TEMPLATE,
    Workspace,
    can_hold_workspace,
    check_name,
    free_name,
    naming,
    next_numbered,
    slug,
)

MOST_TILES = 1_000_000
SETTINGS: dict[str, type[BaseModel]] = {
    "import": ImportSettings,
    "train": TrainSettings,
    "generate": GenerateSettings,
    "evaluate": EvaluateSettings,
    "downstream": DownstreamSettings,
    "export": ExportSettings,
}


def recipes(workspace: Workspace) -> dict[str, Path]:
    """The recipes of a workspace by name; those of the template where it has none yet."""
    folder = workspace.recipes if workspace.recipes.is_dir() else TEMPLATE / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(workspace: Workspace, name: str, data: str, sets: Sequence[str] = ()) -> TrainSettings:
    """A recipe by its name or file, for a data set, with `key=value` settings over it.

    Raises:
        UsageError: there is no such recipe or setting.
        SettingsError: every fault at once.
    """
    path = Path(name) if name.endswith(".toml") or "/" in name else recipes(workspace).get(name)
    if path is None:
        raise unknown("recipe", name, recipes(workspace))
    values = config.read_toml(path)
    over = config.parse_sets(list(sets), TrainSettings, values)
    return config.check(config.merged(values, {"data": {"name": data}}), TrainSettings, str(path), over)


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from: one of a text, a file (or book, or DATASET:SPLIT), and a class plan."""

    prompt: str = ""
    prompts: str = ""
    plan: Path | None = None
    negative: str = ""


def tiles_of(workspace: Workspace, source: PromptSource, count: int, seed: int) -> list[PlannedTile]:
    """The tiles to make of prompts; a count of 0 makes one for each prompt.

    Raises:
        UsageError: there are no prompts, or what names them is unknown.
    """
    if not 0 <= count <= MOST_TILES:
        raise UsageError(f"{count} tiles cannot be made.", f"Give --count 1 to {MOST_TILES}.")
    if source.plan is not None:
        return plan_classes(read_plan(source.plan), seed)
    if source.prompts:
        return plan_tiles(read_prompts(workspace, source.prompts, source.negative), count, seed)
    if not source.prompt.strip():
        raise UsageError("The prompt is empty.", "Write --prompt 'a satellite image of a river'.")
    return plan_tiles([PromptLine(source.prompt, source.negative)], count, seed)


def free_run_name(workspace: Workspace, recipe: str) -> str:
    """A name for a run of a recipe that nothing has yet."""
    return free_name(slug(Path(recipe).stem), workspace.taken_names())


def import_job(workspace: Workspace, settings: ImportSettings) -> Job:
    """Bring pictures in, or go on with an import of this name that was not finished."""
    check_name(settings.name)
    folder = JobFolder(workspace.datasets / settings.name)
    _check_free_for_import(workspace, folder)
    scan(settings)
    with naming(workspace):
        _check_free_for_import(workspace, folder)
        return _job("import", workspace, folder, settings, "cpu")


def train_job(workspace: Workspace, settings: TrainSettings, name: str = "", device: str = "cpu") -> Job:
    """A new run, or the unfinished run of this name with the settings that it began with."""
    existing = _unfinished(workspace, name, workspace.runs)
    if existing is not None and existing.config_path.is_file():
        return resume_job(workspace, existing.path.name)
    _check_training(workspace, settings)
    with naming(workspace):
        existing = _unfinished(workspace, name, workspace.runs)
        if existing is not None and existing.config_path.is_file():  # somebody else was faster
            return job_of(workspace, existing)
        wanted = name or free_name(slug(settings.method.name), workspace.taken_names())
        folder = existing or JobFolder(next_numbered(workspace.runs, wanted))
        return _job("train", workspace, folder, _pinned(workspace, settings), device)


def promote(workspace: Workspace, name: str) -> str:
    """Let one checkpoint stand for its run from now on, RUN@STEP, or the newest where no step is named; its full name.

    Raises:
        UsageError: there is no such run or whole checkpoint.
    """
    run_name, _, step = name.partition("@")
    run = workspace.run(run_name)
    if step and not step.isdecimal():
        raise UsageError(f"{step!r} is not a step.", f"Write {run.name}@500.")
    checkpoint = checkpoints.at_step(run, int(step)) if step else checkpoints.newest(run)
    if checkpoint is None:
        steps = ", ".join(str(checkpoints.step_of(path)) for path in checkpoints.all_of(run)) or "none yet"
        raise UsageError(f"Run {run.name} has no such whole checkpoint.", f"It has: {steps}.")
    checkpoints.promote(run, checkpoints.step_of(checkpoint))
    return f"{run.name}@{checkpoints.step_of(checkpoint)}"


def _pinned(workspace: Workspace, settings: TrainSettings) -> TrainSettings:
    """Settings that name a base run's checkpoint by its step, as that run may go on."""
    if isinstance(settings.method, ScratchMethod | AutoencoderMethod):
        return settings  # a scratch run keeps its own copy of the autoencoder
    return settings.model_copy(update={"base": resolve(workspace, settings.base).name})


def resume_job(workspace: Workspace, name: str) -> Job:
    """An unfinished run, to go on where its newest whole checkpoint is.

    Raises:
        UsageError: there is no such run, or it has ended.
    """
    folder = JobFolder(workspace.run(name))
    if state_of(folder.path).status == "completed":
        raise UsageError(f"{folder.path.name} has completed all its steps.", "Train a new run for more.")
    if folder.is_active():
        raise being_worked_on(folder.path)
    can_hold_workspace(workspace.root)
    job = job_of(workspace, folder)
    if isinstance(job.settings, TrainSettings):
        _check_training(workspace, job.settings)
    return job


def generate_job(
    workspace: Workspace,
    settings: GenerateSettings,
    tiles: Sequence[PlannedTile],
    name: str = "",
    device: str = "cpu",
) -> Job:
    """A new batch of tiles, or the rest of an unfinished one of this name."""
    if not tiles:
        raise UsageError("There is nothing to generate.", "Give a prompt and a count.")
    if settings.seed + len(tiles) > 2**63:
        raise UsageError(f"The seed {settings.seed} leaves no room for {len(tiles)} tiles.", "Give a smaller --seed.")
    existing = _unfinished(workspace, name, workspace.batches)
    if existing is not None and existing.config_path.is_file():
        return job_of(workspace, existing)
    ref = resolve(workspace, settings.model)
    with naming(workspace):
        existing = _unfinished(workspace, name, workspace.batches)
        if existing is not None and existing.config_path.is_file():  # somebody else was faster
            return job_of(workspace, existing)
        wanted = name or free_name(slug(ref.name.replace("@", "-")) + "-tiles", workspace.taken_names())
        folder = JobFolder(workspace.batches / wanted)
        write_plan(folder.path / PLAN_FILE, tiles)
        # The checkpoint by its step, so that the rest of a batch is made by the same one when its run has gone on.
        pinned = settings.model_copy(update={"count": len(tiles), "model": ref.name})
        return _job("generate", workspace, folder, pinned, device)


def evaluate_job(workspace: Workspace, settings: EvaluateSettings, device: str = "cpu") -> Job:
    """A new evaluation of a batch against real pictures."""
    _check_pair(workspace, settings.generated, settings.real, settings.split)
    return _numbered_job("evaluate", workspace, workspace.evaluations, slug(settings.generated), settings, device)


def downstream_job(workspace: Workspace, settings: DownstreamSettings, device: str = "cpu") -> Job:
    """A new study of what a classifier learns from a batch."""
    _check_pair(workspace, settings.synthetic, settings.real, "")
    name = f"{slug(settings.synthetic)}-downstream"
    return _numbered_job("downstream", workspace, workspace.evaluations, name, settings, device)


def export_job(workspace: Workspace, settings: ExportSettings) -> Job:
    """Take something out of the workspace, to a folder or file that is empty or absent."""
    check_export(workspace, settings)
    name = f"{slug(settings.name)}-{settings.to}"
    return _numbered_job("export", workspace, workspace.exports, name, settings, "cpu")


def job_of(workspace: Workspace, folder: JobFolder) -> Job:
    """The job that a folder was made for, from its config.toml."""
    values = config.read_toml(folder.config_path)
    kind = str(values.get("kind", ""))
    if kind not in SETTINGS:
        raise UsageError(f"{folder.config_path} does not say what kind of work it is for.")
    settings = config.check(values.get("settings", {}), SETTINGS[kind], str(folder.config_path))
    return Job(kind, workspace, folder, settings, str(values.get("device", "cpu")))


def take_back(job: Job) -> None:
    """Remove the folder of a job that found its settings unusable before it made anything."""
    told = (job.folder.config_path, job.folder.journal_path, job.folder.log_path, job.folder.path / PLAN_FILE)
    if not [path for path in job.folder.path.rglob("*") if path.is_file() and path not in told]:
        shutil.rmtree(job.folder.path)


def _numbered_job(kind: str, workspace: Workspace, parent: Path, name: str, settings: BaseModel, device: str) -> Job:
    with naming(workspace):
        return _job(kind, workspace, JobFolder(next_numbered(parent, name)), settings, device)


def _job(kind: str, workspace: Workspace, folder: JobFolder, settings: BaseModel, device: str) -> Job:
    folder.path.mkdir(parents=True, exist_ok=True)
    made_with = {"rs-studio": __version__, "python": platform.python_version()}
    record = _Record(kind=kind, device=device, made_with=made_with, settings=_plain(settings))
    config.save(folder.config_path, record)
    return Job(kind, workspace, folder, settings, device)


class _Record(config.Model):
    """The head of a job's config.toml."""

    kind: str
    device: str
    made_with: dict[str, str]
    settings: dict[str, Any]


def _plain(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude_none=True)


def _unfinished(workspace: Workspace, name: str, parent: Path) -> JobFolder | None:
    """The folder of work of this name that can go on. Where it has no settings, its making was interrupted.

    Raises:
        UsageError: the name cannot be used, or belongs to something finished or of another kind.
    """
    taken = workspace.taken_names().get(check_name(name)) if name else None
    if taken is None:
        return None
    if taken.parent != parent or state_of(taken).status == "completed":
        raise _taken(name, taken)
    return JobFolder(taken)


def _check_free_for_import(workspace: Workspace, folder: JobFolder) -> None:
    taken = workspace.taken_names().get(folder.path.name)
    if taken is not None and (taken != folder.path or (taken / FACTS).is_file()):
        raise _taken(folder.path.name, taken)
    if folder.is_active():
        raise being_worked_on(folder.path)


def _check_training(workspace: Workspace, settings: TrainSettings) -> None:
    dataset = open_dataset(workspace, settings.data.name)
    dataset.pictures(settings.data.split)
    if settings.data.validation_split:
        held_out_split(dataset, settings.data.validation_split)
    if isinstance(settings.method, ScratchMethod):
        autoencoder_folder(workspace, settings.base)
    elif not isinstance(settings.method, AutoencoderMethod):
        resolve(workspace, settings.base)


def _check_pair(workspace: Workspace, batch: str, real: str, split: str) -> None:
    workspace.batch(batch)
    held_out_split(open_dataset(workspace, real.partition(":")[0]), split or real.partition(":")[2])


def _taken(name: str, path: Path) -> UsageError:
    return UsageError(
        f"The name {name} is taken by {path.parent.name}/{path.name}.", "Choose another with --name or --as."
    )
