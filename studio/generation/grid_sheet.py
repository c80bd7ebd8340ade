"""The sheet of a grid: cells in columns, rows and blocks, each with its heading, on white."""

from collections.abc import Sequence
from math import sqrt

from PIL import Image, ImageDraw, ImageFont

from studio.display import shown_line
from studio.generation.axes import Grid
from studio.images import INK, PAPER

SHEET_PIXELS = 40_000_000
_SMALLEST_PX, _LARGEST_PX = 96, 512
_LINES = 3


def grid_sheet(grid: Grid, pictures: Sequence[Image.Image]) -> Image.Image:
    """Every cell's picture, with what its column, row and block have of their own written beside it."""
    columns, rows, blocks = ([*(axis.headings for axis in grid.axes), [""], [""]])[:3]
    side = _cell_px(pictures)
    font_px = max(11, side // 12)
    font, large = ImageFont.load_default(font_px), ImageFont.load_default(max(13, side // 9))
    line, gap = round(font_px * 1.25), max(4, side // 24)
    left = side if any(rows) else 0
    head = _LINES * line + gap
    title = 2 * line if grid.title else 0
    block_title = 2 * line if any(blocks) else 0
    height_of_block = block_title + head + len(rows) * (side + gap)
    size = (gap + left + len(columns) * (side + gap), title + len(blocks) * (height_of_block + gap))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, line // 2), _fitting(grid.title, large, size[0] - 2 * gap), INK, large)
    for cell, picture in zip(grid.cells, pictures, strict=True):
        column, row, block = (*cell.place, 0, 0)[:3]
        x = gap + left + column * (side + gap)
        top = title + block * (height_of_block + gap)
        y = top + block_title + head + row * (side + gap)
        if column == 0 and row == 0:
            draw.text((gap, top + line // 2), _fitting(blocks[block], large, size[0] - 2 * gap), INK, large)
        if row == 0:
            text = wrapped(columns[column], font, side, _LINES)
            draw.multiline_text((x, y - gap - line * len(text)), "\n".join(text), INK, font)
        if column == 0:
            draw.multiline_text((gap, y), "\n".join(wrapped(rows[row], font, left - gap, 2 * _LINES)), INK, font)
        fitted = _fitted(picture, side)
        sheet.paste(fitted, (x + (side - fitted.width) // 2, y + (side - fitted.height) // 2))
    return sheet


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int, lines: int) -> list[str]:
    """Text broken at spaces into at most so many lines of a width; what does not fit ends in an ellipsis."""
    broken = [""]
    for word in shown_line(text, 400).split():
        longer = f"{broken[-1]} {word}".strip()
        if broken[-1] and font.getlength(longer) > width_px:
            broken.append(word)
        else:
            broken[-1] = longer
    if len(broken) > lines:
        broken = [*broken[: lines - 1], " ".join(broken[lines - 1 :])]
    return [_fitting(one, font, width_px) for one in broken]


def _cell_px(pictures: Sequence[Image.Image]) -> int:
    """Side of a cell: of the largest picture, but readable, and so that the sheet stays below 40 million pixels."""
    wanted = max(max(one.size) for one in pictures)
    most = min(_LARGEST_PX, int(sqrt(SHEET_PIXELS / len(pictures) / 1.5)))
    return max(_SMALLEST_PX, min(most, wanted * max(1, 192 // wanted)))


def _fitted(picture: Image.Image, side_px: int) -> Image.Image:
    """The picture made smaller, or larger by a whole factor so that its pixels stay what they are."""
    factor = side_px // max(picture.size)
    if factor >= 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.BICUBIC)
    return small


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: float) -> str:
    line = shown_line(text, 400)
    if font.getlength(line) <= width_px:
        return line
    while line and font.getlength(line + "…") > width_px:
        line = line[:-1]
    return line + "…"
