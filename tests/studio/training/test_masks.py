from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.training.masks import data_share, holds_data, joined_to_border


def saved(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def test_what_is_joined_to_the_border_by_hand() -> None:
    """A winding way in from the left, and an island that nothing leads to."""
    wanted = np.array([list(row) for row in (
        "........",
        "##.###..",
        ".#.#.#..",
        ".###.#..",
        ".....#.#",
        ".##.....",
        "........",
    )]) == "#"  # fmt: skip
    reached = joined_to_border(wanted)
    island = np.zeros_like(wanted)
    island[5, 1:3] = True
    assert np.array_equal(reached, wanted & ~island)
    assert not joined_to_border(np.zeros((3, 3), bool)).any()
    assert joined_to_border(np.ones((3, 3), bool)).all()


def test_it_agrees_with_a_search_from_pixel_to_pixel() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        wanted = random.random((13, 17)) < 0.6
        height, width = wanted.shape
        edge = [(y, x) for y in range(height) for x in range(width) if y in (0, height - 1) or x in (0, width - 1)]
        stack, found = [place for place in edge if wanted[place]], set[tuple[int, int]]()
        while stack:
            y, x = stack.pop()
            if (y, x) in found or not (0 <= y < height and 0 <= x < width) or not wanted[y, x]:
                continue
            found.add((y, x))
            stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        assert {tuple(map(int, place)) for place in np.argwhere(joined_to_border(wanted))} == found


@pytest.mark.parametrize("ignored", ["black", "white"])
def test_dark_water_inside_a_picture_is_data(ignored: str, tmp_path: Path) -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    level = 0 if ignored == "black" else 255
    pixels[:, :2] = level
    pixels[4:6, 4:6] = level
    holds = holds_data(saved(tmp_path / "a.png", pixels), ignored)  # type: ignore[arg-type]
    assert holds.sum() == 64 - 16
    assert holds[4:6, 4:6].all()
    assert holds_data(tmp_path / "a.png", "nothing").all()


def test_transparent_pixels_hold_no_data(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:3, :, 3] = 0
    holds = holds_data(saved(tmp_path / "a.png", pixels), "transparent")
    assert (~holds[:3]).all()
    assert holds[3:].all()
    assert holds_data(saved(tmp_path / "b.png", pixels[:, :, :3]), "transparent").all()


def test_shares_are_counted_in_the_cells_of_the_latent(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 3), 100, np.uint8)
    pixels[:, :6] = 0
    share = data_share(saved(tmp_path / "a.png", pixels), "black", 16, 16, 4)
    assert share.shape == (4, 4)
    assert share[0].tolist() == [0, 128, 255, 255]
