"""Shapes for pictures that are not square: a few of about the same area, each picture in the nearest."""

import math
from collections.abc import Sequence

Shape = tuple[int, int]
"""Height and width, in pixels."""
_LONGEST = 4.0  # times as long as wide


def bucket_shapes(size_px: int, step_px: int) -> list[Shape]:
    """Every shape in steps, no larger in area than the square, up to four times as long as wide; the square first."""
    shapes: list[Shape] = [(size_px, size_px)]
    for width in range(step_px, int(size_px * _LONGEST**0.5) + 1, step_px):
        height = size_px**2 // width // step_px * step_px
        if height and max(height / width, width / height) <= _LONGEST and (height, width) not in shapes:
            shapes += [shape for shape in ((height, width), (width, height)) if shape not in shapes]
    return shapes


def nearest_shape(height_px: int, width_px: int, shapes: Sequence[Shape]) -> Shape:
    """The shape nearest to a picture's in the ratio of its sides; of several, the first and then the largest."""
    wanted = math.log(height_px / width_px)
    return min(shapes, key=lambda shape: (abs(math.log(shape[0] / shape[1]) - wanted), -shape[0] * shape[1]))


def members(shapes: Sequence[Shape]) -> list[list[int]]:
    """The pictures of each bucket, by index; buckets in the order of their shapes.

    A shape and the same shape lying are two buckets: a quarter turn takes a picture from one shape to the other, but
    which pictures go together is settled before they are turned.
    """
    return [[index for index, one in enumerate(shapes) if one == shape] for shape in sorted(set(shapes))]
