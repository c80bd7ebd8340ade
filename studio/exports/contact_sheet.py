"""A contact sheet: every picture of a collection on one PNG, each with its name beneath."""

from collections.abc import Iterator
from math import ceil, sqrt
from pathlib import Path

from PIL import Image

from studio.display import shown_line
from studio.exports.items import Item, Selection
from studio.exports.pictures import Picture
from studio.images import contact_sheet, png_bytes

SHEET_PIXELS = 40_000_000
_SMALLEST_CELL_PX, _LARGEST_CELL_PX, _LABELLED_CELL_PX = 48, 256, 96


def write_contact_sheet(path: Path, selection: Selection, pictures: Iterator[Picture]) -> None:
    """Write the sheet as a PNG; cells shrink as their number grows, and lose their labels when these cannot be read."""
    cell_px = cell_size(len(selection.items))
    tiles, items = [], []
    for picture in pictures:
        tiles.append(_fitted(picture.image, cell_px))
        items.append(picture.item)
    labels = [_label(item) for item in items] if cell_px >= _LABELLED_CELL_PX else []
    columns = max(1, ceil(sqrt(1.3 * len(tiles))))
    path.write_bytes(png_bytes(contact_sheet(tiles, columns, labels, selection.title)))


def cell_size(count: int) -> int:
    """Side of a cell in pixels, so that the sheet stays below 40 million pixels."""
    return max(_SMALLEST_CELL_PX, min(_LARGEST_CELL_PX, int(sqrt(SHEET_PIXELS / count))))


def _fitted(image: Image.Image, cell_px: int) -> Image.Image:
    """The picture made smaller, or larger by a whole factor so that its pixels stay what they are."""
    factor = min(cell_px // max(image.size), 4)
    if factor > 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    small = image.copy()
    small.thumbnail((cell_px, cell_px), Image.Resampling.BICUBIC)
    return small


def _label(item: Item) -> str:
    text = item.title or item.label or item.text
    seed = f" · {item.recipe['seed']}" if "seed" in item.recipe else ""
    return shown_line(text, 60) + seed
