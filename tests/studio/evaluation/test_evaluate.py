import json
from pathlib import Path

import numpy as np
import pytest

from studio import images
from studio.control import Control
from studio.events import Event, MetricMeasured, Phase, Started, Warned
from studio.files import sha256_of
from studio.measures.distances import frechet_distance, kid
from studio.measures.features import features_of, open_network
from studio.runs import state_of
from studio.settings import EvaluateSettings
from studio.workspace import Workspace, next_numbered
from tests.studio.evaluation.conftest import CLASSES, Run, make_batch, make_dataset, picture, tiles_of_classes

pytestmark = pytest.mark.usefixtures("_tiny_starter")


def settings(**more: object) -> EvaluateSettings:
    return EvaluateSettings(**{"generated": "tiles", "real": "land", "size_px": 32, **more})


def warned(events: list[Event]) -> str:
    return " ".join(event.message for event in events if isinstance(event, Warned))


def measured(events: list[Event]) -> dict[str, MetricMeasured]:
    return {event.name: event for event in events if isinstance(event, MetricMeasured)}


def test_every_figure_comes_with_what_is_needed_to_believe_it(workspace: Workspace, run: Run, starter: Path) -> None:
    make_dataset(workspace, "land", {"train": 4, "valid": 8})
    make_batch(workspace, "tiles", tiles_of_classes(4))

    finished, events, folder = run(settings())

    assert finished.outcome == "completed"
    figures = measured(events)
    assert list(figures) == ["frechet_distance", "kid"]
    for figure in figures.values():
        assert (figure.n_real, figure.n_generated) == (12, 12)
        assert figure.network == "starter-encoder (not comparable with published FID)"
        assert figure.weights_sha256 == sha256_of(starter / "vae" / "diffusion_pytorch_model.safetensors")
        assert figure.split_sha256.endswith("valid")
        assert figure.floor is not None
    assert events[0] == Started("evaluate", "cpu")
    assert any(isinstance(event, Phase) and event.done == event.total == 12 for event in events)
    assert state_of(folder.path).status == "completed"


def test_the_figures_are_the_distances_of_the_features_of_the_pictures(
    workspace: Workspace, run: Run, starter: Path
) -> None:
    data = make_dataset(workspace, "land", {"valid": 4})
    batch = make_batch(workspace, "tiles", tiles_of_classes(4))

    _, events, _ = run(settings(seed=7))

    network = open_network("starter-encoder", starter=starter)
    real, tiles = (
        features_of(network, (np.asarray(images.open_picture(path)) for path in sorted(folder.glob("*.png"))))
        for folder in (data / "images", batch / "tiles")
    )
    figures = measured(events)
    assert figures["frechet_distance"].value == pytest.approx(frechet_distance(real, tiles), rel=1e-4)
    # Which rows make a subset depends on their order; the mean over subsets does so little.
    mean, deviation = kid(real, tiles)
    assert abs(figures["kid"].value - mean) < deviation


def test_tiles_like_the_real_ones_are_nearer_than_others(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 12})
    make_batch(workspace, "alike", tiles_of_classes(6))
    make_batch(workspace, "monotone", [(picture("forest", seed), {}) for seed in range(18)])

    alike = measured(run(settings(generated="alike"))[1])
    monotone = measured(run(settings(generated="monotone"))[1])

    for name in ("frechet_distance", "kid"):
        assert alike[name].value < monotone[name].value
    assert alike["frechet_distance"].value < 2 * alike["frechet_distance"].floor
    assert monotone["frechet_distance"].value > monotone["frechet_distance"].floor


def test_the_report_has_every_figure_for_programs_and_for_people(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 4})
    make_batch(workspace, "tiles", tiles_of_classes(2))

    finished, events, folder = run(settings(metrics=("kid",)))

    report = json.loads(Path(finished.result["report"]).read_text())
    table = Path(finished.result["table"]).read_text()
    assert Path(finished.result["report"]).parent == folder.path
    assert [metric["name"] for metric in report["metrics"]] == ["kid"]
    assert (report["n"], report["tiles_found"], report["real_found"]) == (6, 6, 12)
    assert "# tiles against land:valid" in table
    assert f"{measured(events)['kid'].value:.4g}" in table
    assert "not comparable with published FID" in table


def test_a_split_can_be_named_with_the_data_set_or_apart(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"train": 2, "valid": 4, "test": 4})
    make_batch(workspace, "tiles", tiles_of_classes(2))

    for named in (settings(real="land:test"), settings(split="test")):
        _, events, _ = run(named)
        assert measured(events)["kid"].split_sha256.endswith("test")


def test_a_small_split_borrows_for_the_floor_and_says_so(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"train": 2, "valid": 2})
    make_batch(workspace, "tiles", tiles_of_classes(4))

    _, events, _ = run(settings())

    figure = measured(events)["frechet_distance"]
    assert (figure.n_real, figure.n_generated) == (6, 6)
    assert figure.floor is not None
    assert "the floor is measured with 6 of other splits" in warned(events)


def test_too_few_real_pictures_leave_the_figures_without_a_floor(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 2})
    make_batch(workspace, "tiles", tiles_of_classes(4))

    finished, events, _ = run(settings())

    assert finished.outcome == "completed"
    assert measured(events)["frechet_distance"].floor is None
    assert "too few to compare 6 real ones with 6 others" in warned(events)
    assert "6 pictures a side say little" in warned(events)


def test_a_model_trained_on_the_split_is_named(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"train": 4})
    batch = make_batch(workspace, "tiles", tiles_of_classes(2))
    trained = next_numbered(workspace.runs, "lora")
    (trained / "config.toml").write_text('[settings.data]\nname = "land"\nsplit = "train"\n')
    (batch / "config.toml").write_text('[settings]\nmodel = "lora@100"\n')

    _, events, _ = run(settings(real="land:train"))

    assert "The model of tiles was trained on land:train." in warned(events)


def framed(label: str, seed: int) -> np.ndarray:
    array = picture(label, seed)
    array[:4], array[-4:], array[:, :4], array[:, -4:] = 0, 0, 0, 0
    return array


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ([(framed(label, 3), {}) for label in CLASSES], "3 of the 3 pictures of tiles have a black border"),
        (tiles_of_classes(2, size_px=16), "tiles has pictures of 16 px, which would be enlarged to 32 px"),
        # The same seeds and labels as the pictures of the split.
        (
            [(picture(CLASSES[n], 1000 + n), {}) for n in range(3)],
            "3 of the 3 tiles are, pixel by pixel, pictures of land",
        ),
        ([(picture("forest", 1), {})], "The batch tiles has 1 pictures, too few to compare"),
        ([], "The batch tiles has 0 pictures"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(
    workspace: Workspace, run: Run, tiles: list[tuple[np.ndarray, dict[str, str]]], message: str
) -> None:
    make_dataset(workspace, "land", {"valid": 1})
    make_batch(workspace, "tiles", tiles)

    finished, events, _ = run(settings())

    assert finished.outcome == "failed"
    assert finished.exit_code == 2
    assert message in finished.message
    assert not measured(events)


def test_dark_pictures_are_not_taken_for_padded_ones(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 2})
    dark = [np.random.default_rng(seed).integers(0, 8, (32, 32, 3), dtype=np.uint8) for seed in range(6)]
    make_batch(workspace, "tiles", [(array, {}) for array in dark])

    assert run(settings())[0].outcome == "completed"


def test_jpegs_of_the_compared_size_are_named(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 2}, suffix="jpg")
    make_dataset(workspace, "large", {"valid": 2}, size_px=64, suffix="jpg")
    make_batch(workspace, "tiles", tiles_of_classes(2))

    assert "JPEG" in warned(run(settings())[1])
    assert "JPEG" not in warned(run(settings(real="large"))[1])


def test_a_stop_ends_the_measurement_and_it_can_be_done_again(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 4})
    make_batch(workspace, "tiles", tiles_of_classes(4))
    control = Control()
    control.ask("stop")

    finished, events, folder = run(settings(), control)

    assert (finished.outcome, finished.exit_code) == ("stopped", 75)
    assert not measured(events)
    assert run(settings(), folder=folder)[0].outcome == "completed"


def test_what_does_not_exist_is_refused_with_the_nearest_name(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"valid": 1})
    make_batch(workspace, "tiles", tiles_of_classes(2))

    assert "Did you mean tiles?" in run(settings(generated="tile"))[0].hint
    assert "Did you mean land?" in run(settings(real="lnd"))[0].hint
    assert "Did you mean valid?" in run(settings(split="vald"))[0].hint
    assert "Did you mean starter-encoder?" in run(settings(network="starter"))[0].hint
