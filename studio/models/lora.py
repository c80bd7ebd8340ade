"""LoRA files laid over a model's weights: diffusers', PEFT's, kohya's and ComfyUI's names for the same sums."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # components are modules of untyped libraries

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from studio.errors import UsageError
from studio.models.checkpoint_names import checkpoint_name
from studio.models.weights import check_safetensors

# The endings of PEFT, diffusers and kohya; those of DoRA's magnitudes too.
_ENDINGS = {
    ".lora_A.weight": "down",
    ".lora.down.weight": "down",
    ".lora_linear_layer.down.weight": "down",
    ".lora_down.weight": "down",
    ".lora_B.weight": "up",
    ".lora.up.weight": "up",
    ".lora_linear_layer.up.weight": "up",
    ".lora_up.weight": "up",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector": "magnitude",
    ".dora_scale": "magnitude",
    ".alpha": "alpha",
}
_KOHYA = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2", "lora_te_": "text_encoder"}
_OTHER_METHODS = ("hada_", "lokr_", "oft_", "diff", "on_input", "ia3_")


@dataclass
class _Addition:
    """What a file says of one layer; see `_changed`."""

    down: Tensor | None = None
    up: Tensor | None = None
    magnitude: Tensor | None = None
    alpha: Tensor | None = None


def lay_over(parts: Mapping[str, Any], path: Path, strength: float = 1.0) -> None:
    """Add a LoRA to the weights of a model; nothing of it is left beside them.

    W becomes W + strength · alpha/rank · up @ down (Hu et al. 2021, sec. 4.1); with a magnitude, that much of its
    direction (Liu et al. 2024, eq. 5), of which `strength` moves W a share of the way. Without an alpha it is the rank.

    Args:
        parts: unet, text_encoder and, if there is one, text_encoder_2.

    Raises:
        UsageError: the file is no LoRA, is one by another method, or does not fit the model.
    """
    check_safetensors(path)
    layers = {name: _layers(part) for name, part in parts.items() if name != "vae"}
    kohya = _kohya_names(layers, parts["unet"].config)
    found: dict[tuple[str, str], _Addition] = {}
    state = load_file(path)
    for key, tensor in state.items():
        ending = next((one for one in _ENDINGS if key.endswith(one)), None)
        if ending is None:
            raise UsageError(f"{path} holds {key}, which is of no LoRA.", _hint(key))
        place = _place(key.removesuffix(ending), layers, kohya)
        if place is None:
            raise UsageError(f"{path} does not fit the model: there is no layer for {key}.", _FITS)
        setattr(found.setdefault(place, _Addition()), _ENDINGS[ending], tensor)
    if not found:
        raise UsageError(f"{path} holds no LoRA.")
    scale = _alpha_beside(path, state)
    with torch.no_grad():
        for (component, name), addition in found.items():
            weight = layers[component][name].weight
            if addition.down is None or addition.up is None:
                raise UsageError(f"{path} holds half of the layer {component}.{name}.")
            try:
                weight.copy_(_changed(weight.float(), addition, strength, scale))
            except RuntimeError:
                raise UsageError(f"{path} does not fit the model: {component}.{name} differs in size.", _FITS) from None


_FITS = "Lay it over the base that it was trained on."


def _changed(weight: Tensor, addition: _Addition, strength: float, scale: float | None) -> Tensor:
    assert addition.down is not None
    assert addition.up is not None
    down, up = addition.down.float(), addition.up.float()
    if addition.alpha is not None:
        scale = float(addition.alpha) / down.shape[0]
    # A convolution's down is one over its window, its up one over single cells.
    delta = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * (1.0 if scale is None else scale)
    if addition.magnitude is None:
        return weight + strength * delta
    sum_ = weight + delta
    # Of each output, over all inputs: (outputs), then as broad as the weight.
    broad = (-1, *(1 for _ in weight.shape[1:]))
    length = sum_.flatten(1).norm(dim=1).reshape(broad)
    whole: Tensor = addition.magnitude.float().reshape(broad) * sum_ / length
    return weight + strength * (whole - weight)


def _layers(part: Any) -> dict[str, Any]:
    """The layers of a component that hold a weight, by name; of text encoders as every file names them."""
    found = {name: one for name, one in part.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)}
    # Transformers 5 dropped the first part of these names in CLIPTextModel.
    return {f"text_model.{name}" if name.startswith("encoder.") else name: one for name, one in found.items()}


def _kohya_names(layers: Mapping[str, Mapping[str, Any]], unet: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """kohya's names of all layers; those of the UNet as diffusers and as single-file checkpoints call them."""
    found: dict[str, tuple[str, str]] = {}
    for start, component in _KOHYA.items():
        found |= {start + name.replace(".", "_"): (component, name) for name in layers.get(component, {})}
    for name in layers["unet"]:
        found[f"lora_unet_{checkpoint_name(name, unet)}".replace(".", "_")] = ("unet", name)
    return found


def _place(
    stem: str, layers: Mapping[str, Mapping[str, nn.Module]], kohya: Mapping[str, tuple[str, str]]
) -> tuple[str, str] | None:
    """The component and layer that a file's name means."""
    if stem in kohya:
        return kohya[stem]
    if stem.startswith("base_model.model."):  # a PEFT file of the UNet alone
        stem = f"unet.{stem.removeprefix('base_model.model.')}"
    component, _, name = stem.partition(".")
    if component != "unet" and name.startswith("encoder."):
        name = f"text_model.{name}"
    return (component, name) if name in layers.get(component, {}) else None


def _alpha_beside(path: Path, state: Mapping[str, Tensor]) -> float | None:
    """PEFT writes alpha / rank into a file of its own, adapter_config.json."""
    settings = path.with_name("adapter_config.json")
    if not any(key.startswith("base_model.model.") for key in state) or not settings.is_file():
        return None
    try:
        told = json.loads(settings.read_text("utf-8"))
        rank = float(told["r"]) ** (0.5 if told.get("use_rslora") else 1.0)
        return float(told["lora_alpha"]) / float(rank)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        raise UsageError(f"{settings} cannot be read.", "It says how strong the LoRA beside it is.") from None


def _hint(key: str) -> str:
    if any(name in key for name in _OTHER_METHODS):
        return "It was made by another method (LoHa, LoKr, OFT, …); LoRA and DoRA can be used."
    return "LoRA files of diffusers, PEFT, kohya and ComfyUI can be used."
