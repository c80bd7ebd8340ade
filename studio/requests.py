"""From what a person asks for to a job: names and inputs checked, then the folder made and its settings written."""

import platform
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from studio import __version__, config, files
from studio.datasets.captions import readable_class
from studio.datasets.dataset import FACTS, held_out_split, open_dataset
from studio.datasets.importer import scan
from studio.errors import UsageError
from studio.events import Event
from studio.exports.export import check_export, check_target
from studio.generation.axes import GRID_FILE, plan_grid
from studio.generation.class_plan import CLASS_PLAN, Plan
from studio.generation.inputs import keep_inputs, sized_as_its_input
from studio.generation.plans import PLAN_FILE, PlannedTile, PromptLine, plan_tiles, write_plan
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
    GridSettings,
    ImportSettings,
    ProbeSettings,
    ScratchMethod,
    TrainSettings,
)
from studio.sources import MOST_TILES
from studio.taking_back import has_tiles
from studio.training.planning import before
from studio.training.probe_prompts import NATURAL, REMOTE_SENSING
from studio.training.recipes import in_steps
from studio.unfinished import batch_differences, differences, in_short, is_same_model
from studio.workspace import (
    Workspace,
    can_hold_workspace,
    check_name,
    free_name,
    naming,
    next_numbered,
    slug,
)

_SAYS_NOTHING_OF_WORK = ("description", "known_problems")
SETTINGS: dict[str, type[BaseModel]] = {
    "import": ImportSettings,
    "train": TrainSettings,
    "generate": GenerateSettings,
    "grid": GridSettings,
    "evaluate": EvaluateSettings,
    "downstream": DownstreamSettings,
    "export": ExportSettings,
}


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


def train_job(
    workspace: Workspace, settings: TrainSettings, name: str = "", device: str = "cpu", processes: int = 1
) -> Job:
    """A new run, or the unfinished run of this name where it was begun with the same settings.

    Raises:
        UsageError: the settings cannot be used, or the unfinished run of this name has others.
    """
    existing = _unfinished(workspace, name, workspace.runs)
    if existing is not None and existing.config_path.is_file():
        return _begun_run(workspace, existing, settings)
    check_training(workspace, settings)
    with naming(workspace):
        existing = _unfinished(workspace, name, workspace.runs)
        if existing is not None and existing.config_path.is_file():  # somebody else was faster
            return _begun_run(workspace, existing, settings)
        wanted = name or free_name(slug(settings.method.name), workspace.taken_names())
        folder = existing or JobFolder(next_numbered(workspace.runs, wanted))
        told = in_steps(workspace, _pinned(workspace, settings))
        return _job("train", workspace, folder, told, device, processes)


def _begun_run(workspace: Workspace, folder: JobFolder, settings: TrainSettings) -> Job:
    """An unfinished run, to go on; raises as `resume_job`, and where it was begun with other settings."""
    job = resume_job(workspace, folder.path.name)
    assert isinstance(job.settings, TrainSettings)
    told = in_steps(workspace, _pinned(workspace, settings))
    if is_same_model(settings.base, told.base, job.settings.base):
        told = told.model_copy(update={"base": job.settings.base})
    differing = differences(job.settings, told, ignored=_SAYS_NOTHING_OF_WORK)
    if differing:
        raise UsageError(
            f"The run {folder.name} is unfinished and was begun with other settings: {in_short(differing)}.",
            f"Go on with it by: rs-studio WS resume {folder.name}; or choose another name with --name.",
        )
    return job


def expected(workspace: Workspace, settings: TrainSettings, device: str = "cpu") -> tuple[TrainSettings, list[Event]]:
    """The settings as a run would begin with them, with what is to be said of it before its first step."""
    told = in_steps(workspace, settings)
    return told, before(workspace, told, device)


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
    job = _to_go_on(workspace, workspace.run(name), "has completed all its steps.", "Train a new run for more.")
    if isinstance(job.settings, TrainSettings):
        check_training(workspace, job.settings)
    return job


def resume_batch(workspace: Workspace, name: str, device: str = "cpu") -> Job:
    """An unfinished batch or grid, to go on with the tiles that are not there yet.

    Raises:
        UsageError: there is no such batch, it is complete, or somebody works on it.
    """
    job = _to_go_on(workspace, workspace.batch(name), "has all its tiles.", "Generate a new batch for more.")
    return replace(job, device=device)


def _to_go_on(workspace: Workspace, path: Path, why_not: str, hint: str) -> Job:
    """A job of the workspace that has not completed and that nobody works on."""
    folder = JobFolder(path)
    if state_of(path).status == "completed":
        raise UsageError(f"{path.name} {why_not}", hint)
    if folder.is_active():
        raise being_worked_on(path)
    can_hold_workspace(workspace.root)
    return job_of(workspace, folder)


def generate_job(
    workspace: Workspace,
    settings: GenerateSettings,
    tiles: Sequence[PlannedTile],
    name: str = "",
    device: str = "cpu",
    plan: Plan | None = None,
) -> Job:
    """A new batch of tiles, or the rest of an unfinished one of this name; `tiles` are tried until a plan is full.

    Raises:
        UsageError: the tiles cannot be made, or some of an unfinished batch of this name were made otherwise.
    """
    if not tiles:
        raise UsageError("There is nothing to generate.", "Give a prompt and a count.")
    if len(tiles) > MOST_TILES:
        raise UsageError(f"{len(tiles):,} tiles would have to be tried.", f"Plan for at most {MOST_TILES:,}.")
    if settings.seed + len(tiles) > 2**63:
        raise UsageError(f"The seed {settings.seed} leaves no room for {len(tiles)} tiles.", "Give a smaller --seed.")
    _unfinished(workspace, name, workspace.batches)  # a name that cannot be had makes no workspace
    ref = resolve(workspace, settings.model, settings.loras)
    # The checkpoint by its step, so that the rest of a batch is made by the same one when its run has gone on.
    pinned = {"model": ref.name, "loras": tuple(one.name for one in ref.extra)}
    counted = {"count": plan.wanted if plan else len(tiles)}
    told = sized_as_its_input(settings).model_copy(update=pinned | counted)
    with naming(workspace):
        existing = _unfinished(workspace, name, workspace.batches)
        if existing is not None and existing.config_path.is_file():
            begun = _of_kind(job_of(workspace, existing), "generate")
            differing = batch_differences(begun, settings, told, tiles, plan)
            if not differing:
                return replace(begun, device=device)
            _clear_for_others(existing, differing)
        wanted = name or free_name(slug(ref.name.replace("@", "-")) + "-tiles", workspace.taken_names())
        folder = JobFolder(workspace.batches / wanted)
        write_plan(folder.path / PLAN_FILE, tiles)
        if plan is not None:
            config.save(folder.path / CLASS_PLAN, plan)
        return _job("generate", workspace, folder, keep_inputs(folder.path, told), device)


def grid_job(workspace: Workspace, settings: GridSettings, name: str = "", device: str = "cpu") -> Job:
    """A new grid, or the rest of an unfinished one of this name.

    Raises:
        UsageError: the grid cannot be made, or some cells of an unfinished one of this name were made otherwise.
    """
    _unfinished(workspace, name, workspace.batches)  # a name that cannot be had makes no workspace
    grid = plan_grid(workspace, settings)
    with naming(workspace):
        existing = _unfinished(workspace, name, workspace.batches)
        if existing is not None and existing.config_path.is_file():
            begun = _of_kind(job_of(workspace, existing), "grid")
            differing = differences(begun.settings, settings)
            if not differing:
                return replace(begun, device=device)
            _clear_for_others(existing, differing)
        folder = JobFolder(workspace.batches / (name or free_name("grid", workspace.taken_names())))
        cells = [PlannedTile(one.index, one.prompt, one.negative, one.settings.seed, "") for one in grid.cells]
        write_plan(folder.path / PLAN_FILE, cells)
        files.write_json(folder.path / GRID_FILE, grid.model_dump(mode="json", exclude_none=True))
        return _job("grid", workspace, folder, settings, device)


def _clear_for_others(folder: JobFolder, differing: Sequence[str]) -> None:
    """Remove an unfinished batch without a tile, so that one of other settings takes its name.

    Raises:
        UsageError: it has tiles, or somebody makes some.
    """
    if folder.is_active():
        raise being_worked_on(folder.path)
    if has_tiles(folder):
        raise UsageError(
            f"The batch {folder.path.name} is unfinished and was begun with other settings: {in_short(differing)}.",
            f"Go on with it by: rs-studio WS resume {folder.path.name}; or choose another name with --as.",
        )
    shutil.rmtree(folder.path)


def probe_job(workspace: Workspace, settings: ProbeSettings, name: str = "", device: str = "cpu") -> Job:
    """Tiles of fixed prompts that tell what a model knows before it is trained, and of each class of a data set."""
    model, data = settings.model, settings.data
    lines = [PromptLine(prompt, label="photograph") for prompt in NATURAL]
    lines += [PromptLine(prompt, label="remote sensing") for prompt in REMOTE_SENSING]
    if data:
        classes = open_dataset(workspace, data).classes
        lines += [PromptLine(f"a satellite image of {readable_class(label)}", label=label) for label in classes]
    # One prompt after the other, so that another model's tiles of the same prompts have the same seeds.
    tiles = plan_tiles([line for line in lines for _ in range(settings.count)], 0, GenerateSettings().seed)
    wanted = name or slug(f"probe-{model.replace('@', '-')}" + (f"-{data}" if data else ""))
    return generate_job(workspace, GenerateSettings(model=model), tiles, wanted, device)


def evaluate_job(workspace: Workspace, settings: EvaluateSettings, device: str = "cpu") -> Job:
    """A new evaluation of a batch against real pictures."""
    _check_pair(workspace, settings.generated, settings.real, settings.split)
    return _numbered_job("evaluate", workspace, workspace.evaluations, slug(settings.generated), settings, device)


def downstream_job(workspace: Workspace, settings: DownstreamSettings, device: str = "cpu") -> Job:
    """A new study of what a classifier learns from a batch."""
    _check_pair(workspace, settings.synthetic, settings.real, "")
    name = f"{slug(settings.synthetic)}-downstream"
    return _numbered_job("downstream", workspace, workspace.evaluations, name, settings, device)


def check_export_target(settings: ExportSettings) -> None:
    """Whether there is room where an export is to go; the rest of what `export_job` checks may load PyTorch.

    Raises:
        UsageError: there is not.
    """
    check_target(settings)


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
    return Job(kind, workspace, folder, settings, str(values.get("device", "cpu")), int(values.get("processes", 1)))


def _numbered_job(kind: str, workspace: Workspace, parent: Path, name: str, settings: BaseModel, device: str) -> Job:
    with naming(workspace):
        return _job(kind, workspace, JobFolder(next_numbered(parent, name)), settings, device)


def _job(
    kind: str, workspace: Workspace, folder: JobFolder, settings: BaseModel, device: str, processes: int = 1
) -> Job:
    folder.path.mkdir(parents=True, exist_ok=True)
    made_with = {"rs-studio": __version__, "python": platform.python_version()}
    record = _Record(kind=kind, device=device, processes=processes, made_with=made_with, settings=_plain(settings))
    config.save(folder.config_path, record)
    return Job(kind, workspace, folder, settings, device, processes)


class _Record(config.Model):
    """The head of a job's config.toml."""

    kind: str
    device: str
    processes: int
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


def _of_kind(job: Job, kind: str) -> Job:
    if job.kind != kind:
        raise _taken(job.folder.path.name, job.folder.path)
    return job


def _check_free_for_import(workspace: Workspace, folder: JobFolder) -> None:
    taken = workspace.taken_names().get(folder.path.name)
    if taken is not None and (taken != folder.path or (taken / FACTS).is_file()):
        raise _taken(folder.path.name, taken)
    if folder.is_active():
        raise being_worked_on(folder.path)


def check_training(workspace: Workspace, settings: TrainSettings) -> None:
    """Raise where a run's data set, its splits or its base are not there; nothing is written.

    Raises:
        UsageError: they are not.
    """
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
