"""What a run learnt, as other programs load it: LoRA weights under their names for it, or a whole UNet."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from studio.display import shown_line
from studio.errors import UsageError
from studio.exports.lora_layers import Layer, merged, read_layers
from studio.exports.lora_names import diffusers_state, is_xl, kohya_state
from studio.exports.model_card import Origin, header_notes, model_card, origin_of, write_settings
from studio.models.load import DTYPES
from studio.models.modelspec import architecture_of, describe
from studio.models.registry import ModelRef, resolve
from studio.runs import JobFolder
from studio.settings import ExportSettings, LoraMethod
from studio.workspace import Workspace

LORA_FILE = "pytorch_lora_weights.safetensors"
FORMS = ("adapter", "kohya", "comfyui")


def resolve_adapter(workspace: Workspace, settings: ExportSettings) -> ModelRef:
    """The checkpoint of RUN or RUN@STEP that can be exported.

    Raises:
        UsageError: there is no such run or checkpoint, or what it trained has no such form.
    """
    name = settings.name
    workspace.run(name.partition("@")[0])  # a run, not the starter or a folder
    ref = resolve(workspace, name)
    if ref.lora is None and ref.unet is None:
        raise UsageError(f"{name} trained a whole model, which needs no adapter.", "Export it with --to model.")
    if ref.lora is None and settings.to != "adapter":
        raise UsageError(f"{name} trained the whole UNet, which is no LoRA.", "Export it with --to model.")
    if settings.to != "adapter" and any(layer.magnitude is not None for layer in layers_of(ref)):
        raise UsageError(
            f"{name} is a DoRA, which kohya's trainer does not know and ComfyUI computes in its own way.",
            "Export it with --to adapter for diffusers, or with --to model for all.",
        )
    return ref


def write_adapter(folder: Path, workspace: Workspace, settings: ExportSettings) -> None:
    """Write the weights in the form that was asked for, with README.md and the run's settings beside them."""
    ref = resolve_adapter(workspace, settings)
    run = workspace.run(settings.name.partition("@")[0])
    unet = unet_settings(ref)
    origin = origin_of(workspace, ref, run, architecture_of(unet, ref.objective or "epsilon"))
    if ref.lora is None:
        assert ref.unet is not None
        shutil.copytree(ref.unet, folder / "unet")
        for path in (folder / "unet").glob("*.safetensors"):
            describe(path, header_notes(origin, "unet"))
    else:
        _write_lora(folder, origin, unet, settings)
    write_settings(folder, run, origin)
    what, loading = _words(origin, unet, settings)
    (folder / "README.md").write_text(model_card(origin, loading, what), encoding="utf-8")


def layers_of(ref: ModelRef) -> list[Layer]:
    """Every LoRA over a model, as one.

    Raises:
        UsageError: they cannot be put into one.
    """
    return merged([read_layers(path) for path in ref.loras])


def unet_settings(ref: ModelRef) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((ref.unet_folder / "config.json").read_text("utf-8"))
    return settings


def file_name(ref: ModelRef, settings: ExportSettings) -> str:
    """Of the LoRA: diffusers looks for one name, the others list a folder by its files' names."""
    if settings.to == "adapter":
        return LORA_FILE
    folder, _, step = ref.name.partition("@")
    name = JobFolder(Path(folder)).name
    return f"{name}-step{step}.safetensors" if "@" in settings.name else f"{name}.safetensors"


def _write_lora(folder: Path, origin: Origin, unet: dict[str, Any], settings: ExportSettings) -> None:
    layers = layers_of(origin.ref)
    method = origin.settings.method
    strength = method.alpha / method.rank if isinstance(method, LoraMethod) else 1.0
    if settings.to == "adapter":
        state = diffusers_state(layers)
        strength = 1.0
    else:
        state = kohya_state(layers, unet, strength, checkpoint_names=settings.to == "comfyui" or is_xl(unet))
    rank = max(layer.rank for layer in layers)
    notes = header_notes(origin, "lora") | {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{rank * strength:g}",
    }
    path = folder / file_name(origin.ref, settings)
    save_file(_kept(state, settings), path)
    path.chmod(0o644)  # written for the owner alone, whatever the mask
    describe(path, notes)


def _kept(state: dict[str, Tensor], settings: ExportSettings) -> dict[str, Tensor]:
    return {name: one.to(DTYPES[settings.precision]).contiguous() for name, one in state.items()}


def _words(origin: Origin, unet: dict[str, Any], settings: ExportSettings) -> tuple[str, str]:
    """What the export is, and the Python lines that load it."""
    pipeline = "StableDiffusionXLPipeline" if is_xl(unet) else "StableDiffusionPipeline"
    name = file_name(origin.ref, settings)
    opening = f'pipeline = {pipeline}.from_pretrained("path/to/the/base/model"'
    if origin.ref.lora is None:
        return "A whole UNet, in diffusers layout.", (
            f"from diffusers import {pipeline}, UNet2DConditionModel\n\n"
            'unet = UNet2DConditionModel.from_pretrained("path/to/this/folder", subfolder="unet")\n'
            f"{opening}, unet=unet)"
        )
    what = {
        "adapter": "A LoRA, in diffusers (PEFT) layout.",
        "kohya": f"A LoRA with the keys of kohya's sd-scripts, in {shown_line(name)}.",
        "comfyui": f"A LoRA for ComfyUI: put {shown_line(name)} into its folder models/loras.",
    }[settings.to]
    # diffusers maps the names of single-file checkpoints by the UNet's settings, which only its XL loader looks up.
    more = ", unet_config=pipeline.unet.config" if settings.to == "comfyui" and not is_xl(unet) else ""
    file = "" if settings.to == "adapter" else f', weight_name="{shown_line(name)}"'
    return what, (
        f'from diffusers import {pipeline}\n\n{opening})\npipeline.load_lora_weights("path/to/this/folder"{file}{more})'
    )
