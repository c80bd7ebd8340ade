import numpy as np
import pytest
import torch

from studio.datasets.augmentation import has_direction_words, inverse, orient
from studio.settings import D4, Orientation

PICTURE = np.arange(2 * 3 * 4).reshape(2, 3, 4)


def test_the_eight_orientations_of_a_picture_all_differ() -> None:
    square = np.arange(9).reshape(1, 3, 3)
    assert len({orient(square, orientation).tobytes() for orientation in D4}) == 8


@pytest.mark.parametrize("orientation", D4)
def test_each_orientation_is_numpys_own(orientation: Orientation) -> None:
    expected = PICTURE[..., ::-1] if orientation.startswith("flip") else PICTURE
    quarters = {"rotate90": 1, "rotate180": 2, "rotate270": 3}.get(orientation.removeprefix("flip-"), 0)
    assert np.array_equal(orient(PICTURE, orientation), np.rot90(expected, quarters, axes=(-2, -1)))


@pytest.mark.parametrize("orientation", D4)
def test_the_inverse_brings_a_picture_back(orientation: Orientation) -> None:
    assert np.array_equal(orient(orient(PICTURE, orientation), inverse(orientation)), PICTURE)


@pytest.mark.parametrize("orientation", D4)
def test_tensors_and_arrays_turn_alike(orientation: Orientation) -> None:
    turned = orient(torch.from_numpy(PICTURE), orientation)
    assert np.array_equal(turned.numpy(), orient(PICTURE, orientation))
    last = np.moveaxis(PICTURE, 0, -1)
    assert np.array_equal(np.moveaxis(orient(last, orientation, (0, 1)), -1, 0), orient(PICTURE, orientation))


@pytest.mark.parametrize(
    "caption", ["a port on the left", "the northern shore", "trees in the south-west", "At the Top"]
)
def test_captions_with_directions_are_seen(caption: str) -> None:
    assert has_direction_words(caption)


@pytest.mark.parametrize(
    "caption",
    ["a top-down view", "fields seen from above", "roofs are bright", "a westfalian town", "many planes are parked"],
)
def test_captions_without_are_not(caption: str) -> None:
    assert not has_direction_words(caption)
