"""Pictures that a batch begins from: copied into it, so that it can go on and be made again without them; no torch."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from studio import files
from studio.errors import UsageError
from studio.images import open_picture, png_bytes, read_recipe
from studio.settings import GenerateSettings

if TYPE_CHECKING:  # whoever asks for a batch need not wait for numpy
    import numpy as np

INPUTS = "inputs"
_MOST_PX = 4096


def keep_input(folder: Path, source: str) -> str:
    """Copy a picture into a batch's folder, with its recipe where it has one; its place there, named by its sum.

    Raises:
        UsageError: it is missing or no picture.
    """
    try:
        recipe = read_recipe(Path(source))
    except UsageError:
        recipe = None
    data = png_bytes(open_picture(Path(source)), recipe)
    name = f"{INPUTS}/{hashlib.sha256(data).hexdigest()}.png"
    (folder / INPUTS).mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / name, data)
    return name


def keep_inputs(folder: Path, settings: GenerateSettings) -> GenerateSettings:
    """Copy what a batch begins from into its folder, and let its settings name the copies."""
    named = {"init": settings.init, "mask": settings.mask}
    kept = {key: keep_input(folder, source) for key, source in named.items() if source}
    return settings.model_copy(update=kept)


def sized_as_its_input(settings: GenerateSettings) -> GenerateSettings:
    """Settings with the size of the picture that is enlarged or shown as a scene, where they name none.

    Raises:
        UsageError: a picture that is named is missing, broken, or too small.
    """
    if settings.mask:
        open_picture(Path(settings.mask))
    if not settings.init:
        return settings
    size = open_picture(Path(settings.init)).size
    if settings.width_px or not (settings.scene or settings.upscale > 1):
        return settings
    width, height = (min(side, _MOST_PX) // 8 * 8 for side in size)
    if min(width, height) < 16:
        raise UsageError(f"{settings.init} is {size[0]} × {size[1]} pixels.", "Begin from 16 × 16 or more.")
    return settings.model_copy(update={"width_px": width, "height_px": height})


def kept_input(folder: Path, sha256: str) -> Path:
    """Where a batch keeps an input.

    Raises:
        UsageError: it is not there any more, or another one is.
    """
    path = folder / INPUTS / f"{sha256}.png"
    if not path.is_file() or files.sha256_of(path) != sha256:
        raise UsageError(
            f"The picture that this tile began from is not in {folder / INPUTS}.",
            "Put the tile back into its batch's folder.",
        )
    return path


def fitted_pixels(path: Path, width_px: int, height_px: int) -> "np.ndarray[Any, Any]":
    """Pixels (height, width, 3) uint8 of a picture that covers a size, its centre where it is of another shape."""
    import numpy as np

    return np.asarray(_fitted(open_picture(path), width_px, height_px, Image.Resampling.BICUBIC))


def mask_of(path: Path, width_px: int, height_px: int) -> "np.ndarray[Any, Any]":
    """How much of each pixel (height, width) is made anew, 0 to 1, from a picture whose white parts are."""
    import numpy as np

    grey = open_picture(path).convert("L")
    return np.asarray(_fitted(grey, width_px, height_px, Image.Resampling.BILINEAR), dtype=np.float32) / 255


def _fitted(image: Image.Image, width_px: int, height_px: int, how: Image.Resampling) -> Image.Image:
    size = (width_px, height_px)
    return image if image.size == size else ImageOps.fit(image, size, how)
