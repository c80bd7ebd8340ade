"""Real models that are tiny: a Stable Diffusion of 1.5's true shape but narrow, and smaller ones to train."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from studio.models.small import save_pipeline, small_model, train_tokenizer
from studio.settings import ScratchMethod

WORDS = ("river", "forest", "field", "town", "beach", "road")
SIZE_PX = 32


def captions() -> list[str]:
    return [f"{many} {word} near a {other}" for many in ("one", "some") for word in WORDS for other in WORDS]


def save_tiny(folder: Path, objective: str) -> Path:
    """A model of the starter's making, but for its size: 32 px, four latent channels, weights that know nothing."""
    from studio.models.principal_components import principal_component_autoencoder, principal_components

    random = np.random.default_rng(0)
    patches = random.standard_normal((6, 3, SIZE_PX, SIZE_PX)).astype(np.float32) / 3
    mean, projection = principal_components(patches, 4)
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        vae = principal_component_autoencoder(mean, projection, (16, 24, 32), SIZE_PX)
        tokenizer = train_tokenizer(captions(), 600, folder.with_name(f"{folder.name}-tokenizer"))
        method = ScratchMethod(channels=(32, 64), text_width=32, text_layers=1, vocabulary=600)
        model = small_model(method, vae, tokenizer, objective, SIZE_PX, seed=2)
    folder.mkdir()
    save_pipeline(model, folder, guidance=2.5, steps=4, dtype=torch.float32)
    return folder


def save_narrow(folder: Path, sd15: Path) -> Path:
    """Stable Diffusion 1.5 from its own settings and tokenizer, with a tenth of its width and of its size."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    narrow = {
        "unet": {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 32, "sample_size": 8},
        "vae": {"block_out_channels": [32, 32, 32, 32], "norm_num_groups": 8, "sample_size": 64, "layers_per_block": 1},
        "text_encoder": {
            "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2,
        },
    }  # fmt: skip
    settings = {part: json.loads((sd15 / part / "config.json").read_text()) | narrow[part] for part in narrow}
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        UNet2DConditionModel.from_config(settings["unet"]).save_pretrained(folder / "unet")
        AutoencoderKL.from_config(settings["vae"]).save_pretrained(folder / "vae")
        CLIPTextModel(CLIPTextConfig(**settings["text_encoder"])).save_pretrained(folder / "text_encoder")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(sd15 / part, folder / part)
    index = json.loads((sd15 / "model_index.json").read_text())
    absent = {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index | absent))
    return folder
