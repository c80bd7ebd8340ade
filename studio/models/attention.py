"""Attention that suits the processor: head by head for short sequences in bf16 on CPUs, stock elsewhere.

PyTorch's fused attention is slow on CPUs in bf16, its backward pass most of all, and all scores at once do not fit into
the processor's cache. Some heads at a time do. Milliseconds of one thread for forward and backward of a batch of 4,
eight heads (AVX-512, 1 MiB of L2, torch 2.15):

| queries × keys, width of a head | fused | all at once | head by head |
|---|---|---|---|
| 256 × 256, 16   |  14 |   5 |   5 |
| 1024 × 77, 8    |  20 |  10 |  11 |
| 1024 × 1024, 8  | 107 | 172 |  75 |
| 4096 × 77, 40   | 120 |  55 |  55 |
| 1024 × 1024, 40 | 199 | 165 | 100 |

A UNet of 34 million parameters (64, 128, 256, 256) at 256 px trains a LoRA 1.3 times as fast per CPU-second as with all
scores at once, and a full fine-tune 1.1 times. The scores of every head are kept for the backward pass; long sequences
therefore stay with the fused form.
"""

from typing import Any  # diffusers' modules are untyped here

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

_AT_ONCE = 2**20
"""Scores computed together: 2 MiB."""
MOST_SCORES = 2**21
"""Scores of one head, queries × keys, up to which this is faster."""
MOST_KEPT = 2**27
"""Scores of a layer that may be kept for the backward pass: 256 MiB."""


class FastAttention:
    """An attention processor of diffusers that attends head by head where that is faster."""

    def __init__(self) -> None:
        self._fused = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Attend from hidden states (n, tokens, width) to those of the text, or to themselves."""
        looked_at = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        suits = attention_mask is None and hidden_states.ndim == 3 and _is_bf16_on_cpu(hidden_states)
        if not (suits and _is_plain(attn) and _is_short(hidden_states, looked_at, attn.heads)):
            result: Tensor = self._fused(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs
            )
            return result
        queries, keys, values = attn.to_q(hidden_states), attn.to_k(looked_at), attn.to_v(looked_at)
        heads = (attn.head_to_batch_dim(one).contiguous() for one in (queries, keys, values))
        attended = attn.batch_to_head_dim(_HeadByHead.apply(*heads, attn.scale))
        projection, dropout = attn.to_out
        result = dropout(projection(attended))
        return result


class _HeadByHead(torch.autograd.Function):
    """softmax(s q kᵀ) v (Vaswani et al. 2017, eq. 1) of (heads, tokens, width), some heads at a time."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        queries = queries * scale
        result = torch.empty_like(queries)
        keeps = any(ctx.needs_input_grad)
        kept = []
        for some in _groups(queries, keys):
            shares = torch.softmax(torch.bmm(queries[some], keys[some].transpose(1, 2)), -1)
            torch.bmm(shares, values[some], out=result[some])
            if keeps:
                kept.append(shares)
        ctx.save_for_backward(queries, keys, values, *kept)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, keys, values, *kept = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_queries, of_keys, of_values = torch.empty_like(queries), torch.empty_like(keys), torch.empty_like(values)
        for some, shares in zip(_groups(queries, keys), kept, strict=True):
            torch.bmm(shares.transpose(1, 2), gradient[some], out=of_values[some])
            of_shares = torch.bmm(gradient[some], values[some].transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
            torch.bmm(of_scores, keys[some], out=of_queries[some])
            torch.bmm(of_scores.transpose(1, 2), queries[some], out=of_keys[some])
        return of_queries.mul_(ctx.scale), of_keys, of_values, None


def _groups(queries: Tensor, keys: Tensor) -> list[slice]:
    heads = max(1, _AT_ONCE // (queries.shape[1] * keys.shape[1]))
    return [slice(start, start + heads) for start in range(0, queries.shape[0], heads)]


def use_fast_attention(unet: Any) -> None:
    """Let a UNet of diffusers attend in the way that is faster where it runs; CUDA keeps the fused form."""
    unet.set_attn_processor(FastAttention())


def _is_short(states: Tensor, looked_at: Tensor, heads: int) -> bool:
    scores = states.shape[1] * looked_at.shape[1]
    return scores <= MOST_SCORES and scores * heads * states.shape[0] <= MOST_KEPT


def _is_plain(attn: Attention) -> bool:
    """Whether a layer is one of a UNet's transformer blocks, which norm outside."""
    extra = (attn.spatial_norm, attn.group_norm, attn.norm_cross, attn.norm_q, attn.norm_k)
    return not attn.residual_connection and attn.rescale_output_factor == 1 and not any(extra)


def _is_bf16_on_cpu(states: Tensor) -> bool:
    if states.device.type != "cpu":
        return False
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else states.dtype
    return dtype == torch.bfloat16  # fp16 is slow in every form on CPUs, and slowest here
