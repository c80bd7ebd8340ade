"""The scene network: it learns to name, is resumed exactly, and opens where networks of its class do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio import files
from studio.events import MetricMeasured, StepDone
from studio.images import open_picture
from studio.models.scenes import load_scene_network
from studio.training.scenes import varied
from studio.workspace import Workspace, make_workspace
from tests.studio.small_models import SIZE_PX, WORDS
from tests.studio.training_runs import make_dataset, newest, resume, settings, train, weights_of

SCENES = {"name": "scenes", "widths": [16, 32], "input_px": 32}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Pictures whose shade tells their class."""
    made = make_workspace(tmp_path / "workspace")
    images = make_dataset(made, train=24, valid=6) / "images"
    for index in range(30):
        shade = 40 * (index % len(WORDS)) + 20
        Image.new("RGB", (SIZE_PX, SIZE_PX), (shade, 255 - shade, index)).save(images / f"{index}.png")
    return made


def test_it_learns_to_name_what_it_is_shown(workspace: Workspace) -> None:
    told = settings("starter", SCENES, 40, batch=12, learning_rate=5e-3, measure_every=20, validation_images=6)
    finished, events, run = train(workspace, told, "named")
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    assert finished.outcome == "completed"
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    shares = [event for event in events if isinstance(event, MetricMeasured)]
    assert shares[-1].step == 40
    assert all(0 <= event.value <= 1 and event.n_real == 6 for event in shares)
    assert (newest(run) / "scenes" / "model.safetensors").is_file()


def test_a_run_stopped_and_resumed_ends_as_one_that_was_not(workspace: Workspace) -> None:
    told = settings("starter", SCENES, 4, batch=6, ema=0.5)
    _, _, whole = train(workspace, told, "whole")
    _, _, parted = train(
        workspace,
        told,
        "parted",
        lambda event, control: control.ask("stop") if isinstance(event, StepDone) and event.step == 1 else None,
    )
    finished, _ = resume(workspace, "parted")
    assert finished.result["from_step"] == 1
    assert weights_of(parted) == weights_of(whole)


def test_transformers_names_a_picture_with_it_as_the_studio_does(workspace: Workspace) -> None:
    from transformers import pipeline

    _, _, run = train(workspace, settings("starter", SCENES, 2, batch=6), "stock")
    folder = newest(run) / "scenes"
    picture = workspace.datasets / "set" / "images" / "0.png"
    network = load_scene_network(folder)
    assert sorted(network.classes) == sorted(WORDS)
    pixels = torch.from_numpy(np.array(open_picture(picture))).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        ours = network(pixels / 127.5 - 1).softmax(1)[0]
    theirs = {
        one["label"]: one["score"] for one in pipeline("image-classification", str(folder), top_k=6)(str(picture))
    }
    assert [theirs[name] for name in network.classes] == pytest.approx(ours.tolist(), abs=1e-3)


def test_pictures_without_a_class_are_refused_by_name(workspace: Workspace) -> None:
    folder = workspace.datasets / "set"
    Image.new("RGB", (SIZE_PX, SIZE_PX)).save(folder / "images" / "plain.png")
    row = {"file_name": "images/plain.png", "captions": [], "label": "", "split": "train"}
    row |= {"sha256": files.sha256_of(folder / "images" / "plain.png"), "width_px": SIZE_PX, "height_px": SIZE_PX}
    files.append_record(folder / "captions.jsonl", row)
    finished, _, _ = train(workspace, settings("starter", SCENES, 2), "unnamed")
    assert (finished.outcome, finished.exit_code) == ("failed", 2)
    assert "without a class" in finished.message


class TestVariations:
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1

    def test_the_middle_of_every_chance_at_full_size_changes_nothing(self) -> None:
        neutral = torch.tensor([[1.0, 0.5, 0.5, 0.5, 0.5]] * 2)
        assert torch.allclose(varied(self.pictures, neutral), self.pictures, atol=1e-5)

    def test_brightness_is_added_to_every_pixel(self) -> None:
        bright = torch.tensor([[1.0, 0.5, 0.5, 0.5, 1.0]] * 2)
        assert torch.allclose(varied(self.pictures, bright), self.pictures + 0.15, atol=1e-5)

    def test_a_crop_keeps_the_middle_where_it_is_not_shifted(self) -> None:
        slope = torch.linspace(-1, 1, 9).expand(1, 3, 9, 9)
        cropped = varied(slope, torch.tensor([[0.0, 0.5, 0.5, 0.5, 0.5]]))
        assert float(cropped[0, 0, 4, 4]) == pytest.approx(0, abs=1e-5)
        assert float(cropped[0, 0, 4, 8]) == pytest.approx(0.7**0.5, abs=1e-3)
