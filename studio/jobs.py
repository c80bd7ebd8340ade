"""Kinds of work, and `execute`: the only way that work happens."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from studio import launch
from studio.config import WorkspaceSettings, load
from studio.context import Context, Done
from studio.control import Control
from studio.errors import StudioError
from studio.events import Event, Finished
from studio.journal import Journal
from studio.memory import free_memory, is_out_of_memory
from studio.runs import JobFolder
from studio.workspace import Workspace

STOPPED_EXIT_CODE = 75


@dataclass(frozen=True)
class Job:
    kind: str
    workspace: Workspace
    folder: JobFolder
    settings: BaseModel
    device: str = "cpu"
    processes: int = 1
    """How many work on it together; more than one only of training."""


def import_pictures(context: Context) -> Done:
    from studio.datasets.importer import import_pictures

    return import_pictures(context)


def train(context: Context) -> Done:
    from studio.training.logs import logged
    from studio.training.processes import join  # torch starts here
    from studio.training.train import train

    team = join()
    team.agree(context.folder.path.name)
    with logged(context) as context:
        return train(context, team)


def follow(job_of: Callable[[str], Job]) -> None:
    """Train in a process that does not lead: without a journal, on the run that the first process names."""
    from studio.training.processes import join  # torch starts here
    from studio.training.train import train

    team = join()
    job = job_of(team.agree())
    try:
        train(Context(job.workspace, job.folder, job.settings, job.device, ignore, Control()), team)
    finally:
        free_memory()


def generate(context: Context) -> Done:
    from studio.generation.generate import generate  # torch starts here

    return generate(context)


def grid(context: Context) -> Done:
    from studio.generation.grids import grid  # torch starts here

    return grid(context)


def evaluate(context: Context) -> Done:
    from studio.evaluation.evaluate import evaluate  # torch starts here

    return evaluate(context)


def downstream(context: Context) -> Done:
    from studio.evaluation.downstream import downstream  # torch starts here

    return downstream(context)


def export(context: Context) -> Done:
    from studio.exports.export import export

    return export(context)


KINDS: dict[str, Callable[[Context], Done]] = {
    "import": import_pictures,
    "train": train,
    "generate": generate,
    "grid": grid,
    "evaluate": evaluate,
    "downstream": downstream,
    "export": export,
}


def ignore(event: Event) -> None:
    """Watch nothing."""


def execute(job: Job, control: Control, watch: Callable[[Event], None] = ignore) -> Finished:
    """Do one job to its end on the calling thread, and record how it ended.

    Raises:
        UsageError: someone else works on it.
    """
    if job.processes > 1 and not launch.is_one_of_several():
        threads = load(job.workspace.settings_path, WorkspaceSettings).cpu_threads
        return launch.execute_in_processes(
            job.workspace.root, job.folder, job.device, job.processes, control, watch, threads
        )
    launch.stop_with_the_starter(control)
    journal = Journal(job.folder.journal_path)

    def emit(event: Event) -> None:
        journal.write(event)
        watch(event)

    # Whoever left a word here left it for a process that is gone; nobody may ask before the journal is held.
    job.folder.control_path.unlink(missing_ok=True)
    try:
        context = Context(job.workspace, job.folder, job.settings, job.device, emit, control)
        finished = _finish(job, context)
        emit(finished)
        journal.sync()
    finally:
        journal.close()
        free_memory()
    return finished


def _finish(job: Job, context: Context) -> Finished:
    try:
        done = KINDS[job.kind](context)
    except StudioError as error:
        return Finished("failed", error.message, error.hint, error.exit_code)
    except (Exception, SystemExit) as error:  # the edge: whatever a library raises ends here, its traceback on record
        with job.folder.log_path.open("a") as log:
            traceback.print_exc(file=log)
        return _failed(error, job)
    return Finished(done.outcome, exit_code=0 if done.outcome == "completed" else STOPPED_EXIT_CODE, result=done.result)


def _failed(error: BaseException, job: Job) -> Finished:
    if is_out_of_memory(error):
        return Finished(
            "failed",
            f"{job.device} ran out of memory.",
            "Make fewer or smaller pictures at once: --batch, --size, or --set batch=… for training.",
            1,
        )
    return Finished("failed", f"{type(error).__name__}: {error}", f"The whole story is in {job.folder.log_path}.", 1)
