import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0

from studio.models import attention
from studio.models.attention import FastAttention


@pytest.fixture
def layer() -> Attention:
    torch.manual_seed(0)
    return Attention(query_dim=32, heads=2, dim_head=16).requires_grad_(False)


def said(layer: Attention, processor: object, states: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
    layer.set_processor(processor)
    result: torch.Tensor = layer(states, text)
    return result


@pytest.mark.parametrize("text", [None, torch.randn(2, 7, 32)])
def test_short_sequences_in_bf16_are_written_out(layer: Attention, text: torch.Tensor | None) -> None:
    layer, states = layer.bfloat16(), torch.randn(2, 24, 32).bfloat16()
    text = None if text is None else text.bfloat16()
    fast, written_out = (said(layer, one, states, text) for one in (FastAttention(), AttnProcessor()))
    assert torch.equal(fast, written_out)
    fused = said(layer, AttnProcessor2_0(), states, text)
    assert not torch.equal(fast, fused)
    assert torch.allclose(fast, fused, atol=0.02)


def test_autocast_counts_as_bf16(layer: Attention) -> None:
    states = torch.randn(2, 24, 32)
    with torch.autocast("cpu", torch.bfloat16):
        fast, written_out = (said(layer, one, states) for one in (FastAttention(), AttnProcessor()))
    assert torch.equal(fast, written_out)


def test_all_else_stays_fused(layer: Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.randn(2, 4, 4, 32).permute(0, 3, 1, 2)
    assert torch.equal(said(layer, FastAttention(), states), said(layer, AttnProcessor2_0(), states))
    monkeypatch.setattr(attention, "MOST_SCORES", 16 * 16 - 1)
    layer, states = layer.bfloat16(), states.bfloat16()
    assert torch.equal(said(layer, FastAttention(), states), said(layer, AttnProcessor2_0(), states))


@pytest.mark.parametrize(("tokens", "heads"), [(24, 2), (1024, 2)])
def test_gradients_are_those_of_the_stock_form(tokens: int, heads: int) -> None:
    torch.manual_seed(0)
    layer = Attention(query_dim=32, heads=heads, dim_head=16).bfloat16()
    states = torch.randn(2, tokens, 32).bfloat16().requires_grad_()
    gradients = []
    for one in (FastAttention(), AttnProcessor()):
        layer.set_processor(one)
        layer.zero_grad()
        states.grad = None
        layer(states).float().pow(2).mean().backward()
        gradients.append(torch.cat([states.grad.flatten(), layer.to_k.weight.grad.flatten()]).float())
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 0.01
