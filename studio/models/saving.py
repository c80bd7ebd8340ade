"""Models written in the layout that the stock pipelines open."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import CLIPTextModel

from studio.errors import UsageError
from studio.models.load import PREDICTION_TYPES, DiffusionModel


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
    (folder / "model_index.json").write_text(json.dumps(pipeline_index(model), indent=2))


def _scheduler(model: DiffusionModel) -> dict[str, Any]:
    """The base's scheduler where it suits what the network predicts now."""
    own = model.scheduler
    fitting = scheduler_settings(model.objective)
    return own if own.get("prediction_type", "epsilon") == fitting["prediction_type"] else fitting


def pipeline_index(model: DiffusionModel) -> dict[str, Any]:
    """What model_index.json says: the pipeline that opens a model, and the classes of its parts."""
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
    absent = ["feature_extractor", "image_encoder"]
    if model.text_encoder_2 is not None:
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


def save_pipeline(model: DiffusionModel, folder: Path, guidance: float, steps: int, dtype: torch.dtype) -> None:
    """Write a model that goes on training, and how the studio samples it unless told otherwise."""
    save_model(copy.deepcopy(model), folder, dtype)
    defaults = {"sampler": "dpm++2m", "steps": steps, "guidance": guidance}
    (folder / "studio.json").write_text(json.dumps(defaults, indent=2))


def save_part(part: ModelMixin | CLIPTextModel, folder: Path) -> None:
    """Write one component as its library loads it, without the path that it was loaded from itself.

    transformers opens a model in the number format that its settings name, diffusers in float32: whatever the weights
    are kept in, both shall open in the same, or the parts do not fit.
    """
    part.save_pretrained(folder, safe_serialization=True)
    path = folder / "config.json"
    settings = json.loads(path.read_text("utf-8"))
    settings.pop("_name_or_path", None)
    if "dtype" in settings:
        settings["dtype"] = "float32"
    path.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def scheduler_settings(objective: str) -> dict[str, object]:
    """Settings of the DPM-Solver++ scheduler that suits an objective, as StableDiffusionPipeline reads them."""
    common = {
        "_class_name": "DPMSolverMultistepScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": PREDICTION_TYPES[objective],
        "steps_offset": 1,  # StableDiffusionPipeline warns of any other
    }
    return common | ({"use_flow_sigmas": True} if objective == "flow" else {})
