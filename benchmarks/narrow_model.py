"""What the training benchmarks share: a Stable Diffusion 1.5 of true shape and chosen width, and tiles to train it on.

The narrow one (a fifth of the width) has a UNet of 34 M weights, so that a CPU can train it; all weights are random.
"""

import json
import shutil
from pathlib import Path
from typing import Any

NARROW: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": [64, 128, 256, 256], "cross_attention_dim": 128, "sample_size": 32},
    "text_encoder": {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 4},
    "vae": {"block_out_channels": [32, 64, 64, 64], "sample_size": 256},
}


def save_model(config: Path, target: Path, over: dict[str, dict[str, Any]] = NARROW) -> Path:
    """A diffusers folder with random weights.

    Args:
        config: a Stable Diffusion folder of which only the settings, the tokenizer and the scheduler are read.
        over: settings of the parts that differ from those.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = {
        part: json.loads((config / part / "config.json").read_text()) | over.get(part, {})
        for part in ("unet", "vae", "text_encoder")
    }
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(settings["unet"]).save_pretrained(target / "unet")
    AutoencoderKL.from_config(settings["vae"]).save_pretrained(target / "vae")
    CLIPTextModel(CLIPTextConfig(**settings["text_encoder"])).save_pretrained(target / "text_encoder")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(config / part, target / part)
    index = json.loads((config / "model_index.json").read_text())
    absent = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    (target / "model_index.json").write_text(json.dumps(index | absent))
    return target


def save_tiles(target: Path, count: int = 400, size_px: int = 256) -> Path:
    """An image folder of procedural terrain, all classes in turn, one caption a tile; read by both sides."""
    from PIL import Image

    from studio.datasets import terrain

    folder = target / "train"
    folder.mkdir(parents=True)
    classes = list(terrain.CLASSES)
    rows = []
    for index in range(count):
        label = classes[index % len(classes)]
        name = f"{index:05d}.png"
        Image.fromarray(terrain.tile(label, index, size_px)).save(folder / name)
        rows.append(json.dumps({"file_name": name, "text": terrain.captions(label, index)[0]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return target
