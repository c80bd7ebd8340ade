"""An image folder: pictures beside metadata.jsonl, as `datasets` and diffusers' training scripts read it."""

from collections.abc import Iterator
from pathlib import Path

from studio.display import shown
from studio.exports.card import dataset_card, split_name
from studio.exports.items import Item, Selection, plain, recipe_text
from studio.exports.pictures import Picture
from studio.files import json_line


def write_image_folder(folder: Path, selection: Selection, pictures: Iterator[Picture]) -> None:
    """Write images/ and metadata.jsonl; of a data set with several splits, a folder with both for each split."""
    items: list[Item] = []
    rows: dict[str, list[bytes]] = {}
    flat = {split_name(split) for split in selection.splits} == {"train"}
    for picture in pictures:
        split = split_name(picture.item.split)
        home = folder if flat else folder / split
        (home / "images").mkdir(parents=True, exist_ok=True)
        (home / "images" / picture.file_name).write_bytes(picture.data)
        rows.setdefault(split, []).append(json_line(_row(picture)))
        items.append(picture.item)
    for split, lines in rows.items():
        (folder if flat else folder / split).joinpath("metadata.jsonl").write_bytes(b"".join(lines))
    patterns = {split: ["metadata.jsonl", "images/**"] if flat else [f"{split}/**"] for split in rows}
    card = dataset_card(selection, items, patterns, "load_dataset(folder)")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _row(picture: Picture) -> dict[str, str | list[str]]:
    """Every row has the same fields with the same types and no null, since readers guess types from the first rows."""
    item = picture.item
    return {
        "file_name": f"images/{picture.file_name}",
        "text": plain(item.text),
        "captions": [plain(caption) for caption in item.captions] or [""],
        "label": plain(item.label),
        "source": shown(item.source),
        "recipe": recipe_text(item),
    }
