"""Feature networks: pictures in, vectors out, each with the name and the sum of the weights that made them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from studio.errors import UsageError, unknown
from studio.files import sha256_of
from studio.measures.weights import read_weights
from studio.models.weights import weights_file
from studio.workspace import SCENES as SCENES_FOLDER
from studio.workspace import STARTER

Pictures = NDArray[Any]

STARTER_ENCODER = "starter-encoder"
SCENES = "scenes"
CELLS = 4  # features of the encoder are taken in a grid of 4 × 4
INCEPTION_CLASSES = 1008  # of the network that FID is defined with; torchvision's own weights have 1000
INCEPTION_SIDE_PX = 299


@dataclass(frozen=True)
class Network:
    """A feature network; called with uint8 pictures (n, height, width, 3) it gives float32 vectors (n, dimension)."""

    name: str
    weights_sha256: str
    dimension: int
    is_inception: bool
    input_note: str
    device: str
    forward: Callable[[Tensor], Tensor]
    """Maps float pictures (n, 3, height, width) of 0 to 255 to vectors."""
    classes: tuple[str, ...] = ()
    """What the network can name, where it can."""
    scores: Callable[[Tensor], Tensor] | None = None
    """Maps vectors to class scores before softmax, where it can."""

    def __call__(self, pictures: Pictures) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device)
        with torch.inference_mode():
            vectors = self.forward(batch.permute(0, 3, 1, 2).float())
        result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result


def open_network(name: str, device: str = "cpu", starter: Path | None = None) -> Network:
    """The network called `scenes`, `starter-encoder` or `inception:FILE.safetensors`.

    Raises:
        UsageError: there is no such network, or its weights are missing, broken or another network's.
    """
    kind, _, file = name.partition(":")
    if name == SCENES:
        return _scenes(SCENES_FOLDER, device)
    if name == STARTER_ENCODER:
        return _starter_encoder((starter or STARTER) / "vae", device)
    if kind == "inception" and file:
        return _inception(Path(file).expanduser(), device)
    raise unknown("feature network", name, [SCENES, STARTER_ENCODER, "inception:FILE.safetensors"])


def features_of(network: Network, pictures: Iterable[Pictures], batch: int = 32) -> NDArray[np.float32]:
    """Vectors (n, dimension) of pictures of one size (height, width, 3), taken as a stream."""
    vectors: list[NDArray[np.float32]] = []
    waiting: list[Pictures] = []
    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == batch:
            vectors.append(network(np.stack(waiting)))
            waiting.clear()
    if waiting:
        vectors.append(network(np.stack(waiting)))
    return np.concatenate(vectors) if vectors else np.zeros((0, network.dimension), np.float32)


def _scenes(folder: Path, device: str) -> Network:
    from studio.models.scenes import load_scene_network  # seconds

    network = load_scene_network(folder, device)
    return Network(
        f"{SCENES} (not comparable with published FID)",
        sha256_of(weights_file(folder)),
        int(network.network.config.hidden_sizes[-1]),
        is_inception=False,
        input_note=f"{network.input_px} px, bilinear, antialiased; trained to name 30 classes of RSICD",
        device=device,
        forward=lambda pictures: network.features(pictures / 127.5 - 1),
        classes=tuple(network.classes),
        scores=network.scores,
    )


def _starter_encoder(folder: Path, device: str) -> Network:
    from diffusers import AutoencoderKL  # seconds; a report that is only read does without

    weights = weights_file(folder)
    autoencoder: Any = AutoencoderKL.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32, low_cpu_mem_usage=False
    )
    autoencoder = autoencoder.to(device).eval().requires_grad_(False)
    shift = autoencoder.config.shift_factor or 0.0
    scale = autoencoder.config.scaling_factor

    def forward(pictures: Tensor) -> Tensor:
        latents = autoencoder.encode(pictures / 127.5 - 1).latent_dist.mean
        return pooled((latents - shift) * scale)

    return Network(
        f"{STARTER_ENCODER} (not comparable with published FID)",
        sha256_of(weights),
        2 * CELLS * CELLS * autoencoder.config.latent_channels,
        is_inception=False,
        input_note="mean latents, means and standard deviations over 4 × 4 cells",
        device=device,
        forward=forward,
    )


def pooled(latents: Tensor) -> Tensor:
    """Mean and standard deviation of every channel in a 4 × 4 grid of cells: (n, c, h, w) to (n, 32 c)."""
    means = functional.adaptive_avg_pool2d(latents, CELLS)
    squares = functional.adaptive_avg_pool2d(latents.square(), CELLS)
    # Rounding can take a flat cell's variance below zero.
    deviations = (squares - means.square()).clamp_min(0).sqrt()
    return torch.cat([means.flatten(1), deviations.flatten(1)], 1)


def _inception(file: Path, device: str) -> Network:
    network = fid_inception(_inception_weights(file)).to(device).eval().requires_grad_(False)

    def forward(pictures: Tensor) -> Tensor:
        resized = functional.interpolate(
            pictures, (INCEPTION_SIDE_PX, INCEPTION_SIDE_PX), mode="bilinear", align_corners=False, antialias=True
        )
        vectors: Tensor = network((resized - 128) / 128)
        return vectors

    return Network(
        "inception-v3 (2015-12-05)",
        sha256_of(file),
        2048,
        is_inception=True,
        input_note="299 px, bilinear, antialiased",
        device=device,
        forward=forward,
    )


def _inception_weights(file: Path) -> dict[str, Tensor]:
    weights = read_weights(file)
    classes = weights["fc.weight"].shape[0] if "fc.weight" in weights else INCEPTION_CLASSES
    if classes != INCEPTION_CLASSES:
        raise UsageError(
            f"{file} holds an Inception of {classes} classes, not the one that FID is defined with.",
            "Convert weights-inception-2015-12-05-6726825d.pth, which has 1008 classes.",
        )
    return {name: weight for name, weight in weights.items() if not name.startswith(("fc.", "AuxLogits."))}


def fid_inception(weights: dict[str, Tensor]) -> nn.Module:
    """The Inception v3 of 2015-12-05 up to its 2048 pooled features: torchvision's, with other pools in its blocks.

    Raises:
        UsageError: the weights do not fit.
    """
    from torchvision.models.inception import Inception3

    network: nn.Module = Inception3(num_classes=1, aux_logits=False, init_weights=False)
    network.fc = nn.Identity()
    missing, unexpected = network.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise UsageError(
            f"The weights do not fit Inception v3: {len(missing)} missing, {len(unexpected)} unknown, "
            f"such as {(missing + unexpected)[0]}.",
            "Convert weights-inception-2015-12-05-6726825d.pth.",
        )
    for name, block in network.named_children():
        if name == "Mixed_7c":
            block.register_forward_hook(_pool_again(_largest))
        elif hasattr(block, "branch_pool"):
            block.register_forward_hook(_pool_again(_average_inside))
    return network


def _pool_again(pool: Callable[[Tensor], Tensor]) -> Callable[[Any, tuple[Tensor], Tensor], Tensor]:
    """A hook that makes the last branch of an Inception block once more, behind another pool."""

    def replace_last_branch(block: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        branch = block.branch_pool(pool(inputs[0]))
        return torch.cat([output[:, : -branch.shape[1]], branch], 1)

    return replace_last_branch


def _average_inside(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)
