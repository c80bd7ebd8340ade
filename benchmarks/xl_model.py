"""A Stable Diffusion XL with random weights, of true shape unless told otherwise (Podell et al. 2023, table 1)."""

import json
import shutil
from pathlib import Path
from typing import Any

UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
FIRST: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12,
    "projection_dim": 768, "hidden_act": "quick_gelu",
}  # fmt: skip
SECOND: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32,
    "projection_dim": 1280, "hidden_act": "gelu",
}  # fmt: skip


def save_xl(config: Path, target: Path, over: dict[str, dict[str, Any]] | None = None) -> Path:
    """A diffusers folder.

    Args:
        config: a Stable Diffusion 1.5 folder, whose tokenizer both text encoders take.
        over: settings that differ, for unet, vae, text_encoder and text_encoder_2.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    told = over or {}
    torch.manual_seed(0)
    UNet2DConditionModel(**(UNET | told.get("unet", {}))).save_pretrained(target / "unet")
    AutoencoderKL(**(VAE | told.get("vae", {}))).save_pretrained(target / "vae")
    ends = {"bos_token_id": 49406, "eos_token_id": 49407}
    first = CLIPTextConfig(**(FIRST | ends | told.get("text_encoder", {})))
    CLIPTextModel(first).save_pretrained(target / "text_encoder")
    second = CLIPTextConfig(**(SECOND | ends | told.get("text_encoder_2", {})))
    CLIPTextModelWithProjection(second).save_pretrained(target / "text_encoder_2")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(config / "tokenizer", target / name)
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"], "force_zeros_for_empty_prompt": True,
        "feature_extractor": [None, None], "image_encoder": [None, None],
    }  # fmt: skip
    scheduler = {
        "_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1,
        "prediction_type": "epsilon", "timestep_spacing": "leading",
    }  # fmt: skip
    (target / "scheduler").mkdir()
    (target / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (target / "model_index.json").write_text(json.dumps(index))
    return target
