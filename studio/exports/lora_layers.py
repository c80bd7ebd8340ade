"""LoRA files taken apart into layers, and several laid over one another put into one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from studio.errors import StudioError, UsageError

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
# The endings of PEFT, and those that diffusers writes for the UNet and for text encoders.
_ENDINGS = {
    ".lora_A.weight": "down",
    ".lora.down.weight": "down",
    ".lora_linear_layer.down.weight": "down",
    ".lora_B.weight": "up",
    ".lora.up.weight": "up",
    ".lora_linear_layer.up.weight": "up",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector": "magnitude",
}


@dataclass(frozen=True)
class Layer:
    """The addition to one layer: W becomes W + up @ down, or with a magnitude that much of its direction (DoRA)."""

    component: str
    """unet, text_encoder or text_encoder_2."""
    module: str
    """Name of the layer in that component."""
    down: Tensor
    """(rank, inputs), or (rank, inputs, height, width) of a convolution."""
    up: Tensor
    """(outputs, rank), or (outputs, rank, 1, 1); the strength is in it."""
    magnitude: Tensor | None = None
    """(outputs) of DoRA."""

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


def read_layers(path: Path) -> list[Layer]:
    """The layers of a LoRA file in diffusers or PEFT layout, in the order of their names.

    Raises:
        StudioError: a tensor in it is of no LoRA layer.
    """
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in load_file(path).items():
        ending = next((one for one in _ENDINGS if key.endswith(one)), None)
        component, _, module = key.removesuffix(ending or "").partition(".")
        if component != "unet" and module.startswith("encoder."):
            module = f"text_model.{module}"  # as every loader knows it; transformers 5 dropped the first part
        if ending is None or component not in COMPONENTS:
            raise StudioError(f"{path.name} holds {key}, which is of no LoRA layer.")
        parts.setdefault((component, module), {})[_ENDINGS[ending]] = tensor
    whole = {name: tensors for name, tensors in sorted(parts.items()) if {"down", "up"} <= tensors.keys()}
    if torn := next((name for name in parts if name not in whole), None):
        raise StudioError(f"{path.name} holds half of the layer {'.'.join(torn)}.")
    return [Layer(component, module, **tensors) for (component, module), tensors in whole.items()]


def merged(stack: Sequence[Sequence[Layer]]) -> list[Layer]:
    """The layers of several LoRAs as those of one that adds the same: ranks add up.

    For up @ down + up' @ down' = [up up'] @ [down; down']. Every layer of a component gets the largest rank, filled
    with zeros, as loaders disagree on mixed ones.

    Raises:
        UsageError: one of several is a DoRA, whose directions cannot be added.
    """
    if len(stack) > 1 and any(layer.magnitude is not None for layers in stack for layer in layers):
        raise UsageError(
            "This run and the one that it began from cannot be put into one adapter, as DoRA is no plain sum.",
            "Export the whole model: --to model.",
        )
    sums: dict[tuple[str, str], Layer] = {}
    for layer in (layer for layers in stack for layer in layers):
        there = sums.get(place := (layer.component, layer.module))
        sums[place] = layer if there is None else _added(there, layer)
    ranks = {
        component: max((one.rank for one in sums.values() if one.component == component), default=0)
        for component in COMPONENTS
    }
    return [_filled(layer, ranks[layer.component]) for _, layer in sorted(sums.items())]


def _added(first: Layer, second: Layer) -> Layer:
    return replace(first, down=torch.cat([first.down, second.down]), up=torch.cat([first.up, second.up], dim=1))


def _filled(layer: Layer, rank: int) -> Layer:
    missing = rank - layer.rank
    if not missing:
        return layer
    down = layer.down.new_zeros((missing, *layer.down.shape[1:]))
    up = layer.up.new_zeros((layer.up.shape[0], missing, *layer.up.shape[2:]))
    return replace(layer, down=torch.cat([layer.down, down]), up=torch.cat([layer.up, up], dim=1))
