"""Low-rank additions: laid over a model's UNet and its text encoders, and written as other tools read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from studio import files
from studio.errors import UsageError
from studio.models.load import DiffusionModel
from studio.settings import LoraMethod

FILE = "pytorch_lora_weights.safetensors"
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


def add_lora(model: DiffusionModel, method: LoraMethod) -> dict[str, nn.Parameter]:
    """Lay additions over a frozen model; the weights that are learnt, by name, in float32.

    Raises:
        UsageError: the UNet has no layers of the names wanted.
    """
    _check_targets(model, method)
    model.unet.add_adapter(_configuration(method, method.targets))
    learnt = {name: one for name, one in model.unet.named_parameters() if one.requires_grad}
    for part, encoder in text_encoders(model).items() if method.text_encoder else ():
        encoder.add_adapter(_configuration(method, TEXT_TARGETS, _unheard(model, part)))
        learnt |= {f"{part}.{name}": one for name, one in encoder.named_parameters() if one.requires_grad}
    return learnt


def text_encoders(model: DiffusionModel) -> dict[str, Any]:
    """The text encoders of a model, by the names of their folders."""
    return {name: part for name, part in model.parts.items() if name.startswith("text_encoder")}


def freeze_in(part: nn.Module, dtype: torch.dtype) -> None:
    """Keep what is not learnt in a number format of half the room; normalisations, which are small, stay exact."""
    for module in part.modules():
        if not isinstance(module, nn.GroupNorm | nn.LayerNorm):
            for one in module.parameters(recurse=False):
                if not one.requires_grad:
                    one.data = one.data.to(dtype)


def lora_tensors(model: DiffusionModel, method: LoraMethod) -> dict[str, Tensor]:
    """The additions under the names of diffusers' layout: unet.*, text_encoder.* and text_encoder_2.*."""
    parts: dict[str, Any] = {"unet": model.unet} | (text_encoders(model) if method.text_encoder else {})
    tensors: dict[str, Tensor] = {}
    for part, network in parts.items():
        learnt = convert_state_dict_to_diffusers(_with_strength(get_peft_model_state_dict(network), method))
        named = {name if part == "unet" else _text_name(name): one for name, one in learnt.items()}
        tensors |= {f"{part}.{name}": one.detach().cpu().contiguous() for name, one in named.items()}
    return tensors


def _text_name(name: str) -> str:
    """A layer of a text encoder as loaders look for it.

    Transformers 5 dropped the first part of these names in CLIPTextModel, and diffusers 0.42 passes over magnitudes
    whose names do not end as PEFT's.
    """
    name = f"text_model.{name}" if name.startswith("encoder.") else name
    return f"{name}.weight" if name.endswith("lora_magnitude_vector") else name


def write_lora(model: DiffusionModel, method: LoraMethod, folder: Path) -> None:
    """Write the additions as `StableDiffusionPipeline.load_lora_weights` reads them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(folder / FILE) as temporary:
        save_file(lora_tensors(model, method), temporary, {"format": "pt"})


def _unheard(model: DiffusionModel, part: str) -> str | None:
    """The layers, as a pattern, whose words never reach the UNet: the last of the first of two text encoders."""
    if part != "text_encoder" or model.text_encoder_2 is None:
        return None
    return rf".*\.layers\.{model.text_encoder.config.num_hidden_layers - 1}\..*"


def _configuration(method: LoraMethod, targets: tuple[str, ...], excluded: str | None = None) -> LoraConfig:
    return LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        use_dora=method.dora,
        target_modules=list(targets),
        exclude_modules=excluded,
        init_lora_weights="gaussian",
    )


def _with_strength(learnt: Mapping[str, Tensor], method: LoraMethod) -> dict[str, Tensor]:
    """alpha / rank goes into the weights, since loaders take it for 1 where a file does not say."""
    strength = method.alpha / method.rank
    return {name: one * strength if ".lora_B." in name else one for name, one in learnt.items()}


def _check_targets(model: DiffusionModel, method: LoraMethod) -> None:
    layers = [name for name, one in model.unet.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    blocks = [name for name, one in model.unet.named_modules() if not isinstance(one, nn.Linear | nn.Conv2d)]
    for target in method.targets:
        ends = f".{target}"
        if not any(name.endswith(ends) for name in layers) or any(name.endswith(ends) for name in blocks):
            raise UsageError(f"The UNet has no layers named {target}.", "There are to_q, to_k, to_v and to_out.0.")
