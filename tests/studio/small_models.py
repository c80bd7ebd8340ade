"""Real models that are tiny: a Stable Diffusion of 1.5's true shape but narrow, and smaller ones to train."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from studio.models.saving import save_pipeline
from studio.models.small import small_model, train_tokenizer
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


def save_family(folder: Path, family: str, **unet_settings: object) -> Path:
    """Stable Diffusion 1 ("sd1"), 2 that predicts v ("sd2") or XL ("sdxl"): true shapes, but narrow and 64 px."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    is_xl = family == "sdxl"
    folder.mkdir()
    first = train_tokenizer(captions(), 600, folder / "tokenizer")
    text = {
        "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 1, "num_hidden_layers": 2,
        "vocab_size": len(first), "eos_token_id": first.eos_token_id, "bos_token_id": first.bos_token_id,
    }  # fmt: skip
    gelu = {"hidden_act": "gelu", "projection_dim": 64}
    shape: dict[str, object] = {
        "sample_size": 8, "use_linear_projection": True, "cross_attention_dim": 192 if is_xl else 64,
        "block_out_channels": (64, 64, 128) if is_xl else (64, 64, 128, 128),
        "attention_head_dim": (1, 1, 2) if is_xl else (1, 1, 2, 2),
    }  # fmt: skip
    if is_xl:
        shape |= {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 1, 2), "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 128 + 6 * 256,
        }  # fmt: skip
    if family == "sd1":
        shape |= {"use_linear_projection": False, "attention_head_dim": 8}
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        UNet2DConditionModel(**(shape | unet_settings)).save_pretrained(folder / "unet")
        AutoencoderKL(
            block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=2,
            up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64, scaling_factor=0.13025 if is_xl else 0.18215,
        ).save_pretrained(folder / "vae")  # fmt: skip
        config = CLIPTextConfig(**(text | gelu if family == "sd2" else text))
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")
        if is_xl:
            wide = {"hidden_size": 128, "num_attention_heads": 2, "projection_dim": 128}
            CLIPTextModelWithProjection(CLIPTextConfig(**(text | gelu | wide))).save_pretrained(
                folder / "text_encoder_2"
            )
    index: dict[str, object] = {
        "_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler" if is_xl else "DDIMScheduler"],
        "feature_extractor": [None, None], "image_encoder": [None, None],
    }  # fmt: skip
    if is_xl:
        shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
        _pad_with_number_0(folder / "tokenizer_2")
        second = {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
        index |= second | {"tokenizer_2": ["transformers", "CLIPTokenizer"], "force_zeros_for_empty_prompt": True}
    else:
        index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    if family == "sd2":
        _pad_with_number_0(folder / "tokenizer")
    scheduler = {
        "_class_name": "EulerDiscreteScheduler" if is_xl else "DDIMScheduler", "beta_start": 0.00085,
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1,
        "prediction_type": "v_prediction" if family == "sd2" else "epsilon", "timestep_spacing": "leading",
    }  # fmt: skip
    if not is_xl:
        scheduler |= {"clip_sample": False, "set_alpha_to_one": False}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _pad_with_number_0(tokenizer: Path) -> None:
    """As the tokenizers of OpenCLIP's text encoders do."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        told = json.loads((tokenizer / name).read_text())
        (tokenizer / name).write_text(json.dumps(told | {"pad_token": "!"}))
