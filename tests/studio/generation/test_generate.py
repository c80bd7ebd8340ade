import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from studio import files, requests
from studio.control import Control
from studio.errors import UsageError
from studio.events import Event, ImageSaved, Phase
from studio.generation.generate import chosen_sampling, reproduce
from studio.generation.plans import PlannedTile, PromptLine, plan_tiles
from studio.generation.provenance import Recipe, Sampling
from studio.images import read_recipe, save_tile
from studio.jobs import execute
from studio.models.load import load_model
from studio.models.registry import ModelRef
from studio.settings import GenerateSettings
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import Watch, make_dataset, run, settings, train

TILES = plan_tiles([PromptLine("one {river|forest}", "fog", "river"), PromptLine("some road")], 5, seed=40)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("batches") / "workspace")


def told(model: Path | str, **other: Any) -> GenerateSettings:
    return GenerateSettings.model_validate({"model": str(model), "batch": 2, "steps": 2} | other)


def generate(
    workspace: Workspace, settings: GenerateSettings, name: str, watch: Watch | None = None
) -> tuple[Any, list[Event], Path]:
    job = requests.generate_job(workspace, settings, TILES, name)
    finished, events = run(job, watch) if watch else run(job)
    return finished, events, job.folder.path


@pytest.fixture(scope="module")
def batch(workspace: Workspace, tiny_flow: Path) -> Path:
    finished, _, folder = generate(workspace, told(tiny_flow), "whole")
    assert finished.result == {"batch": "whole", "requested": 5, "saved": 5}
    return folder


def test_every_tile_is_saved_and_told(workspace: Workspace, tiny_flow: Path) -> None:
    _, events, folder = generate(workspace, told(tiny_flow), "told")
    saved = [event for event in events if isinstance(event, ImageSaved)]
    assert [(one.index, one.path, one.seed) for one in saved] == [
        (n, f"tiles/{n + 1:06d}.png", 40 + n) for n in range(5)
    ]
    assert all(files.sha256_of(folder / one.path) == one.sha256 for one in saved)
    done = [event.done for event in events if isinstance(event, Phase) and event.total == 5]
    assert list(dict.fromkeys(done)) == [0, 2, 4, 5]  # each several times where a step takes long
    assert files.manifest_faults(folder) == []


def test_a_tile_carries_its_whole_recipe(batch: Path, tiny_flow: Path) -> None:
    recipe = read_recipe(batch / "tiles/000004.png")
    assert recipe.keys() >= {
        "software", "synthetic", "prompt", "negative", "label", "seed", "index", "model", "weights_sha256", "sampler",
        "steps", "guidance", "width_px", "height_px", "precision", "rows", "row", "threads", "device", "torch",
        "diffusers",
    }  # fmt: skip
    wanted = {"prompt": "one river", "negative": "fog", "seed": 43, "sampler": "dpm++2m", "steps": 2, "guidance": 2.5}
    assert {key: recipe[key] for key in wanted} == wanted
    assert (recipe["rows"], recipe["row"], recipe["width_px"], recipe["synthetic"]) == (2, 1, 32, True)
    assert recipe["weights_sha256"] == ModelRef("tiny", tiny_flow).weights_sha256()
    assert read_recipe(batch / "tiles/000005.png")["rows"] == 1


@pytest.mark.parametrize("number", [2, 5])
def test_a_tile_is_made_again_to_the_last_bit(number: int, batch: Path, workspace: Workspace) -> None:
    again = reproduce(workspace, batch / f"tiles/{number:06d}.png", "cpu")
    assert again == {"identical": True, "differing_pixels": 0, "reasons": []}


def test_a_stopped_batch_gets_the_tiles_that_it_would_have_had(
    workspace: Workspace, tiny_flow: Path, batch: Path
) -> None:
    def watch(event: Event, control: Control) -> None:
        if isinstance(event, ImageSaved) and event.index == 1:
            control.ask("stop")

    stopped, _, folder = generate(workspace, told(tiny_flow), "parted", watch)
    assert (stopped.outcome, stopped.exit_code) == ("stopped", 75)
    assert stopped.result == {"batch": "parted", "requested": 5, "saved": 2}
    # As a kill would leave it: one of the two made together is missing, and another is half written.
    (folder / "tiles/000001.png").unlink()
    (folder / "tiles/.tmp-1-000003.png").write_bytes(b"\x89PNG")
    finished, events, _ = generate(workspace, told(tiny_flow), "parted")
    assert finished.result == {"batch": "parted", "requested": 5, "saved": 5}
    assert [event.index for event in events if isinstance(event, ImageSaved)] == [0, 2, 3, 4]
    tiles = sorted(path.name for path in (folder / "tiles").iterdir())
    assert tiles == [f"{number:06d}.png" for number in range(1, 6)]
    assert all((folder / "tiles" / name).read_bytes() == (batch / "tiles" / name).read_bytes() for name in tiles)


def test_a_stop_is_heard_between_two_sampling_steps(workspace: Workspace, tiny_flow: Path) -> None:
    asked: list[bool] = []
    job = requests.generate_job(workspace, told(tiny_flow, steps=4), TILES, "early")

    class Late(Control):
        """Asked to stop once it has been looked at three times: before the first step, and after two."""

        @property
        def stopping(self) -> bool:
            asked.append(True)
            return len(asked) > 2

    stopped = execute(job, Late())
    assert (stopped.outcome, stopped.result["saved"]) == ("stopped", 0)
    assert len(asked) == 3


def test_what_is_not_said_comes_from_the_model(tiny_flow: Path, tiny_epsilon: Path, narrow: Path) -> None:
    flow, sd15 = ModelRef("tiny", tiny_flow), ModelRef("narrow", narrow)
    tiny, model = load_model(flow, "cpu"), load_model(sd15, "cpu")
    assert chosen_sampling(flow, tiny, GenerateSettings()) == Sampling("dpm++2m", 4, 2.5, 32, 32, "fp32")
    assert chosen_sampling(flow, tiny, GenerateSettings(sampler="euler")).steps == 30
    assert chosen_sampling(sd15, model, GenerateSettings()) == Sampling("pndm", 50, 7.5, 64, 64, "fp32")
    asked = GenerateSettings(sampler="unipc", steps=7, guidance=0, width_px=96, height_px=64, precision="bf16")
    assert chosen_sampling(sd15, model, asked) == Sampling("unipc", 7, 0, 96, 64, "bf16")


def test_a_tile_need_not_be_square(workspace: Workspace, tiny_flow: Path) -> None:
    _, _, folder = generate(workspace, told(tiny_flow, width_px=48, height_px=32, guidance=1), "wide")
    with Image.open(folder / "tiles/000001.png") as image:
        assert image.size == (48, 32)


def test_a_tile_of_a_run_names_run_and_step(workspace: Workspace, tiny_flow: Path) -> None:
    make_dataset(workspace)
    train(workspace, settings(tiny_flow, steps=2), "learnt")
    _, _, folder = generate(workspace, told("learnt"), "of-learnt")
    assert read_recipe(folder / "tiles/000001.png")["model"] == "0001-learnt@2"
    assert reproduce(workspace, folder / "tiles/000001.png", "cpu")["identical"]


class TestRecipesFromElsewhere:
    @pytest.fixture
    def tile(self, batch: Path, tmp_path: Path) -> Path:
        return Path(shutil.copy(batch / "tiles/000001.png", tmp_path / "tile.png"))

    def rewritten(self, tile: Path, **changes: Any) -> Path:
        recipe = {key: value for key, value in (read_recipe(tile) | changes).items() if value is not None}
        with Image.open(tile) as image:
            save_tile(tile, np.asarray(image), recipe)
        return tile

    def test_other_weights_are_named(self, tile: Path, tiny_flow: Path, workspace: Workspace, tmp_path: Path) -> None:
        model = Path(shutil.copytree(tiny_flow, tmp_path / "model"))
        weights = model / "unet/diffusion_pytorch_model.safetensors"
        save_file({name: one * 1.5 for name, one in load_file(weights).items()}, weights)
        again = reproduce(workspace, self.rewritten(tile, model=str(model)), "cpu")
        assert not again["identical"]
        assert again["differing_pixels"] > 0
        assert [reason.partition(" ")[0] for reason in again["reasons"]] == ["weights_sha256"]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"seed": None}, "seed: "),
            ({"threads": 10**9}, "threads: "),
            ({"rows": 0, "steps": 10**9}, "2 faults: steps: .*rows: "),
            ({"width_px": 10**9}, "width_px: "),
            ({"sampler": "magic"}, "sampler: "),
            ({"precision": "fp4"}, "precision: "),
            ({"model": "gone"}, "no model named gone"),
            ({"sampler": "lcm", "steps": 99}, "lcm cannot take 99 steps"),
        ],
    )
    def test_a_recipe_that_cannot_be_followed_says_why(
        self, changes: dict[str, Any], said: str, tile: Path, workspace: Workspace
    ) -> None:
        with pytest.raises(UsageError, match=said):
            reproduce(workspace, self.rewritten(tile, **changes), "cpu")

    def test_a_picture_without_a_recipe_is_refused(self, workspace: Workspace, tmp_path: Path) -> None:
        Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
        with pytest.raises(UsageError, match="carries no recipe"):
            reproduce(workspace, tmp_path / "plain.png", "cpu")

    def test_fields_of_a_later_version_are_no_fault(self) -> None:
        known = Recipe.model_validate(
            {"prompt": "a", "seed": 1, "model": "starter", "sampler": "ddim", "steps": 2, "guidance": 1}
            | {"width_px": 64, "height_px": 64, "scheduler_of_2030": "x"}
        )
        assert known.tile == PlannedTile(0, "a", "", 1, "")


def test_a_plan_line_is_what_its_tile_says(batch: Path) -> None:
    lines = [json.loads(line) for line in (batch / "plan.jsonl").read_text().splitlines()]
    for line in lines:
        recipe = read_recipe(batch / f"tiles/{line['index'] + 1:06d}.png")
        assert {key: recipe[key] for key in line} == line
