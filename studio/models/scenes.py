"""A small residual network that names scenes: a judge of pictures and a source of features, in a stock class."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

from studio.models.quiet import quiet_libraries
from studio.models.saving import save_part

_PREPROCESSOR = "preprocessor_config.json"


class SceneNetwork(nn.Module):
    """Pictures of any size in, features and class scores out."""

    def __init__(self, network: ResNetForImageClassification, input_px: int) -> None:
        super().__init__()
        self.network = network
        self.input_px = input_px

    @property
    def classes(self) -> list[str]:
        names = self.network.config.id2label
        return [names[place] for place in range(len(names))]

    def features(self, pictures: Tensor) -> Tensor:
        """Vectors (n, width) of float pictures (n, 3, height, width) in [-1, 1]."""
        size = (self.input_px, self.input_px)
        if pictures.shape[2:] != size:
            pictures = functional.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
        pooled: Tensor = self.network.resnet(pictures).pooler_output.flatten(1)
        return pooled

    def scores(self, features: Tensor) -> Tensor:
        """Class scores (n, classes), before softmax, of features."""
        result: Tensor = self.network.classifier(features)
        return result

    def forward(self, pictures: Tensor) -> Tensor:
        return self.scores(self.features(pictures))


def new_scene_network(classes: Sequence[str], widths: Sequence[int], input_px: int, seed: int) -> SceneNetwork:
    """An untrained network: He et al. 2016, two basic blocks a stage."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=list(widths),
        depths=[2] * len(widths),
        layer_type="basic",
        id2label=dict(enumerate(classes)),
        label2id={name: place for place, name in enumerate(classes)},
    )
    return SceneNetwork(ResNetForImageClassification(config), input_px)


def save_scene_network(network: SceneNetwork, folder: Path, dtype: torch.dtype) -> None:
    """Write it as transformers' image-classification pipeline loads it."""
    save_part(copy.deepcopy(network.network).to(dtype), folder)
    size = {"height": network.input_px, "width": network.input_px}
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / _PREPROCESSOR).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def load_scene_network(folder: Path, device: str = "cpu") -> SceneNetwork:
    """Open a network from its folder: safetensors only, frozen, in evaluation mode."""
    quiet_libraries()
    settings: dict[str, Any] = json.loads((folder / _PREPROCESSOR).read_text("utf-8"))
    loaded = ResNetForImageClassification.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    network = SceneNetwork(loaded, int(settings["size"]["height"]))
    return network.float().to(device).eval().requires_grad_(False)
