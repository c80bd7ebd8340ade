"""Which pixels of a picture hold data: what is transparent, or black or white and joined to the border, holds none."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from studio.images import fit, opacity, open_picture

Ignored = Literal["nothing", "transparent", "black", "white"]
_LEVELS: dict[str, int] = {"black": 0, "white": 255}


def data_share(path: Path, ignored: Ignored, height_px: int, width_px: int, cell_px: int) -> np.ndarray:
    """Share of the pixels with data in each cell, (height / cell, width / cell) uint8 from 0 to 255.

    The picture is scaled and cropped as for training; a cell is what becomes one place of the latent.
    """
    holds = holds_data(path, ignored)
    scaled = fit(Image.fromarray(np.where(holds, np.uint8(255), np.uint8(0))), width_px, height_px)
    cells = np.asarray(scaled).reshape(height_px // cell_px, cell_px, width_px // cell_px, cell_px)
    share: np.ndarray = cells.mean(axis=(1, 3)).round().astype(np.uint8)
    return share


def holds_data(path: Path, ignored: Ignored) -> np.ndarray:
    """Whether each pixel (height, width) of a picture holds data."""
    if ignored == "transparent":
        alpha = opacity(path)
        if alpha is not None:
            return np.asarray(alpha) > 0
    pixels = np.asarray(open_picture(path))
    if ignored in _LEVELS:
        return ~joined_to_border((pixels == _LEVELS[ignored]).all(axis=2))
    return np.ones(pixels.shape[:2], bool)


def joined_to_border(wanted: np.ndarray) -> np.ndarray:
    """Of the wanted pixels (height, width) those that a path of wanted ones, side by side, leads to from the border.

    Runs of a row are reached all at once, then those of a column, and again, until no more are: few rounds.
    """
    reached = wanted.copy()
    reached[1:-1, 1:-1] = False
    while True:
        before = reached.sum()
        reached = _along_rows(wanted, reached)
        reached = _along_rows(wanted.T, reached.T).T
        if reached.sum() == before:
            return reached


def _along_rows(wanted: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Every run of wanted pixels in a row of which one is reached."""
    starts = np.ones_like(wanted)
    starts[:, 1:] = wanted[:, 1:] != wanted[:, :-1]
    runs = starts.ravel().cumsum() - 1
    is_reached = np.zeros(int(runs[-1]) + 1, bool)
    is_reached[runs[reached.ravel()]] = True
    found: np.ndarray = is_reached[runs].reshape(wanted.shape) & wanted
    return found
