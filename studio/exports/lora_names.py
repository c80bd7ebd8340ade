"""The names that other programs give to the layers of a LoRA."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, tensor

from studio.exports.lora_layers import Layer
from studio.models.checkpoint_names import checkpoint_name


def diffusers_state(layers: list[Layer]) -> dict[str, Tensor]:
    """As diffusers' load_lora_weights and PEFT read them: unet.MODULE.lora_A.weight, the strength within."""
    state: dict[str, Tensor] = {}
    for layer in layers:
        stem = f"{layer.component}.{layer.module}"
        state |= {f"{stem}.lora_A.weight": layer.down, f"{stem}.lora_B.weight": layer.up}
        if layer.magnitude is not None:
            state[f"{stem}.lora_magnitude_vector"] = layer.magnitude
    return state


def kohya_state(
    layers: list[Layer], unet: Mapping[str, Any], strength: float, checkpoint_names: bool
) -> dict[str, Tensor]:
    """As kohya's sd-scripts and ComfyUI read them: lora_unet_MODULE.lora_down.weight, lora_up.weight and alpha.

    Args:
        unet: settings of the UNet.
        strength: alpha / rank, which is taken out of the weights again and written as alpha.
        checkpoint_names: call the UNet's layers as single-file checkpoints do (input_blocks), not as diffusers does;
            kohya does so for SDXL alone.
    """
    has_two = any(layer.component == "text_encoder_2" for layer in layers) or is_xl(unet)
    prefixes = {
        "unet": "lora_unet",
        "text_encoder": "lora_te1" if has_two else "lora_te",
        "text_encoder_2": "lora_te2",
    }
    state = {}
    for layer in layers:
        module = layer.module
        if layer.component == "unet" and checkpoint_names:
            module = checkpoint_name(module, unet)
        stem = f"{prefixes[layer.component]}_{module}".replace(".", "_")
        state[f"{stem}.lora_down.weight"] = layer.down
        state[f"{stem}.lora_up.weight"] = layer.up / strength
        state[f"{stem}.alpha"] = tensor(layer.rank * strength, dtype=layer.down.dtype)
    return state


def is_xl(unet: Mapping[str, Any]) -> bool:
    return unet.get("addition_embed_type") == "text_time"
