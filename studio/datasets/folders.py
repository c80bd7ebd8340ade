"""Pictures that lie in folders: one folder for each class, or no order at all."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath

from studio.datasets.items import DEFAULT_SPLIT, Item, Source, label_of
from studio.datasets.pictures import SUFFIXES, read_file
from studio.datasets.splits import SPLIT_NAMES, split_of_folders

# Folders that say what they hold, not what the pictures show.
_NOT_CLASSES = frozenset({"images", "image", "imgs", "img", "pictures", "data", "jpg", "png", "tif", "rgb", "tiles"})


def class_folders(root: Path) -> Source | None:
    """One folder for each class, within folders for each split where there are any; None where it is not so."""
    files = list(picture_files(root)) if root.is_dir() else []
    labels = _labels(files)
    if not any(labels.values()):
        return None

    def items(readable: bool) -> Iterator[Item]:
        return (_item(root, file, label_of(labels[file])) for file in files)

    return Source("class-folders", items)


def folder(root: Path) -> Source | None:
    """Plain pictures, or one; folders mean nothing but a split."""
    if root.is_file():
        files, base = ([PurePath(root.name)] if root.suffix.lower() in SUFFIXES else []), root.parent
    else:
        files, base = list(picture_files(root)), root
    if not files:
        return None

    def items(readable: bool) -> Iterator[Item]:
        return (_item(base, file, "") for file in files)

    return Source("folder", items)


def picture_files(root: Path) -> Iterator[PurePath]:
    """Files named like pictures, relative to the root, in one order everywhere; hidden ones are left out."""
    # Links to folders are not followed, as they may lead in a circle; links to files are, as the hub's cache is made
    # of them.
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                yield PurePath(os.path.relpath(os.path.join(folder, name), root))


def _item(root: Path, file: PurePath, label: str) -> Item:
    path = root / file
    split = split_of_folders(file) or DEFAULT_SPLIT
    return Item(str(file), partial(read_file, path), label=label, split=split, path=path.absolute())


def _labels(files: list[PurePath]) -> dict[PurePath, str]:
    """The class of each file: its first folder that is neither a split nor around everything else.

    AID/Airport/airport_1.jpg and train/Airport/airport_1.jpg are both of the class Airport.
    """
    folders = {file: [part for part in file.parts[:-1] if part.lower() not in SPLIT_NAMES] for file in files}
    while True:
        firsts = Counter(parts[0] if parts else "" for parts in folders.values())
        around = next(iter(firsts), "")
        deeper = any(len(parts) > 1 for parts in folders.values())
        if len(firsts) != 1 or not around or not (deeper or around.lower() in _NOT_CLASSES):
            break
        folders = {file: parts[1:] for file, parts in folders.items()}
    return {file: parts[0] if parts else "" for file, parts in folders.items()}
