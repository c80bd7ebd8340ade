"""An image folder with metadata.jsonl: one row for each picture, as the hub's imagefolder writes it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from studio.datasets.folders import picture_files
from studio.datasets.items import (
    CAPTION_KEYS,
    DEFAULT_SPLIT,
    FILE_KEYS,
    LABEL_KEYS,
    Item,
    Source,
    key_of,
    label_of,
    refused,
    texts_of,
)
from studio.datasets.pictures import read_file
from studio.datasets.splits import split_of_folders, split_of_value
from studio.display import shown_line
from studio.errors import UsageError

METADATA = "metadata.jsonl"


def source(root: Path) -> Source | None:
    """Pictures named by rows; None where there is no metadata.jsonl.

    Raises:
        UsageError: no row names a picture that is there.
    """
    tables = _tables(root)
    if not tables:
        return None
    base = root if root.is_dir() else root.parent
    items: dict[str, Item] = {}
    for table in tables:
        for item in _rows(base, table):
            known = items.get(item.file)
            items[item.file] = replace(known, captions=known.captions + item.captions) if known else item
    if not any(item.path is not None and item.path.is_file() for item in items.values()):
        raise UsageError(
            f"No row of {shown_line(tables[0])} names a picture that is there.",
            'A row is {"file_name": "images/1.png", "text": "…"}, its path relative to metadata.jsonl.',
        )
    unnamed = _unnamed(base, items) if root.is_dir() else []
    count = "1 picture has" if len(unnamed) == 1 else f"{len(unnamed)} pictures have"
    notes = (f"{count} no row in {METADATA}, so no caption comes with it.",) if unnamed else ()
    everything = [*items.values(), *unnamed]
    return Source("metadata-jsonl", lambda readable: iter(everything), notes)


def _tables(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".jsonl" else []
    return sorted(path for path in root.rglob(METADATA) if path.is_file())


def _rows(base: Path, table: Path) -> Iterator[Item]:
    name = table.relative_to(base).as_posix()
    with table.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield _item(base, table, row, f"{name}, line {number}")


def _item(base: Path, table: Path, row: Any, where: str) -> Item:
    if not isinstance(row, dict):
        return Item(where, refused("is not a JSON object"))
    file_key, caption_key, label_key = (key_of(row, keys) for keys in (FILE_KEYS, CAPTION_KEYS, LABEL_KEYS))
    given = row.get(file_key)
    if not isinstance(given, str) or not given:
        return Item(where, refused("names no picture: file_name is missing"))
    inside = table.parent.relative_to(base) / given
    if "\0" in given or PurePath(given).is_absolute() or ".." in PurePath(given).parts:
        return Item(given, refused("leads out of the folder"))
    split = split_of_value(row.get("split")) or split_of_folders(inside) or DEFAULT_SPLIT
    used = {file_key, caption_key, label_key, "split"}
    return Item(
        str(inside),
        partial(read_file, base / inside),
        texts_of(row.get(caption_key)),
        label_of(row.get(label_key)),
        split,
        {key: value for key, value in row.items() if key not in used},
        (base / inside).absolute(),
    )


def _unnamed(base: Path, items: dict[str, Item]) -> list[Item]:
    return [
        Item(
            str(file),
            partial(read_file, base / file),
            split=split_of_folders(file) or DEFAULT_SPLIT,
            path=(base / file).absolute(),
        )
        for file in picture_files(base)
        if str(file) not in items
    ]
