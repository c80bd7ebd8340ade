"""Looking a workspace over: is everything whole that was once whole? Only what can be computed again is mended."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tomli

from studio import files
from studio.catalog import Catalog
from studio.events import ImageSaved
from studio.indexing import FAVOURITES, RATINGS
from studio.journal import JournalReader, is_locked
from studio.runs import state_of
from studio.workspace import Workspace, folders


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was written; `repaired` where it has been put right."""

    path: Path
    kind: str
    repaired: bool = False


def check(workspace: Workspace, deep: bool = False) -> list[Problem]:
    """Everything wrong in a workspace; a deep look reads every byte again.

    Work that was interrupted is no problem, as it goes on where it stopped. The index is made again where it is
    absent or broken. What a killed process left half-written is removed where nobody works.
    """
    _remove_leftovers(workspace)
    return [
        *_settings(workspace),
        *_catalog(workspace),
        *_records(workspace),
        *(problem for folder in folders(workspace.datasets) for problem in _finished_folder(folder, deep)),
        *(problem for folder in folders(workspace.batches) for problem in _batch(folder, deep)),
        *(problem for folder in folders(workspace.runs) for problem in _run(folder, deep)),
        *(problem for folder in folders(workspace.evaluations) for problem in _finished_folder(folder, deep)),
    ]


def _settings(workspace: Workspace) -> Iterator[Problem]:
    """Every settings file is TOML; what is in it is checked by whoever uses it."""
    kinds = (workspace.datasets, workspace.batches, workspace.runs, workspace.evaluations, workspace.exports)
    of_jobs = [folder / "config.toml" for kind in kinds for folder in folders(kind)]
    kept = (workspace.prompts, workspace.recipes, workspace.plans)
    books = sorted(path for folder in kept for path in folder.glob("[!.]*.toml"))
    titles = [folder / "collection.toml" for folder in folders(workspace.collections)]
    for path in [workspace.settings_path, *of_jobs, *books, *titles]:
        if path.is_file():
            try:
                tomli.loads(path.read_text("utf-8", "surrogateescape"))
            except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError):
                yield Problem(path, "not readable as TOML")


def _catalog(workspace: Workspace) -> Iterator[Problem]:
    catalog = Catalog(workspace)
    faults = catalog.faults()
    if workspace.catalog_path.is_file() and not faults:
        return
    try:
        catalog.rebuild()
        repaired = True
    except (OSError, sqlite3.Error):  # a workspace that may only be read
        repaired = False
    if faults:  # an index that is not there yet is nothing wrong
        yield Problem(workspace.catalog_path, f"broken index ({faults[0]})", repaired)


def _records(workspace: Workspace) -> Iterator[Problem]:
    """What people said cannot be computed again, so a line that is no record is told."""
    for path in (workspace.root / FAVOURITES, workspace.root / RATINGS):
        if path.is_file():
            lines = sum(1 for line in path.read_bytes().split(b"\n") if line.strip())
            torn = lines - sum(1 for _ in files.read_records(path))
            if torn:
                yield Problem(path, "1 damaged line" if torn == 1 else f"{torn} damaged lines")


def _finished_folder(folder: Path, deep: bool) -> Iterator[Problem]:
    """A folder whose job says it was completed has a manifest, and every file is as the manifest says."""
    has_manifest = (folder / files.MANIFEST).is_file()
    if is_locked(folder / "events.jsonl") or not (has_manifest or _is_completed(folder)):
        return
    if not has_manifest and folder.parent.name == "evaluations":
        return  # their report is one file, written whole
    if has_manifest and not _is_completed(folder) and folder.parent.name == "datasets":
        return  # the manifest comes before the last file, so this is an import that was interrupted there
    yield from _manifest(folder, deep)


def _manifest(folder: Path, deep: bool) -> Iterator[Problem]:
    for path, kind in files.manifest_faults(folder, deep):
        yield Problem(path, kind)


def _batch(folder: Path, deep: bool) -> Iterator[Problem]:
    """Every tile that the journal says is on disk is there and unchanged; in a completed batch there is no other."""
    if is_locked(folder / "events.jsonl"):
        return
    saved = {
        event.path: event for _, event in JournalReader(folder / "events.jsonl").read() if isinstance(event, ImageSaved)
    }
    for name, event in saved.items():
        path = folder / name
        if not path.is_file():
            yield Problem(path, "missing")
        elif path.stat().st_size == 0 or (deep and files.sha256_of(path) != event.sha256):
            yield Problem(path, "changed")
    if _is_completed(folder):
        for path in sorted((folder / "tiles").glob("[!.]*.png")):
            if path.relative_to(folder).as_posix() not in saved:
                yield Problem(path, "orphan")
    if (folder / files.MANIFEST).is_file():
        reported = {folder / name for name in saved}
        yield from (problem for problem in _manifest(folder, deep) if problem.path not in reported)


def _run(folder: Path, deep: bool) -> Iterator[Problem]:
    """Every checkpoint is whole."""
    for checkpoint in folders(folder / "checkpoints"):
        yield from _manifest(checkpoint, deep)


def _is_completed(folder: Path) -> bool:
    if folder.parent.name == "datasets" and (folder / "dataset.toml").is_file():
        return True
    return state_of(folder).status == "completed"


def _remove_leftovers(workspace: Workspace) -> None:
    """Remove temporary files and folders of processes that died, unless a job still works somewhere."""
    kinds = (workspace.datasets, workspace.batches, workspace.runs, workspace.evaluations, workspace.exports)
    if any(is_locked(folder / "events.jsonl") for kind in kinds for folder in folders(kind)):
        return
    for path in sorted(workspace.root.rglob(files.TEMPORARY + "*")):
        unfinished_import = path.parent.parent == workspace.datasets and not (path.parent / "dataset.toml").is_file()
        if unfinished_import:
            continue
        with suppress(OSError):  # a workspace that may only be read keeps them
            shutil.rmtree(path) if path.is_dir() else path.unlink()
