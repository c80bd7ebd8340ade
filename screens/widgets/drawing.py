"""Pictures turned into sixels, or into half cells in colour; imported only once a picture is in view."""

import re
import textwrap

from PIL import Image
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual_image._sixel import image_to_sixels  # the package's front probes the terminal when it is imported

from screens.pictures import Wanted
from studio.display import shown_line
from studio.images import open_picture

_DEFINED = re.compile(r"#(\d+);2;\d+;\d+;\d+")


def fitted(path_or_image: Image.Image, width_px: int, height_px: int, background: tuple[int, int, int]) -> Image.Image:
    """The picture as large as it fits, in the middle of a plain ground."""
    image = path_or_image
    scale = min(width_px / image.width, height_px / image.height)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    ground = Image.new("RGB", (width_px, height_px), background)
    ground.paste(image.resize(size, Image.Resampling.BICUBIC), ((width_px - size[0]) // 2, (height_px - size[1]) // 2))
    return ground


def sixels(wanted: Wanted) -> str:
    """The part in view as one sixel string."""
    cell_width, cell_height = wanted.cell_px
    image = open_picture(wanted.path)
    ground = fitted(image, wanted.columns * cell_width, wanted.rows * cell_height, wanted.background)
    x, y, width, height = wanted.crop
    part = ground.crop((x * cell_width, y * cell_height, (x + width) * cell_width, (y + height) * cell_height))
    # xterm defines a colour register without selecting it, which textual-image counts on.
    return _DEFINED.sub(r"\g<0>#\1", image_to_sixels(with_palette(part)))


def with_palette(image: Image.Image) -> Image.Image:
    """The picture in 255 colours of its own.

    textual-image's own choice of colours turns greys and greens, of which imagery is made, into blots; a median cut of
    the whole picture takes three times as long as one of a small copy and looks the same.
    """
    small = image.resize((min(image.width, 96), min(image.height, 96)))
    palette = small.quantize(255, Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def half_cells(wanted: Wanted) -> list[Strip]:
    """The part in view as strips of ▀, the upper half in the foreground and the lower in the background."""
    ground = fitted(open_picture(wanted.path), wanted.columns, wanted.rows * 2, wanted.background)
    x, y, width, height = wanted.crop
    pixels = ground.load()
    assert pixels is not None
    return [
        Strip([_pair(pixels[column, 2 * row], pixels[column, 2 * row + 1]) for column in range(x, x + width)], width)
        for row in range(y, y + height)
    ]


def words(wanted: Wanted, text: str) -> list[Strip]:
    """A sentence in the place of a picture."""
    _, _, width, height = wanted.crop
    style = Style(bgcolor=Color.from_rgb(*wanted.background), dim=True)
    lines = textwrap.wrap(shown_line(text), max(width, 1))[:height] or [""]
    lines += [""] * (height - len(lines))
    return [Strip([Segment(line.ljust(width)[:width], style)], width) for line in lines]


def _pair(upper: object, lower: object) -> Segment:
    return Segment("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))


def _colour(pixel: object) -> Color:
    red, green, blue = pixel[:3]  # type: ignore[index]
    return Color.from_rgb(red, green, blue)
