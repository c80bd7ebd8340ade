"""Real networks for the tests: a tiny autoencoder like the starter's, and an Inception whose weights mean nothing."""

from pathlib import Path

import torch
from torch import Tensor


def make_starter(folder: Path) -> Path:
    """A folder with a `vae` of the starter's shape: 12 channels at a quarter of the picture's size."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        autoencoder = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 3,
            up_block_types=["UpDecoderBlock2D"] * 3,
            block_out_channels=[8, 8, 8],
            latent_channels=12,
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
            scaling_factor=0.5,
        )
    autoencoder.save_pretrained(folder / "vae")
    return folder


def inception_weights(seed: int, classes: int = 0) -> dict[str, Tensor]:
    """Weights that keep the size of what passes, for Inception v3; with a last layer where classes are asked for."""
    from torchvision.models.inception import Inception3

    random = torch.Generator().manual_seed(seed)
    weights = {}
    for name, weight in Inception3(num_classes=2, aux_logits=False, init_weights=False).state_dict().items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        if weight.ndim == 4:
            weights[name] = torch.randn(weight.shape, generator=random) * (2 / weight[0].numel()) ** 0.5
        else:
            weights[name] = torch.rand(weight.shape, generator=random) + 0.5
    if classes:
        weights["fc.weight"] = torch.zeros(classes, 2048)
        weights["fc.bias"] = torch.zeros(classes)
    return weights
