"""A run's model as a whole folder, which the stock pipeline opens without the base."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from studio.errors import UsageError
from studio.exports.lora_names import is_xl
from studio.exports.model_card import header_notes, model_card, origin_of, write_settings
from studio.models.load import DTYPES, DiffusionModel, load_model
from studio.models.modelspec import architecture_of, describe
from studio.models.registry import ModelRef, resolve
from studio.models.small import save_part, scheduler_settings
from studio.settings import ExportSettings
from studio.workspace import Workspace


def resolve_model(workspace: Workspace, name: str) -> ModelRef:
    """The checkpoint of RUN or RUN@STEP whose model can be exported.

    Raises:
        UsageError: there is no such run or checkpoint, or it trained no model of tiles.
    """
    workspace.run(name.partition("@")[0])  # a run, not the starter or a folder
    return resolve(workspace, name)


def write_model(folder: Path, workspace: Workspace, settings: ExportSettings) -> None:
    """Write every part, with what was learnt in its weights, and README.md and the run's settings beside them."""
    ref = resolve_model(workspace, settings.name)
    run = workspace.run(settings.name.partition("@")[0])
    model = load_model(ref, "cpu")
    save_model(model, folder, DTYPES[settings.precision])
    if (ref.folder / "studio.json").is_file():
        shutil.copyfile(ref.folder / "studio.json", folder / "studio.json")
    origin = origin_of(workspace, ref, run, architecture_of(dict(model.unet.config), model.objective))
    for path in sorted(folder.rglob("*.safetensors")):
        describe(path, header_notes(origin, path.parent.name) | {"modelspec.prediction_type": model.objective})
    write_settings(folder, run, origin)
    pipeline = _index(model)["_class_name"]
    loading = f'from diffusers import {pipeline}\n\npipeline = {pipeline}.from_pretrained("path/to/this/folder")'
    (folder / "README.md").write_text(model_card(origin, loading, "A whole model, in diffusers layout."), "utf-8")


def save_model(model: DiffusionModel, folder: Path, dtype: torch.dtype) -> None:
    """Write a model in the layout that the stock pipeline's from_pretrained loads; its parts take the number format.

    Raises:
        UsageError: its tokenizer lies in no folder.
    """
    for name, part in model.parts.items():
        save_part(part.to(dtype), folder / name)
    for name, tokenizer in model.tokenizers.items():
        source = Path(tokenizer.name_or_path)
        if not source.is_dir():
            raise UsageError(f"The tokenizer of this model is not in a folder ({source}).")
        # The files it was loaded from, which every tool reads; save_pretrained writes the newest form alone.
        shutil.copytree(source, folder / name)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(_scheduler(model), indent=2))
    (folder / "model_index.json").write_text(json.dumps(_index(model), indent=2))


def _scheduler(model: DiffusionModel) -> dict[str, Any]:
    """The base's scheduler where it suits what the network predicts now."""
    own = model.scheduler
    fitting = scheduler_settings(model.objective)
    return own if own.get("prediction_type", "epsilon") == fitting["prediction_type"] else fitting


def _index(model: DiffusionModel) -> dict[str, Any]:
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
    absent = ["feature_extractor", "image_encoder"]
    if is_xl(model.unet.config):
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": model.empty_is_zero}
    else:
        index["requires_safety_checker"] = False
        absent.append("safety_checker")
    index |= {name: [_library(part), type(part).__name__] for name, part in model.parts.items()}
    index |= {name: ["transformers", "CLIPTokenizer"] for name in model.tokenizers}
    index["scheduler"] = ["diffusers", _scheduler(model).get("_class_name", "PNDMScheduler")]
    return index | {name: [None, None] for name in absent}


def _library(part: object) -> str:
    return type(part).__module__.partition(".")[0]
