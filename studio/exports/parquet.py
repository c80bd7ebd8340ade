"""Parquet with the pictures inside, in the hub's layout; `datasets` finds pictures and class labels by itself."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studio.display import shown
from studio.exports.card import dataset_card, split_name
from studio.exports.items import Item, Selection, plain, recipe_text
from studio.exports.pictures import Picture

SHARD_BYTES, WAITING_BYTES = 400_000_000, 50_000_000
ROWS_TOGETHER = 64  # small row groups let viewers read one page of pictures without the rest


class SplitWriter:
    """Writes one split's rows to as many files as their size asks for."""

    def __init__(self, folder: Path, split: str, schema: Any) -> None:
        self._folder, self._split, self._schema = folder, split, schema
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None  # pyarrow has no types
        self._waiting_bytes = self._file_bytes = 0
        self.paths: list[Path] = []

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._waiting_bytes += len(row["image"]["bytes"])
        if len(self._rows) >= ROWS_TOGETHER or self._waiting_bytes > WAITING_BYTES:
            self._flush()
        if self._file_bytes > SHARD_BYTES:
            self._end_file()

    def close(self) -> None:
        """Write what is left, and give the files their names now that their number is known."""
        self._flush()
        self._end_file()
        for index, path in enumerate(self.paths):
            path.rename(self._folder / f"{self._split}-{index:05d}-of-{len(self.paths):05d}.parquet")

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        if self._writer is None:
            self.paths.append(self._folder / f"{self._split}-{len(self.paths):05d}")
            # Pictures are compressed already, and never equal: neither dictionaries nor extremes of them help.
            self._writer = pq.ParquetWriter(
                self.paths[-1], self._schema, use_dictionary=["label"], write_statistics=False
            )
        self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
        self._file_bytes += self._waiting_bytes
        self._rows, self._waiting_bytes = [], 0

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._file_bytes = None, 0


def write_parquet(folder: Path, selection: Selection, pictures: Iterator[Picture]) -> None:
    """Write data/SPLIT-00000-of-0000N.parquet with image, label, text, captions, source and recipe."""
    schema = arrow_schema(selection.classes)
    numbers = {name: number for number, name in enumerate(selection.classes)}
    writers: dict[str, SplitWriter] = {}
    items: list[Item] = []
    (folder / "data").mkdir()
    for picture in pictures:
        split = split_name(picture.item.split)
        if split not in writers:
            writers[split] = SplitWriter(folder / "data", split, schema)
        writers[split].add(_row(picture, numbers))
        items.append(picture.item)
    for writer in writers.values():
        writer.close()
    patterns = {split: [f"data/{split}-*.parquet"] for split in writers}
    card = dataset_card(selection, items, patterns, "load_dataset(folder)")
    (folder / "README.md").write_text(card, encoding="utf-8")


def arrow_schema(classes: Sequence[str]) -> Any:
    """Columns and, in the metadata, what `datasets` takes them for."""
    import pyarrow as pa

    string = {"dtype": "string", "_type": "Value"}
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [plain(name) for name in classes], "_type": "ClassLabel"} if classes else string,
        "text": string,
        # The name before datasets 4, which later ones read as List.
        "captions": {"feature": string, "_type": "Sequence"},
        "source": string,
        "recipe": string,
    }
    types = {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "label": pa.int64() if classes else pa.string(),
        "captions": pa.list_(pa.string()),
    }
    fields = [pa.field(name, types.get(name, pa.string())) for name in features]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _row(picture: Picture, numbers: dict[str, int]) -> dict[str, Any]:
    item = picture.item
    return {
        "image": {"bytes": picture.data, "path": picture.file_name},
        "label": numbers.get(item.label) if numbers else "",
        "text": plain(item.text),
        "captions": [plain(caption) for caption in item.captions],
        "source": shown(item.source),
        "recipe": recipe_text(item),
    }
