"""Models that are not there yet: downloaded from the hub, or unpacked from a single file, before work begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.errors import NotFetched, UsageError
from studio.events import Event, Phase
from studio.models import stored
from studio.models.registry import ModelRef, resolve
from studio.workspace import Workspace, make_workspace


def fetch_model(
    workspace: Workspace, name: str, emit: Callable[[Event], None] = lambda event: None, tokenizer: Path | None = None
) -> ModelRef:
    """A model, downloaded from the hub or unpacked from its single file first where it is not there yet.

    Args:
        emit: told of what is downloaded and unpacked.
        tokenizer: folder with CLIP's tokenizer, which single files do not hold; else one is looked for.

    Raises:
        UsageError: as `resolve`, or it cannot be fetched.
        StudioError: the hub cannot be reached, or the disk is full.
    """

    def told(phase: str, done: int, total: int) -> None:
        emit(Phase(phase, done, total))

    try:
        return resolve(workspace, name)
    except NotFetched:
        make_workspace(workspace.root)
    if Path(name).is_file():
        from studio.models.single_file import unpack  # imports torch

        unpack(workspace, Path(name).resolve(), tokenizer, told)
    else:
        from studio.models.hub import download  # imports an HTTP library

        download(workspace, name, told)
    return resolve(workspace, name)


def fetch_where_needed(workspace: Workspace, name: str, emit: Callable[[Event], None]) -> None:
    """Fetch what a job will open; what is wrong with a name is said by whoever makes the job."""
    try:
        resolve(workspace, name)
    except NotFetched:
        fetch_model(workspace, name, emit)
    except UsageError:
        return


def is_here(workspace: Workspace, name: str) -> bool:
    """Whether a job could open a model, or say what is wrong with its name, without fetching anything."""
    try:
        resolve(workspace, name)
    except NotFetched:
        return False
    except UsageError:
        return True
    return True


def fetched_models(workspace: Workspace) -> list[dict[str, Any]]:
    """What was fetched into a workspace: name, commit (empty of a file), folder and bytes on disk."""
    found = [(f"{hub_id}@{commit}", commit, folder) for hub_id, commit, folder in stored.downloaded(workspace)]
    found += [(folder.name, "", folder) for folder in stored.unpacked(workspace)]
    return [
        {"name": name, "revision": revision, "folder": str(folder), "bytes": _bytes_in(folder)}
        for name, revision, folder in found
    ]


def fetched_names(workspace: Workspace) -> list[str]:
    """Names of the hub's models that were fetched, with the commit where the name alone means another."""
    names = []
    for hub_id, commit, folder in stored.downloaded(workspace):
        ref = folder.parent.parent / "refs" / stored.DEFAULT_REVISION
        is_meant = ref.is_file() and ref.read_text().strip() == commit
        names.append(hub_id if is_meant else f"{hub_id}@{commit}")
    return names


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
