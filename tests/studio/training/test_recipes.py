"""The recipes that ship say what was published, and a recipe is judged for its data set before it runs."""

from pathlib import Path
from typing import Any

import pytest

from studio import config, requests, sources
from studio.errors import SettingsError
from studio.settings import D4, TrainSettings
from studio.training.recipes import Amount, advice, amount, in_steps, native_size_px
from studio.workspace import TEMPLATE, Workspace
from tests.studio.training_runs import make_dataset, settings

RECIPES = sorted((TEMPLATE / "recipes").glob("*.toml"))
SD15, SDXL = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"
PUBLISHED: dict[str, dict[str, Any]] = {
    "remote-diffusion-2024": {
        "base": SD15, "seed": 42, "method.name": "full", "data.size_px": 224, "data.orientations": D4,
        "optimiser.epochs": 5, "optimiser.batch": 4, "optimiser.accumulation": 4, "optimiser.learning_rate": 1e-6,
        "optimiser.schedule": "constant", "optimiser.warmup_steps": 0, "optimiser.precision": "fp16",
        "optimiser.gradient_checkpointing": True, "optimiser.max_gradient_norm": 1.0, "saving.checkpoint_every": 500,
        "saving.preview_prompts": ("A satellite image of a crop field",), "saving.preview_steps": 50,
        "saving.preview_guidance": 7.5,
    },
    "remote-diffusion-corrected": {
        "base": SD15, "method.name": "full", "data.size_px": 512, "data.orientations": D4, "optimiser.epochs": 5,
        "optimiser.batch": 4, "optimiser.accumulation": 4, "optimiser.learning_rate": 1e-6,
    },
    "aid-mountain": {
        "base": SD15, "seed": 1430, "method.name": "lora", "method.rank": 4, "method.alpha": 4.0,
        "method.targets": ("to_k", "to_q", "to_v", "to_out.0"), "data.size_px": 512, "optimiser.batch": 2,
        "optimiser.accumulation": 8, "optimiser.learning_rate": 1e-3, "optimiser.schedule": "cosine",
        "optimiser.warmup_steps": 0, "optimiser.steps": 200, "optimiser.precision": "bf16",
        "saving.preview_prompts": ("satellite image of mountains",) * 6, "saving.preview_steps": 50,
    },
    "aid-mountain-xl": {
        "base": SDXL, "seed": 1430, "method.name": "lora", "method.rank": 4, "data.size_px": 1024, "optimiser.batch": 2,
        "optimiser.accumulation": 8, "optimiser.learning_rate": 1e-3, "optimiser.schedule": "cosine",
        "optimiser.steps": 200, "optimiser.precision": "bf16",
    },
}  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_holds_and_says_what_is_known_against_it(path: Path) -> None:
    told = config.load(path, TrainSettings)
    assert told.description
    assert told.known_problems


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_of_a_publication_has_its_numbers(name: str) -> None:
    told = config.load(TEMPLATE / "recipes" / f"{name}.toml", TrainSettings)
    for path, value in PUBLISHED[name].items():
        found: Any = told
        for part in path.split("."):
            found = getattr(found, part)
        assert found == value, path
    if name.startswith("remote-diffusion"):
        assert told.optimiser.ema > 0


@pytest.mark.parametrize("name", ["remote-diffusion", "aid-mountain"])
def test_a_recipe_with_faults_names_its_corrected_twin(name: str) -> None:
    published = "remote-diffusion-2024" if name == "remote-diffusion" else name
    told = config.load(TEMPLATE / "recipes" / f"{published}.toml", TrainSettings)
    assert f"{name}-corrected" in told.known_problems
    assert TEMPLATE / "recipes" / f"{name}-corrected.toml" in RECIPES


class TestEpochs:
    def test_the_papers_five_epochs_are_2730_steps(self, made_workspace: Workspace) -> None:
        """8,734 pictures, batch 4 by accumulation 4; a hundredth of it here, as the rule is one of proportion."""
        make_dataset(made_workspace, train=87, valid=3)
        told = in_steps(made_workspace, settings("starter", epochs=5.0, batch=4, accumulation=4))
        assert told.optimiser.steps == 28  # 87 · 5 / 16 = 27.2; the last one is not whole

    def test_a_run_is_made_with_the_steps_of_its_epochs(self, made_workspace: Workspace, tiny_flow: Path) -> None:
        make_dataset(made_workspace)
        job = requests.train_job(made_workspace, settings(tiny_flow, epochs=1.5), "passes")
        assert job.settings.optimiser.steps == 8  # type: ignore[attr-defined]
        assert requests.job_of(made_workspace, job.folder).settings == job.settings

    def test_pictures_put_aside_are_not_counted(self, made_workspace: Workspace) -> None:
        make_dataset(made_workspace, train=40, valid=0)
        told = settings("starter", validation_images=3)
        assert amount(made_workspace, told) == Amount(training=37, without_caption=0, measured=3)
        assert amount(made_workspace, settings("starter", data={"limit": 8})) == Amount(7, 0, 1)

    def test_steps_that_were_asked_for_stand_above_a_recipes_epochs(self, made_workspace: Workspace) -> None:
        name = "remote-diffusion-2024"
        assert sources.load_recipe(made_workspace, name, "set").optimiser.epochs == 5
        told = sources.load_recipe(made_workspace, name, "set", ["steps=7"]).optimiser
        assert (told.steps, told.epochs) == (7, 0)


class TestAdvice:
    def messages(self, told: TrainSettings, found: Amount, native_px: int | None = 512) -> str:
        return " ".join(f"{one.message} {one.hint}" for one in advice(told, found, native_px))

    def test_nothing_is_said_against_what_suits(self) -> None:
        told = settings("x", steps=100, batch=16, data={"size_px": 512})
        assert advice(told, Amount(400, 0, 32), 512) == []

    def test_more_than_five_passes_are_told_with_the_steps_that_would_do(self) -> None:
        told = settings("x", steps=300, batch=16, data={"size_px": 512})
        said = self.messages(told, Amount(400, 0, 32))
        assert "300 steps are 12.0 passes over 400 pictures" in said
        assert "optimiser.steps=125" in said
        assert self.messages(settings("x", steps=125, batch=16, data={"size_px": 512}), Amount(400, 0, 32)) == ""
        assert self.messages(settings("x", steps=300, patience=3, data={"size_px": 512}), Amount(400, 0, 32)) == ""

    def test_another_size_than_the_bases_own_is_told(self) -> None:
        said = self.messages(settings("x", data={"size_px": 224}), Amount(400, 0, 32))
        assert "made for 512 px and this run trains at 224 px" in said

    def test_too_few_pictures_and_missing_captions_are_told(self) -> None:
        told = settings("x", {"name": "full"}, data={"size_px": 512})
        said = self.messages(told, Amount(400, 30, 32))
        assert "400 pictures are few for a full fine-tune" in said
        assert "30 of 400 pictures have no caption" in said

    def test_the_native_size_is_read_from_the_models_folder(self, made_workspace: Workspace, tiny_flow: Path) -> None:
        assert native_size_px(made_workspace, str(tiny_flow)) == 32
        assert native_size_px(made_workspace, "nothing-here") is None


def test_ranking_by_what_is_not_measured_is_refused() -> None:
    with pytest.raises(SettingsError, match="rank_by = kid needs measure_every"):
        config.check({"saving": {"rank_by": "kid"}}, TrainSettings, "a recipe")
