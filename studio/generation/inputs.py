"""Pictures that a batch begins from: copied into it, so that it can go on and be made again without them; no torch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageOps

from studio import files
from studio.display import shown_line
from studio.errors import UsageError
from studio.images import opacity, open_picture, png_bytes, read_recipe
from studio.settings import GenerateSettings
from studio.workspace import Workspace, folders

if TYPE_CHECKING:  # whoever asks for a batch need not wait for numpy
    import numpy as np

INPUTS = "inputs"
_MOST_PX = 4096
_MOST_SKEWED = 0.02


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
        UsageError: a picture that is named is missing, broken, or too small, the mask does not suit it, or there is
            a strength and no picture.
    """
    if not settings.init:
        check_strength(settings)
        return settings
    size = open_picture(Path(settings.init)).size
    if settings.mask:
        _check_mask(Path(settings.mask), size)
    if settings.width_px or not (settings.scene or settings.upscale > 1):
        return settings
    width, height = (min(side, _MOST_PX) // 8 * 8 for side in size)
    if min(width, height) < 16:
        raise UsageError(f"{settings.init} is {size[0]} × {size[1]} pixels.", "Begin from 16 × 16 or more.")
    return settings.model_copy(update={"width_px": width, "height_px": height})


def check_strength(settings: GenerateSettings) -> None:
    """Raise where a strength has nothing to be the strength of.

    Raises:
        UsageError: it has not.
    """
    if settings.strength and not settings.init and settings.upscale == 1:
        raise UsageError(
            "A strength needs a picture to begin from.", "Give --init PICTURE or --upscale, or leave it out."
        )


def _check_mask(path: Path, size: tuple[int, int]) -> None:
    """Raise where a mask is of another shape than its picture, or has no white that can be told.

    Raises:
        UsageError: it is or has not.
    """
    mask, alpha = open_picture(path), opacity(path)
    across, down = mask.width * size[1], mask.height * size[0]
    if abs(across - down) > _MOST_SKEWED * max(across, down):
        raise UsageError(
            f"The mask is {mask.width} × {mask.height} and its picture {size[0]} × {size[1]}, another shape.",
            "Make the mask as large as the picture.",
        )
    white_where = "Paint white what is to be made anew, and black what stays, without transparency."
    if alpha is not None and _hides_white(path, alpha):
        raise UsageError(f"{shown_line(path)} is white where it is transparent, which may mean both.", white_where)
    if mask.convert("L").getextrema()[1] == 0:
        raise UsageError(f"{shown_line(path)} has no white, so nothing would be made anew.", white_where)


def _hides_white(path: Path, alpha: Image.Image) -> bool:
    """Whether a mask has light pixels that nobody sees, as ComfyUI marks what is to be made anew."""
    with Image.open(path) as opened:
        light = ImageOps.exif_transpose(opened).convert("RGBA").convert("RGB").convert("L").point(_half)
    hidden = ImageChops.multiply(light, ImageChops.invert(alpha.point(_half)))
    return hidden.getbbox() is not None


def _half(value: int) -> int:
    return 255 if value >= 128 else 0


def folder_with_inputs(workspace: Workspace, tile: Path, sums: Sequence[str]) -> Path:
    """The batch's folder that holds what a tile began from: its own, or any of the workspace where it was moved."""
    own = tile.resolve().parent.parent
    names = [f"{INPUTS}/{one}.png" for one in sums if one]
    batches = folders(workspace.batches) if names else []
    return next((folder for folder in (own, *batches) if all((folder / name).is_file() for name in names)), own)


def kept_input(folder: Path, sha256: str) -> Path:
    """Where a batch keeps an input.

    Raises:
        UsageError: it is not there any more, or another one is.
    """
    path = folder / INPUTS / f"{sha256}.png"
    if not path.is_file() or files.sha256_of(path) != sha256:
        raise UsageError(
            f"The picture that this tile began from is not in {shown_line(folder / INPUTS)}.",
            f"Put it there as {sha256}.png, or name the tile in its batch.",
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
