"""What a run costs, counted from shapes and checked against what torch counts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from studio.models.load import load_model
from studio.models.registry import ModelRef
from studio.settings import TrainSettings
from studio.training.arithmetic import cost, lora_parameters, parameters, weight_shapes
from studio.training.estimate import Needs, estimate, needed, planned_micro_batch
from studio.workspace import Workspace
from tests.studio.training_runs import make_dataset, settings, train

GIB = 2**30


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(one.shape) for name, one in network.named_parameters()}


def test_arithmetic_of_a_unet_is_what_torch_counts(narrow: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    unet: Any = load_model(ModelRef("narrow", narrow), "cpu").unet
    tokens = torch.zeros(1, 77, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(torch.zeros(1, 4, 16, 16), 5, encoder_hidden_states=tokens)
    shapes = weight_shapes(narrow / "unet")
    assert shapes == shapes_of(unet)
    assert cost(shapes, 16).flops == counter.get_total_flops()
    assert parameters(shapes) == sum(one.numel() for one in unet.parameters())


def test_arithmetic_of_an_encoder_is_what_torch_counts(narrow: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    vae: Any = load_model(ModelRef("narrow", narrow), "cpu").vae
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        vae.encoder(torch.zeros(1, 3, 64, 64))
    assert cost(weight_shapes(narrow / "vae"), 64, "encoder.").flops == counter.get_total_flops()


def test_a_loras_parameters_are_what_a_run_trains(tiny_flow: Path) -> None:
    from peft import LoraConfig

    unet: Any = load_model(ModelRef("tiny", tiny_flow), "cpu").unet
    shapes = shapes_of(unet)
    unet.add_adapter(LoraConfig(r=3, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    trained = sum(one.numel() for one in unet.parameters() if one.requires_grad)
    assert lora_parameters(shapes, ("to_q", "to_k", "to_v", "to_out.0"), 3) == trained


class TestMicroBatch:
    def test_all_goes_at_once_where_there_is_room(self) -> None:
        assert planned_micro_batch(Needs(4 * GIB, GIB), 100 * GIB, 16) == 16

    def test_passes_are_even_where_there_is_not(self) -> None:
        # 0.9 · 16 - 4 leaves room for ten: two passes of eight rather than one of ten and one of six.
        assert planned_micro_batch(Needs(4 * GIB, GIB), 16 * GIB, 16) == 8

    def test_one_at_a_time_is_tried_even_where_nothing_fits(self) -> None:
        assert planned_micro_batch(Needs(20 * GIB, GIB), 8 * GIB, 16) == 1


class TestStableDiffusion:
    """True shapes without their weights, from the settings that ship with the tests' data."""

    @pytest.fixture(scope="class")
    def parts(self, shared_data: Path) -> dict[str, dict[str, tuple[int, ...]]]:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(_config(shared_data, "unet"))
            vae = AutoencoderKL.from_config(_config(shared_data, "vae"))
        return {"unet": shapes_of(unet), "vae": shapes_of(vae), "text_encoder": {"all": (123_060_480,)}}

    def test_the_ledger_of_sd15(self, parts: dict[str, dict[str, tuple[int, ...]]]) -> None:
        assert parameters(parts["unet"]) == 859_520_964
        assert cost(parts["unet"], 32).flops / 1e9 == pytest.approx(180, abs=0.5)
        assert cost(parts["unet"], 64).flops / 1e9 == pytest.approx(803, abs=0.5)
        assert cost(parts["vae"], 512, "encoder.").flops / 1e9 == pytest.approx(1117, abs=5)

    @pytest.mark.parametrize(
        ("name", "method", "optimiser"),
        [
            ("lora", {"name": "lora", "rank": 16}, {"micro_batch": 1}),
            ("full", {"name": "full"}, {"name": "adamw8bit", "gradient_checkpointing": True, "micro_batch": 1}),
        ],
    )
    def test_the_presets_for_12_gb_fit(
        self, name: str, method: dict[str, Any], optimiser: dict[str, Any], parts: Any
    ) -> None:
        told = TrainSettings.model_validate({"method": method, "data": {"size_px": 512}, "optimiser": optimiser})
        needs = needed(parts, told)
        assert needs.fixed_bytes + needs.picture_bytes < 12 * GIB

    def test_a_full_fine_tune_with_adam_does_not_fit_in_12_gb(self, parts: Any) -> None:
        told = TrainSettings.model_validate({"method": {"name": "full"}, "data": {"size_px": 512}})
        assert needed(parts, told).fixed_bytes > 12 * GIB


def _config(shared_data: Path, part: str) -> dict[str, Any]:
    import json

    values: dict[str, Any] = json.loads((shared_data / "sd15_config" / part / "config.json").read_text())
    return values


def test_a_run_is_timed_by_those_before_it(made_workspace: Workspace, tiny_flow: Path) -> None:
    make_dataset(made_workspace)
    guessed = estimate(made_workspace, settings(tiny_flow), "cpu")
    assert guessed is not None
    assert guessed.pace.startswith("a guess")
    assert (guessed.amount.training, guessed.effective_batch, guessed.steps) == (10, 2, 4)
    _, _, run = train(made_workspace, settings(tiny_flow), "first")
    timed = estimate(made_workspace, settings(tiny_flow, steps=8), "cpu")
    assert timed is not None
    assert timed.pace == f"at the pace of {run.name}"
    assert estimate(made_workspace, settings(tiny_flow, {"name": "scratch"}), "cpu") is None
    assert estimate(made_workspace, settings("somebody/not-here"), "cpu") is None
