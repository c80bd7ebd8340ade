"""The settings of a single-file checkpoint's parts, from its family and the shapes of its tensors; without torch."""

import re
from collections.abc import Mapping
from typing import Any

from studio.models.families import UNET, VAE, Family, shape_of

PREDICTIONS = {"epsilon": "epsilon", "eps": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}
_CLIP = {"sd1": "cond_stage_model.transformer.text_model.", "sdxl": "conditioner.embedders.0.transformer.text_model."}
_OPEN_CLIP = {"sd2": "cond_stage_model.model.", "sdxl": "conditioner.embedders.1.model."}
_WIDTH_OF_HEAD = 64
_NOISE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
}  # fmt: skip
_PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
}


def settings_of(header: Mapping[str, Any], family: Family, predicts_v: bool) -> dict[str, dict[str, Any]]:
    """The JSON files of a folder in diffusers layout, by their paths.

    Args:
        header: of the file, as `read_header` gives it.
    """
    is_xl = family == "sdxl"
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"}
    index |= _PARTS | {"scheduler": ["diffusers", "EulerDiscreteScheduler" if is_xl else "PNDMScheduler"]}
    if is_xl:
        index |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
        index |= {"tokenizer_2": ["transformers", "CLIPTokenizer"], "force_zeros_for_empty_prompt": True}
    else:
        index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    side = 128 if is_xl else 96 if family == "sd2" and predicts_v else 64
    settings = {
        "model_index.json": index,
        "scheduler/scheduler_config.json": _scheduler(is_xl, predicts_v),
        "unet/config.json": _unet(header, family) | {"sample_size": side},
        "vae/config.json": _vae(header, is_xl) | {"sample_size": side * 8},
    }
    if family in _CLIP:
        settings["text_encoder/config.json"] = _clip(header, _CLIP[family])
    if family in _OPEN_CLIP:
        name = "text_encoder_2" if is_xl else "text_encoder"
        settings[f"{name}/config.json"] = _open_clip(header, _OPEN_CLIP[family], is_xl)
    return settings


def vocabulary_of(header: Mapping[str, Any], family: Family) -> int:
    """How many words the first text encoder knows."""
    if family in _CLIP:
        return shape_of(header, f"{_CLIP[family]}embeddings.token_embedding.weight")[0]
    return shape_of(header, f"{_OPEN_CLIP[family]}token_embedding.weight")[0]


def _unet(header: Mapping[str, Any], family: Family) -> dict[str, Any]:
    blocks = range(3 if family == "sdxl" else 4)
    # Two residual layers a block and one that halves the size: blocks begin at 1, 4, 7 and 10.
    channels = [shape_of(header, f"{UNET}input_blocks.{1 + 3 * block}.0.out_layers.3.weight")[0] for block in blocks]
    layers = [
        _count(header, rf"{re.escape(UNET)}input_blocks\.{1 + 3 * b}\.1\.transformer_blocks\.(\d+)\.") for b in blocks
    ]
    attends = [bool(count) for count in layers]
    first = next(1 + 3 * block for block in blocks if attends[block])
    text = shape_of(header, f"{UNET}input_blocks.{first}.1.transformer_blocks.0.attn2.to_k.weight")[1]
    settings: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": channels,
        "cross_attention_dim": text,
        "down_block_types": ["CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)],
        # Of the first family this is the number of heads, whatever its name says.
        "attention_head_dim": 8 if family == "sd1" else [max(one // _WIDTH_OF_HEAD, 1) for one in channels],
        "use_linear_projection": family != "sd1",
    }
    if family == "sdxl":
        settings |= {
            "transformer_layers_per_block": [max(count, 1) for count in layers],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": shape_of(header, f"{UNET}label_emb.0.0.weight")[1],
        }
    return settings


def _vae(header: Mapping[str, Any], is_xl: bool) -> dict[str, Any]:
    channels = [shape_of(header, f"{VAE}encoder.down.{block}.block.0.conv1.weight")[0] for block in range(4)]
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 4,
        "layers_per_block": 2,
        "scaling_factor": 0.13025 if is_xl else 0.18215,
        "force_upcast": is_xl,
    }


def _clip(header: Mapping[str, Any], start: str) -> dict[str, Any]:
    words, width = shape_of(header, f"{start}embeddings.token_embedding.weight")
    return _text(words, width) | {
        "architectures": ["CLIPTextModel"],
        "num_hidden_layers": _count(header, rf"{re.escape(start)}encoder\.layers\.(\d+)\."),
        "intermediate_size": shape_of(header, f"{start}encoder.layers.0.mlp.fc1.weight")[0],
        "hidden_act": "quick_gelu",
        "projection_dim": width,
    }


def _open_clip(header: Mapping[str, Any], start: str, is_second: bool) -> dict[str, Any]:
    words, width = shape_of(header, f"{start}token_embedding.weight")
    layers = _count(header, rf"{re.escape(start)}transformer\.resblocks\.(\d+)\.")
    return _text(words, width) | {
        "architectures": ["CLIPTextModelWithProjection" if is_second else "CLIPTextModel"],
        # The second family was trained on the last layer but one, so the last is left out.
        "num_hidden_layers": layers if is_second else layers - 1,
        "intermediate_size": shape_of(header, f"{start}transformer.resblocks.0.mlp.c_fc.weight")[0],
        "hidden_act": "gelu",
        "projection_dim": shape_of(header, f"{start}text_projection")[1] if is_second else width,
    }


def _text(words: int, width: int) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": words,
        "hidden_size": width,
        "num_attention_heads": max(width // _WIDTH_OF_HEAD, 1),
        "max_position_embeddings": 77,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
    }


def _scheduler(is_xl: bool, predicts_v: bool) -> dict[str, Any]:
    kind = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"} if is_xl else {
        "_class_name": "PNDMScheduler", "skip_prk_steps": True,
    }  # fmt: skip
    return kind | _NOISE | {"prediction_type": "v_prediction" if predicts_v else "epsilon"}


def _count(header: Mapping[str, Any], pattern: str) -> int:
    """How many there are of what the names number."""
    found = (re.match(pattern, name) for name in header)
    return max((int(one[1]) + 1 for one in found if one), default=0)
