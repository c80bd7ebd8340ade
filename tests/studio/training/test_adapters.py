"""Low-rank additions as they are learnt, and as our loader and diffusers' own read what was written."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from studio.models.load import DiffusionModel, load_model
from studio.models.registry import ModelRef
from studio.settings import LoraMethod
from studio.training.adapters import FILE, add_lora, freeze_in, write_lora

PROMPTS = ["one river", "some town"]


def learnt(base: Path, method: LoraMethod) -> DiffusionModel:
    """A model whose additions are random, as if it had been trained for long."""
    model = load_model(ModelRef("base", base), "cpu")
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in add_lora(model, method).values():
            one.add_(torch.randn(one.shape, generator=random) * 0.3)
    for part in model.parts.values():
        part.eval()
    return model


@torch.no_grad()
def said(model: DiffusionModel) -> torch.Tensor:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return model.predict(latents, torch.tensor([5, 500]), model.embed(PROMPTS))


@pytest.mark.parametrize("told", [{}, {"text_encoder": True}, {"dora": True}, {"dora": True, "text_encoder": True}])
def test_what_was_written_is_what_was_learnt(told: dict[str, bool], tiny_epsilon: Path, tmp_path: Path) -> None:
    """An alpha of half the rank, which no file of diffusers' layout names."""
    method = LoraMethod.model_validate({"rank": 4, "alpha": 2.0, **told})
    model = learnt(tiny_epsilon, method)
    write_lora(model, method, tmp_path)
    kinds = {name.split(".")[0] for name in load_file(tmp_path / FILE)}
    assert kinds == ({"unet", "text_encoder"} if method.text_encoder else {"unet"})
    wanted, plain = said(model), said(load_model(ModelRef("base", tiny_epsilon), "cpu"))
    assert (wanted - plain).abs().max() > 0.1
    ours = load_model(ModelRef("tuned", tiny_epsilon, lora=tmp_path / FILE), "cpu")
    assert torch.allclose(said(ours), wanted, atol=1e-5)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_epsilon, safety_checker=None)
    pipeline.load_lora_weights(tmp_path)
    stock = load_model(ModelRef("base", tiny_epsilon), "cpu")
    stock.unet, stock.text_encoder = pipeline.unet, pipeline.text_encoder
    assert torch.allclose(said(stock), wanted, atol=1e-5)


def test_the_base_is_frozen_in_half_precision_but_for_its_normalisations(tiny_epsilon: Path) -> None:
    model = load_model(ModelRef("base", tiny_epsilon), "cpu")
    trained = add_lora(model, LoraMethod(rank=2))
    freeze_in(model.unet, torch.bfloat16)
    frozen = {name: one for name, one in model.unet.named_parameters() if not one.requires_grad}
    assert all(one.dtype == torch.float32 for one in trained.values())
    assert {one.dtype for name, one in frozen.items() if "norm" in name} == {torch.float32}
    assert {one.dtype for name, one in frozen.items() if "norm" not in name} == {torch.bfloat16}
