"""The three families of models that can be used, told apart by what their files hold; without torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from studio.errors import UsageError
from studio.models.weights import read_header

Family = Literal["sd1", "sd2", "sdxl"]
PIPELINES = ("StableDiffusion", "LatentDiffusion", "DiffusionSat")
"""How the class names of pipelines begin whose parts may be stock; what the parts are is looked at then."""
_PARTS = ("unet", "vae", "text_encoder")
UNET = "model.diffusion_model."
VAE = "first_stage_model."


def needed_files(has_two_text_encoders: bool) -> list[str]:
    """Files that a folder must have beside weights and tokenizers."""
    parts = [*_PARTS, *(["text_encoder_2"] if has_two_text_encoders else [])]
    return [*(f"{part}/config.json" for part in parts), "scheduler/scheduler_config.json"]


def tokenizers(needed: Iterable[str]) -> list[str]:
    """The folders of the tokenizers that go with the needed files."""
    return ["tokenizer", *(["tokenizer_2"] if "text_encoder_2/config.json" in needed else [])]


def check_shapes(name: str, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """See that a UNet is a stock one that denoises the autoencoder's latents and nothing beside them.

    Raises:
        UsageError: it is not.
    """
    kind = unet.get("_class_name", "UNet2DConditionModel")
    if kind != "UNet2DConditionModel":
        raise UsageError(f"The UNet of {name} is a {kind}; a UNet2DConditionModel can be used.")
    taken, given = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if taken != given:
        raise UsageError(
            f"The UNet of {name} takes {taken} channels, its autoencoder makes {given}.",
            "It was made for inpainting, editing or upscaling; take the base model that it comes from.",
        )


def family_of(path: Path) -> Family:
    """Which family a single-file checkpoint is of, by the names and shapes of its tensors.

    Raises:
        UsageError: it is no safetensors file, or of another kind, which is named.
    """
    header = read_header(path)
    if f"{UNET}input_blocks.0.0.weight" not in header:
        raise UsageError(f"{path} is {_other_kind(header)}.", "Name a whole checkpoint of Stable Diffusion 1, 2 or XL.")
    missing = [what for what, start in (("autoencoder", VAE), ("text encoder", ("cond_stage_model.", "conditioner.")))
               if not any(name.startswith(start) for name in header)]  # fmt: skip
    if missing:
        raise UsageError(f"{path} holds a UNet without {' and '.join(missing)}.", "Name a whole checkpoint.")
    channels = shape_of(header, f"{UNET}input_blocks.0.0.weight")[1]
    if channels != 4:
        raise UsageError(f"{path} takes {channels} channels: it was made for inpainting or editing.")
    if any(name.startswith("conditioner.embedders.1.model.") for name in header):
        return "sdxl"
    if any(name.startswith("conditioner.embedders.0.model.") for name in header):
        raise UsageError(f"{path} is the refiner of Stable Diffusion XL, which makes nothing by itself.")
    return "sd2" if any(name.startswith("cond_stage_model.model.") for name in header) else "sd1"


def shape_of(header: Mapping[str, Any], name: str) -> list[int]:
    """The shape of a tensor by a file's header.

    Raises:
        UsageError: it is not in the file.
    """
    try:
        return [int(size) for size in header[name]["shape"]]
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"The file is no whole checkpoint: it holds no {name}.") from None


def _other_kind(header: Mapping[str, Any]) -> str:
    names = list(header)
    if any("lora" in name.lower() for name in names):
        return "a LoRA, not a model; lay it over one with --lora"
    if any(name.startswith(("double_blocks", f"{UNET}double_blocks", f"{UNET}joint_blocks")) for name in names):
        return "a model of another kind (Flux or Stable Diffusion 3)"
    if any(name.startswith(("down_blocks.", "conv_in.")) for name in names):
        return "one part of a model in diffusers layout"
    if any(name.startswith(("encoder.", "decoder.")) for name in names):
        return "an autoencoder"
    return "no checkpoint of Stable Diffusion"
