"""What a batch, a data set or a collection gives to an export: its pictures, with what is known of each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio import collections
from studio.errors import UsageError, unknown
from studio.images import read_recipe
from studio.workspace import Workspace, folders, numbered_folders

Kind = Literal["batch", "data set", "collection", "run"]


@dataclass(frozen=True)
class Item:
    """One picture; `source` is where it lies in the workspace; only a generated one has a recipe."""

    path: Path
    source: str
    captions: tuple[str, ...] = ()
    label: str = ""
    split: str = "train"
    title: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.captions[0] if self.captions else ""


@dataclass(frozen=True)
class Selection:
    """What is exported; `classes` are the labels in the order of their numbers."""

    name: str
    kind: Kind
    title: str
    description: str
    items: tuple[Item, ...]
    classes: tuple[str, ...]

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(item.split for item in self.items))

    @property
    def is_synthetic(self) -> bool:
        return any(item.recipe for item in self.items)


def find(workspace: Workspace, name: str) -> tuple[Kind, Path]:
    """What kind of thing a name stands for, and its folder.

    Raises:
        UsageError: nothing has this name; the nearest that exists is offered.
    """
    kinds: tuple[tuple[Kind, Path], ...] = (
        ("batch", workspace.batches),
        ("data set", workspace.datasets),
        ("collection", workspace.collections),
    )
    for kind, parent in kinds:
        if name in {path.name for path in folders(parent)}:
            return kind, parent / name
    try:
        return "run", workspace.run(name.partition("@")[0])
    except UsageError:
        known = set(workspace.taken_names()) | {path.name for path in numbered_folders(workspace.runs)}
        raise unknown("batch, data set, collection or run", name, known) from None


def collect(workspace: Workspace, name: str) -> Selection:
    """The pictures behind a name, in order.

    Raises:
        UsageError: nothing has this name, it is a run, or it holds no pictures.
    """
    kind, folder = find(workspace, name)
    title, description = name, ""
    classes: list[str] = []
    if kind == "batch":
        items = _of_batch(workspace, folder)
    elif kind == "data set":
        items, classes = _of_dataset(workspace, name)
    elif kind == "collection":
        collection = collections.load(workspace, name)
        title, description = collection.title or name, collection.description
        items = [_of_tile(workspace, workspace.root / tile.file, tile.title) for tile in collection.tiles]
    else:
        raise UsageError(
            f"{name} is a run and holds no pictures.", f"Export it with: rs-studio WS export {name} --to adapter"
        )
    if not items:
        raise UsageError(f"The {kind} {name} holds no pictures yet.", "Generate or add some first.")
    return Selection(name, kind, title, description, tuple(items), tuple(classes or _labels(items)))


def _of_batch(workspace: Workspace, folder: Path) -> list[Item]:
    return [_of_tile(workspace, path) for path in sorted((folder / "tiles").glob("*.png"))]


def _of_tile(workspace: Workspace, path: Path, title: str = "") -> Item:
    source = path.relative_to(workspace.root).as_posix()
    try:
        recipe = read_recipe(path)
    except UsageError:  # missing or torn: said by name when its picture is opened; of other origin: exported without
        recipe = {}
    captions = (str(recipe["prompt"]),) if recipe.get("prompt") else ()
    return Item(path, source, captions, str(recipe.get("label") or ""), title=title, recipe=recipe)


def _of_dataset(workspace: Workspace, name: str) -> tuple[list[Item], list[str]]:
    from studio.datasets.dataset import open_dataset

    dataset = open_dataset(workspace, name)
    items = [
        Item(
            dataset.path(picture),
            f"datasets/{name}/{picture.file_name}",
            picture.captions,
            picture.label,
            picture.split or "train",
        )
        for picture in dataset.pictures()
    ]
    return items, list(dataset.classes)


def _labels(items: Iterable[Item]) -> list[str]:
    return sorted({item.label for item in items if item.label})


def plain(text: str) -> str:
    """Text that every reader of UTF-8 takes: half characters from odd file names are written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def recipe_text(item: Item) -> str:
    return json.dumps(item.recipe, sort_keys=True) if item.recipe else ""
