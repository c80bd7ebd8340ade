"""What single-file checkpoints call the layers that diffusers names in its own way."""

import re
from collections.abc import Mapping
from typing import Any

_RESNET = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1"}
_RESNET |= {"conv_shortcut": "skip_connection", "norm1": "in_layers.0", "norm2": "out_layers.0"}
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_PLACE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def checkpoint_name(module: str, unet: Mapping[str, Any]) -> str:
    """What single-file checkpoints call a layer of a UNet that diffusers calls `module`.

    Blocks are numbered through: the stem, then the layers of each block with what changes the size after them.
    """
    if module in _OUTSIDE:
        return _OUTSIDE[module]
    if module.startswith("mid_block."):
        kind, index, rest = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", module).groups()  # type: ignore[union-attr]
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(index)}.{_RESNET[rest]}"
    found = _PLACE.fullmatch(module)
    if found is None:
        raise ValueError(f"{module} has no name in a checkpoint")
    side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    each = int(unet["layers_per_block"]) + 1
    rest = _RESNET[rest] if kind == "resnets" else rest
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{each * (block + 1)}.0.op"
        return f"input_blocks.{each * block + layer + 1}.{int(kind == 'attentions')}.{rest}"
    if kind == "upsamplers":
        has_attention = "CrossAttn" in str(unet["up_block_types"][block])
        return f"output_blocks.{each * (block + 1) - 1}.{1 + has_attention}.{rest}"
    return f"output_blocks.{each * block + layer}.{int(kind == 'attentions')}.{rest}"
