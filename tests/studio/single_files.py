"""A folder in diffusers layout written as the single file that Stable Diffusion was first published as."""

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from studio.models.checkpoint_names import checkpoint_name
from studio.models.load import load_model
from studio.models.registry import ModelRef

_VAE = (
    (r"(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.", r"\1.\2.block.\3."),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"up_blocks\.(\d+)\.upsamplers\.0\.", r"up.\1.upsample."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"attn_1\.to_([qkv])", r"attn_1.\1"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
)
_OPEN_CLIP = (
    (r"^embeddings\.token_embedding\.weight", "token_embedding.weight"),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"^final_layer_norm", "ln_final"),
)


def save_single_file(folder: Path, path: Path, family: str, dtype: torch.dtype, **notes: str) -> Path:
    model = load_model(ModelRef("model", folder), "cpu")
    state: dict[str, Tensor] = {}
    for name, one in model.unet.state_dict().items():
        module, _, ending = name.rpartition(".")
        state[f"model.diffusion_model.{checkpoint_name(module, model.unet.config)}.{ending}"] = one
    for name, one in model.vae.state_dict().items():
        state[f"first_stage_model.{_of_vae(name)}"] = one[..., None, None] if _is_attention(name) else one
    text = {name.removeprefix("text_model."): one for name, one in model.text_encoder.state_dict().items()}
    if family == "sd2":
        layers = {name: one for name, one in text.items() if ".layers.0." in name}
        text |= {name.replace(".layers.0.", ".layers.2."): one + 1 for name, one in layers.items()}  # the unused last
        state |= _open_clip(text, "cond_stage_model.model.", torch.eye(64))
    else:
        start = "cond_stage_model.transformer" if family == "sd1" else "conditioner.embedders.0.transformer"
        state |= {f"{start}.text_model.{name}": one for name, one in text.items()}
    if model.text_encoder_2 is not None:
        second = {name.removeprefix("text_model."): one for name, one in model.text_encoder_2.state_dict().items()}
        projection = second.pop("text_projection.weight").T
        state |= _open_clip(second, "conditioner.embedders.1.model.", projection)
    whole = {name: one.to(dtype).contiguous() for name, one in state.items() if one.is_floating_point()}
    save_file(whole, path, metadata=notes or None)
    return path


def _of_vae(name: str) -> str:
    for pattern, instead in _VAE:
        name = re.sub(pattern, instead, name)
    return re.sub(r"decoder\.up\.(\d)\.", lambda found: f"decoder.up.{3 - int(found[1])}.", name)


def _is_attention(name: str) -> bool:
    return bool(re.search(r"attentions\.0\.to_.*weight", name))


def _open_clip(text: dict[str, Tensor], start: str, projection: Tensor) -> dict[str, Tensor]:
    state = {f"{start}text_projection": projection}
    for name, one in text.items():
        if ".q_proj." in name:
            joined = torch.cat([text[name.replace(".q_proj.", f".{which}_proj.")] for which in "qkv"])
            layer, _, kind = name.partition(".self_attn.q_proj.")
            state[f"{start}{_named(layer)}.attn.in_proj_{kind}"] = joined
        elif ".k_proj." not in name and ".v_proj." not in name:
            state[start + _named(name)] = one
    return state


def _named(name: str) -> str:
    for pattern, instead in _OPEN_CLIP:
        name = re.sub(pattern, instead, name)
    return name
