"""Between pixels and latents, whole or window by window, so that a large picture takes the memory of a small one."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.generation.windows import Windows, blended, cells_of
from studio.models.load import DiffusionModel

_BORDER_PX = 8


def encoded(model: DiffusionModel, pixels: np.ndarray, windows: Windows | None = None) -> Tensor:
    """Latents (n, channels, height, width), scaled as the UNet sees them, of pixels (n, height, width, 3) uint8.

    The mean of what the encoder says, without its noise.
    """
    pictures = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    if model.normalisation is not None:
        mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in model.normalisation)
        pictures = ((pictures + 1) / 2 - mean) / deviation

    def one(rows: Tensor, columns: Tensor) -> Tensor:
        down, across = (cells_of(cells, model.reduction) for cells in (rows, columns))
        part = pictures[:, :, down[:, None], across[None, :]].to(model.device, model.vae.dtype)
        mean: Tensor = model.vae.encode(part).latent_dist.mode()
        return mean.float() * float(model.vae.config.scaling_factor)

    height, width = (side // model.reduction for side in pixels.shape[1:3])
    if windows is None:
        return one(torch.arange(height), torch.arange(width))
    like = torch.empty(len(pixels), device=model.device)
    return blended(one, windows, like, int(model.vae.config.latent_channels))


def decoded(model: DiffusionModel, latents: Tensor, windows: Windows | None = None) -> np.ndarray:
    """Pixels (n, height, width, 3) uint8 of scaled latents."""
    if windows is None:
        pictures = model.decode(latents)
    else:

        def one(rows: Tensor, columns: Tensor) -> Tensor:
            return model.decode(latents[:, :, rows[:, None], columns[None, :]])

        # On the CPU, where decoded windows lie; whole numbers blended in fp32 are off by half a level at most.
        levels = blended(one, windows, torch.empty(len(latents)), 3, model.reduction)
        pictures = levels.round().clamp(0, 255).to(torch.uint8)
    pixels: np.ndarray = pictures.permute(0, 2, 3, 1).numpy()
    return pixels


def enlarged(pixels: np.ndarray, times: int, wrap: bool) -> np.ndarray:
    """Pixels (n, height, width, 3) at a multiple of their size (Lanczos); `wrap` where they go round."""
    border = _BORDER_PX if wrap else 0
    large = []
    for one in np.pad(pixels, ((0, 0), (border, border), (border, border), (0, 0)), mode="wrap"):
        size = one.shape[1] * times, one.shape[0] * times
        image = Image.fromarray(one).resize(size, Image.Resampling.LANCZOS)
        cut = border * times
        large.append(np.asarray(image)[cut : size[1] - cut, cut : size[0] - cut])
    return np.stack(large)
