"""The pictures of an export one by one: each decoded once, so that nothing broken leaves the workspace."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from studio.context import Context
from studio.errors import StudioError, UsageError
from studio.events import Phase, Refused
from studio.exports.items import Item, Selection
from studio.images import open_picture, png_bytes

_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp"}
WEB_SUFFIXES = frozenset({".png", ".jpg", ".webp", ".gif"})
_SECONDS_BETWEEN_REPORTS = 0.1


class Stopped(Exception):
    """A stop was asked for; what was written so far is thrown away."""


@dataclass(frozen=True)
class Picture:
    """One picture ready to be written: its own bytes, untouched, and a number that makes its name."""

    number: int
    item: Item
    data: bytes
    suffix: str
    image: Image.Image

    @property
    def file_name(self) -> str:
        # A number, never a caption or a foreign name: those could hold anything, or the word "test".
        return f"{self.number:06d}{self.suffix}"


def pictures(context: Context, selection: Selection) -> Iterator[Picture]:
    """Every picture that can be read, in order; the others are reported and left out.

    Raises:
        Stopped: a stop was asked for.
        StudioError: not one could be read.
    """
    number, last_report = 0, 0.0
    total = len(selection.items)
    for index, item in enumerate(selection.items):
        if context.should_stop(index):
            raise Stopped
        if time.monotonic() - last_report > _SECONDS_BETWEEN_REPORTS:
            context.emit(Phase("Exporting pictures", index, total))
            last_report = time.monotonic()
        try:
            image = open_picture(item.path)
            with Image.open(item.path) as header:
                suffix = _SUFFIXES.get(header.format or "", "")
            data = item.path.read_bytes()
        except UsageError as error:
            context.emit(Refused(item.source, error.message))
            continue
        number += 1
        yield Picture(number, item, data, suffix, image) if suffix else _as_png(number, item, image)
    context.emit(Phase("Exporting pictures", total, total))
    if not number:
        raise StudioError(f"No picture of {selection.name} can be read.", "Run: rs-studio WS check --deep")


def web_picture(picture: Picture) -> Picture:
    """The picture in a format that browsers show."""
    if picture.suffix in WEB_SUFFIXES:
        return picture
    return _as_png(picture.number, picture.item, picture.image)


def _as_png(number: int, item: Item, image: Image.Image) -> Picture:
    return Picture(number, item, png_bytes(image, item.recipe or None), ".png", image)


def jpeg_bytes(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
