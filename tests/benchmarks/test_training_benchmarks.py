"""The training benchmarks on models that are tiny: that they time what they say, and compare equal work."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = """
import sys
from accelerate import Accelerator

accelerator = Accelerator()
for step in (1, 2, 3):
    accelerator.log({"train_loss": float(sys.argv[1])}, step=step)
"""
NARROWER = {
    "unet": {"block_out_channels": [64, 64, 64, 64], "cross_attention_dim": 32, "sample_size": 8},
    "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2},
    "vae": {"block_out_channels": [32, 32, 32, 32], "sample_size": 64, "layers_per_block": 1},
}


def stamps(what: str, *rows: tuple[float, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"what": what, "cpu": at, "clock": at * 2} | facts for at, facts in rows]


def test_a_script_is_timed_as_it_is(benchmark_of: Any, tmp_path: Path) -> None:
    script = tmp_path / "peer.py"
    script.write_text(SCRIPT)
    noted = benchmark_of("stamped").run(["peer", str(script), "0.5"], tmp_path / "stamps.json", {})
    assert [(one["step"], one["loss"]) for one in noted["stamps"]] == [(1, 0.5), (2, 0.5), (3, 0.5)]
    clocks = [one["clock"] for one in noted["stamps"]]
    assert 0 < clocks[0] <= clocks[1] <= clocks[2]
    assert noted["peak_memory_bytes"] > 2**20


def test_a_script_that_fails_says_why(benchmark_of: Any, tmp_path: Path) -> None:
    script = tmp_path / "peer.py"
    script.write_text("raise ValueError('no such tiles')")
    with pytest.raises(SystemExit, match="no such tiles"):
        benchmark_of("stamped").run(["peer", str(script)], tmp_path / "stamps.json", {})


def test_the_first_step_and_what_went_before_are_left_out(benchmark_of: Any) -> None:
    noted = {
        "stamps": stamps("phase", (1.0, {"name": "Opening", "done": 0, "total": 1}))
        + stamps("step", (9.0, {}), (11.0, {}), (13.0, {}))
    }
    sides = benchmark_of("sides")
    assert sides.step_seconds(noted, "cpu", pictures=4) == 0.5
    assert sides.step_seconds(noted, "clock", pictures=4) == 1.0


def test_what_is_cached_between_steps_is_no_part_of_them(benchmark_of: Any) -> None:
    told = {"name": "Encoding pictures"}
    before = stamps("phase", (1.0, told | {"done": 0, "total": 1}), (3.0, told | {"done": 1, "total": 1}))
    between = stamps("phase", (12.0, told | {"done": 0, "total": 1}), (18.0, told | {"done": 1, "total": 1}))
    noted = {"stamps": [*before, *stamps("step", (10.0, {}), (22.0, {}), (24.0, {})), *between]}
    sides = benchmark_of("sides")
    assert sides.step_seconds(noted, "cpu", pictures=2) == 2.0
    assert sides.step_seconds(noted, "cpu", pictures=2, warm_up=2) == 1.0


def test_caches_are_counted_by_what_is_in_them(benchmark_of: Any) -> None:
    told = {"name": "Encoding pictures"}
    first = stamps("phase", (1.0, told | {"done": 0, "total": 10}), (3.0, told | {"done": 10, "total": 10}))
    second = stamps("phase", (5.0, told | {"done": 0, "total": 2}), (5.4, told | {"done": 2, "total": 2}))
    costs = benchmark_of("sides").cache_seconds({"stamps": first + second}, "cpu")
    assert costs == {"Encoding pictures": pytest.approx(0.2)}
    # 100 tiles in two orientations, spread over 5 passes: 0.2 × 200 / 500 more for each picture.
    assert benchmark_of("training_speed").with_caches(0.5, costs, 100, 5) == pytest.approx(0.58)


@pytest.fixture
def bench(benchmark_of: Any, shared_data: Path, tmp_path: Path) -> Any:
    return benchmark_of("sides").set_up(tmp_path / "bench", shared_data / "sd15_config", 12, 128, over=NARROWER)


def test_losses_equal_those_of_the_scripts_arithmetic(benchmark_of: Any, bench: Any) -> None:
    found = benchmark_of("loss_equality").largest_differences(bench, 128, 2)
    assert found["full, fp32"]["largest_difference"] == 0
    # Encoding pictures together rounds otherwise on some CPUs: the last bit of a loss near 1.
    assert found["full, fp32"]["largest_difference_encoded_together"] <= 2**-23
    assert all(facts["largest_difference"] <= 1e-3 for facts in found.values())
    assert all(facts["mean_loss"] > 0.5 for facts in found.values())


def test_the_studio_is_timed_at_each_step(benchmark_of: Any, bench: Any) -> None:
    sides: ModuleType = benchmark_of("sides")
    noted = bench.run_own(sides.Shape("lora", 3, size_px=64, batch=2))
    assert [one["step"] for one in noted["stamps"] if one["what"] == "step"] == [1, 2, 3]
    assert sides.step_seconds(noted, "cpu", 2) > 0
    assert sides.cache_seconds(noted, "cpu")["Encoding pictures"] > 0
    assert not list(bench.workspace.runs.iterdir())


def test_a_narrow_xl_opens_in_the_studio(benchmark_of: Any, shared_data: Path, tmp_path: Path) -> None:
    from studio.models.load import load_model
    from studio.models.registry import resolve
    from studio.workspace import make_workspace

    narrow = {
        "unet": {
            "sample_size": 8, "block_out_channels": (32, 32, 64), "attention_head_dim": (1, 1, 2),
            "transformer_layers_per_block": (1, 1, 1), "cross_attention_dim": 96,
            "projection_class_embeddings_input_dim": 64 + 6 * 256,
        },
        "vae": {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 64},
        "text_encoder": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2},
        "text_encoder_2": {
            "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2,
            "projection_dim": 64,
        },
    }  # fmt: skip
    folder = benchmark_of("xl_model").save_xl(shared_data / "sd15_config", tmp_path / "xl", narrow)
    model = load_model(resolve(make_workspace(tmp_path / "workspace"), str(folder)), "cpu")
    text = model.embed(["a river"])
    assert (text.states.shape[-1], text.pooled.shape) == (96, (1, 64))
