"""Tiles that continue on the other side: every convolution sees the picture go round."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from studio.models.load import DiffusionModel


@contextmanager
def going_round(model: DiffusionModel, wanted: bool = True) -> Iterator[None]:
    """Circular padding in the UNet and the autoencoder; attention knows no places, and needs nothing."""
    found = [module for part in (model.unet, model.vae) for module in part.modules() if isinstance(module, nn.Conv2d)]
    before = [module.padding_mode for module in found]
    if wanted:
        for module in found:
            module.padding_mode = "circular"
    try:
        yield
    finally:
        for module, mode in zip(found, before, strict=True):
            module.padding_mode = mode
