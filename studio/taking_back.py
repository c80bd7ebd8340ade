"""What a job leaves that failed before it made anything: nothing."""

import shutil
from pathlib import Path

from studio.jobs import Job
from studio.runs import JobFolder
from studio.workspace import TEMPLATE, Workspace, naming

BATCHES = ("generate", "grid")


def take_back(job: Job) -> None:
    """Remove the folder of a job that failed before it made anything."""
    if not (has_tiles(job.folder) if job.kind in BATCHES else _has_results(job.folder)):
        shutil.rmtree(job.folder.path)


def take_back_workspace(workspace: Workspace) -> None:
    """Remove a workspace that was made for a job that was taken back, where nothing else has come into it."""
    with naming(workspace):
        made = {path.relative_to(workspace.root): path for path in workspace.root.rglob("*") if path.is_file()}
        if all(_is_of_template(*one) for one in made.items()):
            shutil.rmtree(workspace.root)


def _is_of_template(name: Path, path: Path) -> bool:
    return (TEMPLATE / name).is_file() and path.read_bytes() == (TEMPLATE / name).read_bytes()


def has_tiles(folder: JobFolder) -> bool:
    """Whether a batch has made any, be they kept or refused."""
    return any(any((folder.path / name).glob("[!.]*.png")) for name in ("tiles", "refused"))


def _has_results(folder: JobFolder) -> bool:
    told = (folder.config_path, folder.journal_path, folder.log_path)
    return any(path.is_file() and path not in told for path in folder.path.rglob("*"))
