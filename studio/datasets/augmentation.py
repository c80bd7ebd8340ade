"""The eight flips and rotations in which ground seen from above is as true as before, and captions they would belie."""

import re
from typing import Any, TypeVar

from studio.settings import Orientation

Array = TypeVar("Array")

# Mirrored left to right first?, then turned counter-clockwise by how many quarters.
_PARTS: dict[Orientation, tuple[bool, int]] = {
    "identity": (False, 0),
    "rotate90": (False, 1),
    "rotate180": (False, 2),
    "rotate270": (False, 3),
    "flip": (True, 0),
    "flip-rotate90": (True, 1),
    "flip-rotate180": (True, 2),
    "flip-rotate270": (True, 3),
}
_INVERSES: dict[Orientation, Orientation] = {"rotate90": "rotate270", "rotate270": "rotate90"}
_DIRECTIONS = re.compile(
    r"\b(left|right|upper|lower|(?<!from )above|below|bottom|topmost|top(?![- ]down| view| of)"
    r"|(north|south)[- ]?(east|west)(ern)?|(north|south|east|west)(ern|wards?)?)\b",
    re.IGNORECASE,
)


def orient(array: Array, orientation: Orientation, axes: tuple[int, int] = (-2, -1)) -> Array:
    """A picture in one of eight orientations: a NumPy array or a tensor whose `axes` are height and width."""
    # Any: arrays and tensors share swapaxes by name only.
    result: Any = array
    mirrored, quarters = _PARTS[orientation]
    if mirrored:
        result = _flipped(result, axes[1])
    if quarters % 2:
        result = _flipped(result.swapaxes(*axes), axes[0])
    return _flipped(_flipped(result, axes[0]), axes[1]) if quarters >= 2 else result  # type: ignore[no-any-return]


def inverse(orientation: Orientation) -> Orientation:
    """The orientation that undoes one; a mirrored one undoes itself."""
    return _INVERSES.get(orientation, orientation)


def has_direction_words(caption: str) -> bool:
    """Whether a caption says left, north or the like, which is wrong once the picture is turned."""
    return _DIRECTIONS.search(caption) is not None


def _flipped(array: Any, axis: int) -> Any:
    if hasattr(array, "flip"):
        return array.flip((axis,))
    return array[tuple(slice(None, None, -1 if place == axis % array.ndim else 1) for place in range(array.ndim))]
