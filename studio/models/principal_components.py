"""A stock AutoencoderKL whose encoder is, to rounding, the principal components of 4 × 4 picture patches.

A linear latent needs no training, so a UNet can learn on it from the first minute; only the decoder is learnt.
The encoder's residual branches are zero, its strided convolutions gather patches and project them, and the closing
normalisation and SiLU are made linear: constants of ±100 fix the variance of each group, and
silu(a) − silu(−a) = a.
"""

from typing import Any  # encoders: torch types every attribute of a module as Tensor or Module

import numpy as np
import torch
from diffusers import AutoencoderKL

PATCH_PX = 4
_GROUPS = 8
_CONSTANT = 100.0
_LOG_VARIANCE = -12.0
# Components keep part of their difference in strength, so that the strong ones weigh more in the UNet's loss.
_WHITENING = 0.6


def principal_components(pictures: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scaled components of the patches of pictures.

    Args:
        pictures: float32 (n, 3, height, width) in [-1, 1].
        count: components to keep.

    Returns:
        The mean patch (48,) and the projection (count, 48), rows divided by their deviation to the power 0.6.
    """
    n, channels, height, width = pictures.shape
    grid = pictures.reshape(n, channels, height // PATCH_PX, PATCH_PX, width // PATCH_PX, PATCH_PX)
    patches = grid.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels * PATCH_PX * PATCH_PX).astype(np.float64)
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    strongest = np.argsort(values)[::-1][:count]
    deviations = np.sqrt(np.maximum(values[strongest], 1e-12))
    # One factor for all, so that the latent as a whole has unit variance.
    scale = deviations**-_WHITENING / np.sqrt(np.mean((deviations ** (1 - _WHITENING)) ** 2))
    return mean, (vectors[:, strongest] * scale).T


def principal_component_autoencoder(
    mean: np.ndarray, projection: np.ndarray, channels: tuple[int, int, int], size_px: int
) -> AutoencoderKL:
    """An AutoencoderKL that encodes by a projection of 4 × 4 patches; its decoder is as initialised.

    Args:
        mean: (48,) the mean patch, channel-major.
        projection: (latent channels, 48).
        channels: channels of the three resolutions, each a multiple of 8; the last at least 6 for each latent channel.
        size_px: side of the training pictures in pixels.
    """
    latent_channels = len(projection)
    model = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=latent_channels,
        layers_per_block=1,
        norm_num_groups=_GROUPS,
        mid_block_add_attention=False,
        sample_size=size_px,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
        _set_patch_projection(model.encoder, mean, projection)
        _set_linear_end(model.encoder, latent_channels)
        _set_identity(model.quant_conv)
        _set_identity(model.post_quant_conv)
    model.encoder.requires_grad_(False)
    model.quant_conv.requires_grad_(False)
    return model


def _set_patch_projection(encoder: Any, mean: np.ndarray, projection: np.ndarray) -> None:
    first, second, _ = encoder.down_blocks
    for channel in range(3):
        encoder.conv_in.weight[channel, channel, 1, 1] = 1.0
        for row in range(2):
            for column in range(2):
                first.downsamplers[0].conv.weight[channel * 4 + row * 2 + column, channel, row, column] = 1.0
    for channel in range(12):
        second.resnets[0].conv_shortcut.weight[channel, channel, 0, 0] = 1.0
    weight = (
        torch.from_numpy(projection).float().reshape(-1, 3, 2, 2, 2, 2)
    )  # latent, colour, row/2, row%2, column/2, %2
    down = second.downsamplers[0].conv
    for index in range(len(projection)):
        # Colour and the inner position are channels after the first halving; the outer position is the tap.
        taps = weight[index].permute(0, 2, 4, 1, 3).reshape(12, 2, 2)
        down.weight[index, :12, :2, :2] = taps
        down.bias[index] = -float(projection[index] @ mean)


def _set_linear_end(encoder: Any, latent_channels: int) -> None:
    shortcut = encoder.down_blocks[2].resnets[0].conv_shortcut
    width = shortcut.weight.shape[0] // _GROUPS
    per_group = -(-latent_channels // _GROUPS)
    constants = (width - 2 * per_group) // 2 * 2
    encoder.conv_norm_out.weight.fill_(_CONSTANT * float(np.sqrt(constants / width)))
    for index in range(latent_channels):
        group, place = divmod(index, per_group)
        plus = group * width + 2 * place
        shortcut.weight[plus, index, 0, 0] = 1.0
        shortcut.weight[plus + 1, index, 0, 0] = -1.0
        encoder.conv_out.weight[index, plus, 1, 1] = 1.0
        encoder.conv_out.weight[index, plus + 1, 1, 1] = -1.0
    for group in range(_GROUPS):
        start = group * width + 2 * per_group
        shortcut.bias[start : start + constants // 2] = _CONSTANT
        shortcut.bias[start + constants // 2 : start + constants] = -_CONSTANT
    encoder.conv_out.bias[latent_channels:] = _LOG_VARIANCE


def _set_identity(convolution: Any) -> None:
    convolution.weight.zero_()
    convolution.bias.zero_()
    for channel in range(convolution.weight.shape[0]):
        convolution.weight[channel, channel, 0, 0] = 1.0
