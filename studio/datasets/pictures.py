"""Every picture that comes in is decoded once to its last row, so that none breaks a training run later."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from studio.display import shown_line
from studio.images import MAX_PIXELS

# What a folder is searched for. The content decides what a file is, whatever its name says.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jp2"})
MAX_FILE_BYTES = 512 * 2**20
_STORED_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_ORIENTATION, _BITS_PER_SAMPLE, _PNG_BIT_DEPTH_AT = 0x0112, 258, 24


class NotImportable(Exception):
    """Why one picture is not taken in, in a few words; the others go on."""


@dataclass(frozen=True)
class Look:
    """What a whole picture turned out to be; width and height as it is shown, upright."""

    suffix: str
    width_px: int
    height_px: int


def read_file(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        NotImportable: it is missing, not a plain file, or absurdly large.
    """
    try:
        if not path.is_file():
            raise NotImportable("there is no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise NotImportable(f"is larger than {MAX_FILE_BYTES // 2**20} MB")
        return path.read_bytes()
    except OSError as error:
        raise NotImportable(f"cannot be read ({error.strerror})") from None


def look(data: bytes) -> Look:
    """Decode a picture wholly.

    Raises:
        NotImportable: it is no picture, damaged, a bomb, or holds more than 8 bits a band.
    """
    if not data:
        raise NotImportable("is empty")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_STORED_SUFFIX)) as image:
            return _look(image, data)
    except NotImportable:
        raise
    except UnidentifiedImageError:
        raise NotImportable("is not a picture (JPEG, PNG, WebP, BMP, GIF or TIFF)") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotImportable(f"has over {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise nearly anything on foreign bytes; one file must not end the import
        raise NotImportable(f"is damaged ({shown_line(error, 120) or type(error).__name__})") from None


def _look(image: Image.Image, data: bytes) -> Look:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise NotImportable(f"has over {MAX_PIXELS:,} pixels")
    if image.mode not in _MODES or _bits(image, data) > 8:
        raise NotImportable("holds more than 8 bits a band; stretch it to 8 bits first")
    suffix = _STORED_SUFFIX[image.format or ""]
    image.load()
    if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        width, height = height, width
    return Look(suffix, width, height)


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a band in the file; Pillow silently keeps the high byte of 16-bit colour, which comes out near black."""
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH_AT]
    if image.format == "TIFF":
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 8)  # type: ignore[attr-defined]  # only TIFF images have tags
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def refuse_bombs() -> None:
    """Make Pillow refuse at the header what it would only warn of, in this process from now on."""
    # Not around each call: catch_warnings is not safe with threads.
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
