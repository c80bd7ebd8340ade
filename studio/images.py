"""Pictures: opened safely, made small, laid out in sheets, and saved with their whole recipe inside."""

import hashlib
import io
import json
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin, UnidentifiedImageError

from studio import files
from studio.display import shown, shown_line
from studio.errors import UsageError

if TYPE_CHECKING:  # the interface draws pictures without numpy, whose import costs its first frame a tenth of a second
    import numpy as np

RECIPE_KEY = "rs-studio"
XMP_KEY = "XML:com.adobe.xmp"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MAX_PIXELS = 89_000_000  # just under the size at which Pillow begins to warn
PAPER, INK = (255, 255, 255), (40, 40, 40)
_BROKEN = (OSError, ValueError, SyntaxError, LookupError, EOFError, struct.error, Image.DecompressionBombError, Warning)

# Pillow warns of odd metadata, on stderr, in the middle of a progress bar. For the whole process and not around each
# call, as `catch_warnings` is not safe with threads. Where filters are stricter, a warning refuses the picture.
warnings.filterwarnings("ignore", module=r"PIL\.")


def save_tile(path: Path, array: "np.ndarray[Any, Any]", recipe: Mapping[str, Any]) -> str:
    """Write an uint8 array (height, width, 3) as a PNG with its recipe inside, whole or not at all; its sha256."""
    data = png_bytes(Image.fromarray(array), recipe)
    files.write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def png_bytes(image: Image.Image, recipe: Mapping[str, Any] | None = None) -> bytes:
    """A picture as PNG: the recipe as JSON under `rs-studio`, and its prompt under `Description` for other tools.

    A synthetic one also says so in IPTC's words, as image search and catalogues look for.
    """
    text = PngImagePlugin.PngInfo()
    if recipe is not None:
        # JSON in ASCII fits PNG's oldest kind of text and keeps every character, lone surrogates included.
        text.add_text(RECIPE_KEY, json.dumps(recipe, separators=(",", ":")))
        text.add_text("Software", "rs-studio")
        if recipe.get("prompt"):
            text.add_itxt("Description", shown(recipe["prompt"]))
        if recipe.get("synthetic"):
            text.add_itxt(XMP_KEY, _xmp(recipe))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _xmp(recipe: Mapping[str, Any]) -> str:
    """IPTC's digital source type as an XMP packet; an inpainting of a real picture is synthetic in part."""
    is_real_in_part = recipe.get("mask_sha256") and not (recipe.get("source") or {}).get("synthetic")
    kind = "compositeWithTrainedAlgorithmicMedia" if is_real_in_part else "trainedAlgorithmicMedia"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{_SOURCE_TYPES}{kind}</Iptc4xmpExt:DigitalSourceType>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe inside a tile.

    Raises:
        UsageError: the file is missing, is no picture, or carries no recipe.
    """
    with _opened(path) as image:
        text = image.info.get(RECIPE_KEY)
        if text is None and isinstance(image, PngImagePlugin.PngImageFile):
            text = image.text.get(RECIPE_KEY)  # other tools write text behind the pixels
    try:
        recipe = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict):
        raise UsageError(f"{shown_line(path)} carries no recipe.", "Name a PNG tile made by rs-studio.")
    return recipe


def open_picture(path: Path) -> Image.Image:
    """A picture in RGB, decoded to its last row and turned upright.

    Raises:
        UsageError: it is missing, broken, no picture, or has more than 89 million pixels.
    """
    with _opened(path) as image:
        image.load()  # the header alone also looks well in a truncated file
        return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture as RGB: transparent pixels become black, 16-bit and float values are stretched to 8 bits."""
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith(("I", "F")):
        return _stretched(image).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def thumbnail(path: Path, size_px: int) -> Image.Image:
    """A picture in RGB, no side longer than asked; raises as `open_picture`."""
    with _opened(path) as image:
        image.draft("RGB", (size_px, size_px))  # JPEG decodes small ones much faster
        image.load()
        small = to_rgb(ImageOps.exif_transpose(image))
    small.thumbnail((size_px, size_px), Image.Resampling.BICUBIC)
    return small


def fit_square(image: Image.Image, size_px: int) -> Image.Image:
    """The centre square of a picture at the given size; antialiased bicubic, nothing done where it fits already."""
    return fit(image, size_px, size_px)


def fit(image: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """The centre of a picture at the given size, with as little cut off as its shape allows; as `fit_square`."""
    scale = max(width_px / image.width, height_px / image.height)
    width, height = max(width_px, round(image.width * scale)), max(height_px, round(image.height * scale))
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - width_px) // 2, (height - height_px) // 2
    return image.crop((left, top, left + width_px, top + height_px))


def opacity(path: Path) -> Image.Image | None:
    """The alpha of a picture, turned upright, 0 where it is transparent; None where it has none. As `open_picture`."""
    with _opened(path) as image:
        if "A" not in image.mode and "transparency" not in image.info:
            return None
        image.load()
        return ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")


def contact_sheet(
    images: Sequence[Image.Image], columns: int, labels: Sequence[str] = (), title: str = ""
) -> Image.Image:
    """Pictures in rows on white, each with its label beneath; cells are as large as the largest picture.

    Raises:
        UsageError: there are no pictures.
    """
    if not images:
        raise UsageError("There are no pictures to lay out.", "Generate or choose some first.")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_width, cell_height = max(one.width for one in images), max(one.height for one in images)
    font_px = max(9, min(16, cell_width // 12))
    font, gap = ImageFont.load_default(font_px), max(4, cell_width // 24)
    label_px = font_px + 6 if any(labels) else 0
    title_px = 3 * font_px if title else 0
    width = gap + columns * (cell_width + gap)
    sheet = Image.new("RGB", (width, title_px + gap + rows * (cell_height + label_px + gap)), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        large = ImageFont.load_default(round(1.5 * font_px))
        draw.text((gap, font_px // 2 + 2), _fitting(title, large, width - 2 * gap), INK, large)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        x = gap + column * (cell_width + gap)
        y = title_px + gap + row * (cell_height + label_px + gap)
        sheet.paste(image, (x + (cell_width - image.width) // 2, y + (cell_height - image.height) // 2))
        if index < len(labels):
            draw.text((x, y + cell_height + 2), _fitting(labels[index], font, cell_width), INK, font)
    return sheet


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header has been read and whose size is sane; every fault of a decoder becomes a UsageError."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UsageError(f"{shown_line(path)} has over {MAX_PIXELS:,} pixels.", "Cut it into tiles.")
            yield image
    except FileNotFoundError:
        raise UsageError(f"There is no file {shown_line(path)}.") from None
    except UnidentifiedImageError:
        raise UsageError(f"{shown_line(path)} is not a picture.", "Name a PNG, JPEG, TIFF or WebP file.") from None
    except _BROKEN as error:
        raise UsageError(f"{shown_line(path)} cannot be read as a picture ({shown_line(error, 120)}).") from None


def _stretched(image: Image.Image) -> Image.Image:
    """Values from the 2nd to the 98th percentile spread over 0 to 255, as maps are shown."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = np.percentile(values, (2, 98))
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return Image.fromarray((scaled * 255).round().astype(np.uint8))


def _fitting(text: str, font: Any, width_px: int) -> str:
    """As much of a line as fits in a width; the font's type differs with how Pillow was built."""
    line = shown_line(text, 200)
    if font.getlength(line) <= width_px:
        return line
    while line and font.getlength(line + "…") > width_px:
        line = line[:-1]
    return line + "…"
