"""A collection: tiles chosen, ordered and titled by a person, in one file that names them."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pydantic import Field, field_validator

from studio import config
from studio.config import Model
from studio.errors import UsageError
from studio.workspace import Workspace, check_name

FILE = "collection.toml"


class CollectedTile(Model):
    """One tile of a collection."""

    file: str
    """Where it lies, relative to the workspace: batches/river/tiles/000001.png."""
    title: str = ""
    """What it is called; empty shows its prompt."""

    @field_validator("file")
    @classmethod
    def _stays_inside(cls, file: str) -> str:
        path = PurePosixPath(file)
        if not file or path.is_absolute() or ".." in path.parts or "\0" in file:
            raise ValueError("must lie inside the workspace")
        return file


class Collection(Model):
    """collection.toml: what a collection holds, in its order."""

    title: str = ""
    """What it is called."""
    description: str = ""
    """What it is about."""
    tiles: tuple[CollectedTile, ...] = Field(())
    """Its tiles, in order."""


def load(workspace: Workspace, name: str) -> Collection:
    """A collection by its name.

    Raises:
        UsageError: there is none of that name.
        SettingsError: its file has faults.
    """
    return config.load(workspace.collection(name) / FILE, Collection)


def save(workspace: Workspace, name: str, collection: Collection) -> None:
    """Write a collection, whole or not at all; comments in its file stay."""
    config.save(workspace.collections / check_name(name, "name of a collection") / FILE, collection)


def add(workspace: Workspace, name: str, tiles: Iterable[Path], title: str = "") -> Collection:
    """Put tiles at the end of a collection, made where it is not there; a tile is held once.

    Raises:
        UsageError: the name cannot be used or belongs to something else, or a tile lies outside the workspace.
    """
    taken = workspace.taken_names().get(check_name(name, "name of a collection"))
    if taken is not None and taken.parent != workspace.collections:
        raise UsageError(f"{name} is already the name of {taken.parent.name}/{taken.name}.", "Choose another name.")
    known = (workspace.collections / name / FILE).is_file()
    collection = load(workspace, name) if known else Collection(title=title or _title_of(name))
    held = {tile.file for tile in collection.tiles}
    new = [file for file in dict.fromkeys(_relative(workspace, path) for path in tiles) if file not in held]
    collection = collection.model_copy(
        update={"tiles": (*collection.tiles, *(CollectedTile(file=file) for file in new))}
    )
    save(workspace, name, collection)
    return collection


def _relative(workspace: Workspace, path: Path) -> str:
    root, full = workspace.root.resolve(), path.resolve()
    if not full.is_relative_to(root):
        raise UsageError(f"{path} lies outside the workspace.", "Collect tiles of its batches.")
    return full.relative_to(root).as_posix()


def _title_of(name: str) -> str:
    return re.sub(r"[-_.]+", " ", name).strip().capitalize()
