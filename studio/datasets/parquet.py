"""Parquet with pictures inside, as the hub's data sets come; RSICD is one of them."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from studio.datasets import rsicd
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
from studio.datasets.splits import split_of_folders, split_of_name, split_of_value
from studio.display import shown_line
from studio.errors import UsageError

BATCH_ROWS = 64  # so that memory stays flat however large the row groups are
_BYTE_COLUMNS = ("image", "img", "picture", "bytes", "image_bytes", "jpg", "png")


def source(root: Path) -> Source | None:
    """Rows that hold pictures; None where no parquet file does.

    Raises:
        UsageError: the source is one parquet file and it is broken.
    """
    paths = [root] if root.is_file() else sorted(path for path in root.rglob("*.parquet") if path.is_file())
    paths = [path for path in paths if path.suffix.lower() == ".parquet"]
    base = root if root.is_dir() else root.parent
    tables = [_Table(path, path.relative_to(base).as_posix()) for path in paths]
    with_pictures = [table for table in tables if table.picture_column]
    if not with_pictures:
        if root.is_file() and tables:
            raise UsageError(f"{shown_line(root)} holds no pictures{tables[0].fault}.", "Name a whole parquet file.")
        return None
    broken = [table for table in tables if table.fault]
    bare = [table.name for table in tables if not table.picture_column and not table.fault]
    notes = (f"Left aside, as no column holds pictures: {', '.join(bare)}.",) if bare else ()

    def items(readable: bool) -> Iterator[Item]:
        for table in with_pictures:
            yield from table.items(readable)
        for table in broken:
            yield Item(table.name, refused(f"cannot be read{table.fault}"))

    return Source("parquet", items, notes)


@dataclass(frozen=True)
class _Table:
    """One parquet file: where it lies, and its name relative to the source."""

    path: Path
    name: str

    @cached_property
    def _opened(self) -> Any:
        """Its schema as pyarrow gives it, or what is wrong with it."""
        import pyarrow.parquet  # a quarter of a second; only this form needs it

        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                return file.schema_arrow
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            return f" ({shown_line(error, 120)})"

    @property
    def fault(self) -> str:
        return self._opened if isinstance(self._opened, str) else ""

    @cached_property
    def picture_column(self) -> str:
        """The column that holds pictures: a struct with their bytes, else bytes under a telling name."""
        import pyarrow

        if self.fault:
            return ""
        columns = list(self._opened)
        for column in columns:
            if pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
                return str(column.name)
        kinds = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
        named = [one for one in columns if one.name in _BYTE_COLUMNS and any(kind(one.type) for kind in kinds)]
        return str(named[0].name) if named else ""

    @cached_property
    def class_names(self) -> dict[str, list[str]]:
        """The names behind the numbers of each ClassLabel column; only the hub's own metadata hold them."""
        try:
            features = json.loads((self._opened.metadata or {})[b"huggingface"])["info"]["features"]
            pairs = [(column, facts.get("names")) for column, facts in features.items() if isinstance(facts, dict)]
            return {column: [str(name) for name in names] for column, names in pairs if isinstance(names, list)}
        except (KeyError, ValueError, TypeError, AttributeError):
            return {}

    def items(self, readable: bool) -> Iterator[Item]:
        """An item for each row; a damaged row group gives one refusal for each row that cannot be read."""
        import pyarrow.parquet

        columns = [name for name in self._opened.names if readable or name != self.picture_column]
        row_number = 0
        with pyarrow.parquet.ParquetFile(self.path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                end = row_number + file.metadata.row_group(group).num_rows
                try:
                    batches = file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False)
                    for batch in batches:
                        for row in batch.to_pylist():
                            row_number += 1
                            yield self._item(row, row_number)
                except (pyarrow.ArrowException, OSError, ValueError) as error:
                    reason = f"is in a damaged part of the file ({shown_line(error, 100)})"
                    for number in range(row_number + 1, end + 1):
                        yield Item(self._row_name(number), refused(reason))
                row_number = end

    def _row_name(self, number: int) -> str:
        return f"{self.name}, row {number}"

    def _item(self, row: dict[str, Any], number: int) -> Item:
        picture = row.pop(self.picture_column, None)
        data, path = (picture.get("bytes"), picture.get("path")) if isinstance(picture, dict) else (picture, None)
        file_key, caption_key, label_key = (key_of(row, keys) for keys in (FILE_KEYS, CAPTION_KEYS, LABEL_KEYS))
        named = row.get(file_key) or path
        file = named if isinstance(named, str) else self._row_name(number)
        label = self._label(label_key, row.get(label_key))
        if not label_key and file_key == "filename" and caption_key == "captions":
            label = label_of(rsicd.label_of_name(file))
        split = split_of_value(row.get("split")) or split_of_name(self.path.name) or split_of_folders(Path(self.name))
        used = {file_key, caption_key, label_key, "split"} - {""}
        return Item(
            file,
            (lambda: data) if isinstance(data, bytes) and data else refused("the row holds no picture"),
            texts_of(row.get(caption_key)),
            label,
            split or DEFAULT_SPLIT,
            {key: _plain(value) for key, value in row.items() if key not in used and not isinstance(value, bytes)},
        )

    def _label(self, column: str, value: Any) -> str:
        names = self.class_names.get(column)
        if names is None or not isinstance(value, int):
            return label_of(value)
        return label_of(names[value]) if 0 <= value < len(names) else ""


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; dates and the like become text."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items() if not isinstance(one, bytes)}
    if isinstance(value, list):
        return [_plain(one) for one in value if not isinstance(one, bytes)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
