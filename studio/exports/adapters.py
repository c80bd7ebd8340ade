"""What a run learnt, as diffusers loads it: LoRA weights or a whole UNet, with a model card."""

import json
import shutil
from pathlib import Path
from typing import Any

import tomli

from studio import __version__
from studio.display import shown_line
from studio.errors import UsageError
from studio.exports.card import markdown
from studio.models.registry import ModelRef, resolve
from studio.runs import RunState, state_of
from studio.workspace import Workspace

LORA_FILE = "pytorch_lora_weights.safetensors"


def resolve_adapter(workspace: Workspace, name: str) -> ModelRef:
    """The checkpoint of RUN or RUN@STEP that can be exported.

    Raises:
        UsageError: there is no such run or checkpoint, or it trained a whole model.
    """
    workspace.run(name.partition("@")[0])  # a run, not the starter or a folder
    ref = resolve(workspace, name)
    if ref.lora is None and ref.unet is None:
        raise UsageError(
            f"{name} trained a whole model, which needs no adapter.", f"diffusers loads it as it is from {ref.folder}."
        )
    return ref


def write_adapter(folder: Path, workspace: Workspace, name: str) -> None:
    """Copy the weights, and write README.md and the run's settings beside them."""
    ref = resolve_adapter(workspace, name)
    run = workspace.run(name.partition("@")[0])
    if ref.lora is not None:
        shutil.copyfile(ref.lora, folder / LORA_FILE)
    elif ref.unet is not None:
        shutil.copytree(ref.unet, folder / "unet")
    shutil.copyfile(run / "config.toml", folder / "config.toml")
    settings: dict[str, Any] = tomli.loads((run / "config.toml").read_text("utf-8"))["settings"]
    (folder / "README.md").write_text(model_card(ref, settings, state_of(run)), encoding="utf-8")


def model_card(ref: ModelRef, settings: dict[str, Any], state: RunState) -> str:
    """Markdown for people and for the hub: base, data, method, losses, and the lines that load it."""
    base = str(settings.get("base", "starter"))
    method, data = settings.get("method", {}), settings.get("data", {})
    losses = [one.loss for one in state.validations]
    facts = {
        "base model": base,
        "weights of base and adapter (sha256)": ref.weights_sha256(),
        "method": " ".join(f"{key} {value}" for key, value in method.items() if key != "targets"),
        "data set": f"{data.get('name', '')}:{data.get('split', '')}",
        "checkpoint": ref.name,
        "validation loss": f"{losses[0]:.4f} at first, {losses[-1]:.4f} at last" if losses else "not measured",
    }
    rows = "\n".join(f"| {name} | {markdown(str(value))} |" for name, value in facts.items())
    tags = ["remote-sensing", "text-to-image", "diffusers", *(["lora"] if ref.lora else [])]
    return (
        f"---\nlibrary_name: diffusers\nbase_model: {json.dumps(shown_line(base))}\ntags: {json.dumps(tags)}\n---\n\n"
        f"# {markdown(ref.name)}\n\n"
        "Makes remote-sensing pictures that show no real place. Not for use where they could be taken for evidence.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n```python\n{_loading(ref)}\n```\n\n"
        f"All settings are in config.toml. Made with rs-studio {__version__}.\n"
    )


def _loading(ref: ModelRef) -> str:
    if ref.lora is not None:
        return (
            "from diffusers import StableDiffusionPipeline\n\n"
            'pipeline = StableDiffusionPipeline.from_pretrained("path/to/the/base/model")\n'
            'pipeline.load_lora_weights("path/to/this/folder")'
        )
    return (
        "from diffusers import StableDiffusionPipeline, UNet2DConditionModel\n\n"
        'unet = UNet2DConditionModel.from_pretrained("path/to/this/folder", subfolder="unet")\n'
        'pipeline = StableDiffusionPipeline.from_pretrained("path/to/the/base/model", unet=unet)'
    )
