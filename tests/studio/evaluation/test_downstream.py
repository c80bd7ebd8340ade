import json
import logging
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from studio import files
from studio.control import Control
from studio.errors import UsageError
from studio.evaluation.classifier import (
    Course,
    Examples,
    make_task,
    measure_classifier,
    read_backbone,
    train_classifier,
)
from studio.evaluation.study import plan
from studio.events import Event, Finished, MetricMeasured, Phase, Warned
from studio.files import sha256_of
from studio.runs import JobFolder
from studio.settings import DownstreamSettings
from studio.workspace import Workspace, make_workspace, next_numbered
from tests.studio.evaluation.conftest import CLASSES, Run, do, make_batch, make_dataset, picture, tiles_of_classes

ARMS = ("synthetic", "real", "both", "real-d4")
FIGURES = ("overall_accuracy", "average_accuracy", "f1_macro", "f1_micro", "jaccard", "loss")


def settings(**more: object) -> DownstreamSettings:
    return DownstreamSettings(**{"synthetic": "tiles", "real": "land", "size_px": 32, "epochs": 2, "batch": 6, **more})


def untold(done: int) -> None:
    """Nobody asks how far it is."""


def measured(events: list[Event]) -> dict[str, MetricMeasured]:
    return {event.name: event for event in events if isinstance(event, MetricMeasured)}


def warned(events: list[Event]) -> str:
    return " ".join(event.message for event in events if isinstance(event, Warned))


def examples(count: int, seed: int = 0) -> Examples:
    pictures = np.stack([picture(CLASSES[n % 3], seed + n) for n in range(count)])
    return Examples(torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.arange(count) % 3)


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a data set and tiles that nothing in this module changes."""
    workspace = make_workspace(tmp_path_factory.mktemp("workspace"))
    make_dataset(workspace, "land", {"train": 8, "test": 5})
    make_batch(workspace, "tiles", tiles_of_classes(6))
    return workspace


@pytest.fixture(scope="module")
def study(land: Workspace) -> tuple[Finished, list[Event]]:
    """One whole study of two seeds."""
    finished, events, _ = do(land, settings(seeds=2))
    return finished, events


def test_every_arm_is_measured_on_real_pictures(study: tuple[Finished, list[Event]]) -> None:
    finished, events = study
    figures = measured(events)

    assert finished.outcome == "completed"
    assert list(figures) == [f"{arm}/{figure}" for arm in ARMS for figure in FIGURES]
    assert {figure.n_real for figure in figures.values()} == {15}
    assert [figures[f"{arm}/loss"].n_generated for arm in ARMS] == [18, 0, 18, 0]
    assert {(figure.network, figure.weights_sha256) for figure in figures.values()} == {("resnet18", "none")}
    assert all(figure.split_sha256.endswith("test") for figure in figures.values())
    assert "mean of 2 seeds, standard deviation" in figures["both/jaccard"].note
    assert "95 % interval" in figures["real/overall_accuracy"].note


def test_flat_colours_are_learnt_in_a_few_steps() -> None:
    course = Course(classes=3, steps=15, batch=6, learning_rate=1e-3, seed=5, device="cpu")

    task = train_classifier(course, examples(12), True, untold)

    assert measure_classifier(task, examples(15, seed=500), "cpu", untold)["overall_accuracy"] > 0.9


def test_the_report_holds_figures_seeds_confusion_and_comparisons(study: tuple[Finished, list[Event]]) -> None:
    finished, _ = study
    report = json.loads(Path(finished.result["report"]).read_text())
    table = Path(finished.result["table"]).read_text()

    assert report["classes"] == list(CLASSES)
    assert report["steps"] == 2 * 3
    for arm in ARMS:
        confusion = np.array(report["arms"][arm]["confusion"])
        assert confusion.sum(1).tolist() == [10, 10, 10]  # five pictures a class, two seeds
        assert len(report["arms"][arm]["seeds"]["loss"]) == 2
        share = np.trace(confusion) / confusion.sum()
        assert report["arms"][arm]["mean"]["overall_accuracy"] == pytest.approx(share)
    assert [(one["first"], one["second"]) for one in report["comparisons"]] == [
        ("synthetic", "real"), ("both", "real"), ("both", "real-d4"),
    ]  # fmt: skip
    assert "| synthetic | 18 tiles |" in table
    assert "| both | 18 tiles and 18 real |" in table
    assert "McNemar" in table
    assert "bare land" in table


def test_the_figures_are_those_of_the_confusion_matrix() -> None:
    test = examples(12)
    task = make_task(3, 1e-3).eval()
    figures = measure_classifier(task, test, "cpu", untold)

    confusion = np.array(figures["confusion"], float)
    right, of_class, named = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision = np.divide(right, named, out=np.zeros(3), where=named > 0)
    recall = right / of_class
    f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros(3), where=precision + recall > 0)
    assert confusion.sum(1).tolist() == [4, 4, 4]
    assert np.bincount(figures["named"], minlength=3).tolist() == named.tolist()
    assert figures["overall_accuracy"] == pytest.approx(right.sum() / 12)
    assert figures["average_accuracy"] == pytest.approx(recall.mean())
    assert figures["f1_macro"] == pytest.approx(f1.mean())
    assert figures["f1_micro"] == pytest.approx(right.sum() / 12)
    assert figures["jaccard"] == pytest.approx((right / (of_class + named - right)).mean())
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(task(test.pictures.float() / 255), test.classes)
    assert figures["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_the_same_seed_trains_the_same_classifier_and_leaves_the_randomness_of_others_alone() -> None:
    course = Course(classes=3, steps=2, batch=4, learning_rate=1e-3, seed=5, device="cpu")
    torch.manual_seed(11)
    expected = torch.rand(1)

    torch.manual_seed(11)
    first, second = (train_classifier(course, examples(7), True, untold) for _ in range(2))

    assert torch.equal(torch.rand(1), expected)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_fewer_pictures_than_a_batch_are_still_trained_on() -> None:
    course = Course(classes=3, steps=2, batch=16, learning_rate=1e-3, seed=5, device="cpu")
    before = {name: value.clone() for name, value in _fresh(5).named_parameters()}

    task = train_classifier(course, examples(3), False, untold)

    assert any(not torch.equal(value, before[name]) for name, value in task.named_parameters())


def _fresh(seed: int) -> torch.nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make_task(3, 1e-3)


def test_a_classifier_begins_from_a_file_of_weights(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.safetensors"
    save_file({name: value.contiguous() for name, value in _fresh(1).model.state_dict().items()}, file)
    weights = read_backbone(file)

    course = Course(3, steps=1, batch=4, learning_rate=1e-12, seed=2, device="cpu", weights=weights)
    task = train_classifier(course, examples(4), False, untold)

    assert "fc.weight" not in weights
    torch.testing.assert_close(task.model.conv1.weight, weights["conv1.weight"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, "There is no file"),
        (b"PK\x03\x04 a pickle of other times", "is not a safetensors file"),
        ({"unet.weight": torch.zeros(2)}, "holds no weights of a ResNet-18"),
        ({"conv1.weight": torch.zeros(64, 13, 7, 7)}, "holds no weights of a ResNet-18"),
    ],
)
def test_other_weights_are_refused(
    tmp_path: Path, weights: bytes | dict[str, torch.Tensor] | None, message: str
) -> None:
    file = tmp_path / "weights.safetensors"
    if isinstance(weights, bytes):
        file.write_bytes(weights)
    elif weights is not None:
        save_file(weights, file)

    with pytest.raises(UsageError, match=message):
        read_backbone(file)


def test_the_weights_hash_is_told_beside_every_figure(land: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "resnet18.safetensors"
    save_file({name: value.contiguous() for name, value in _fresh(1).model.state_dict().items()}, file)

    _, events, _ = do(land, settings(epochs=1, batch=18, weights=str(file)))

    assert {figure.weights_sha256 for figure in measured(events).values()} == {sha256_of(file)}


def test_a_stopped_study_goes_on_where_it_was(land: Workspace) -> None:
    class StopInTheSecondArm(Control):
        @property
        def stopping(self) -> bool:
            return any(files.read_records(folder.path / "arms.jsonl"))

    folder = JobFolder(next_numbered(land.evaluations, "stopped"))

    stopped, _, _ = do(land, settings(epochs=1), StopInTheSecondArm(), folder)
    known = list(files.read_records(folder.path / "arms.jsonl"))
    finished, events, _ = do(land, settings(epochs=1), folder=folder)

    assert (stopped.outcome, stopped.exit_code) == ("stopped", 75)
    assert [row["arm"] for row in known] == ["synthetic"]
    assert finished.outcome == "completed"
    names = {event.name for event in events if isinstance(event, Phase)}
    assert not any("on synthetic" in name for name in names)
    assert len(measured(events)) == len(ARMS) * len(FIGURES)


def test_a_study_on_a_thread_prints_nothing_and_takes_no_signals(
    land: Workspace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("lightning.pytorch").info("The first line of a logger may go to the screen.")
    capfd.readouterr()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    ends: list[Finished] = []

    thread = threading.Thread(target=lambda: ends.append(do(land, settings(epochs=1))[0]))
    thread.start()
    thread.join()

    assert ends[0].outcome == "completed"
    assert capfd.readouterr() == ("", "")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == handlers
    assert os.listdir(tmp_path) == []


def test_real_training_pictures_are_as_many_of_each_class_as_tiles(land: Workspace) -> None:
    one = plan(land, settings())

    assert len(one.tiles) == len(one.real) == 18
    assert np.bincount([index for _, index in one.real]).tolist() == [6, 6, 6]
    assert not {path for path, _ in one.real} & {path for path, _ in one.test}
    assert all("train" in path.name for path, _ in one.real)
    assert one == plan(land, settings())
    assert one.real != plan(land, settings(seed=1)).real


def test_without_real_training_pictures_only_tiles_are_trained_on(workspace: Workspace, run: Run) -> None:
    make_dataset(workspace, "land", {"test": 2})
    make_batch(workspace, "tiles", tiles_of_classes(2))

    finished, events, _ = run(settings(epochs=1))

    assert finished.outcome == "completed"
    assert {name.partition("/")[0] for name in measured(events)} == {"synthetic"}
    assert "only tiles are trained on" in warned(events)


def test_rare_real_pictures_and_tiles_of_no_class_are_named(workspace: Workspace) -> None:
    make_dataset(workspace, "land", {"train": 2, "test": 2})
    make_batch(workspace, "tiles", [*tiles_of_classes(4), (picture("forest", 1), {"prompt": "an airport"})])

    one = plan(workspace, settings())

    told = " ".join(message for message, _ in one.warnings)
    assert "land has 6 real training pictures for 12 tiles" in told
    assert "1 of 13 tiles show no class of land:test" in told


def test_classes_are_taken_from_prompts_where_tiles_have_no_label(workspace: Workspace) -> None:
    make_dataset(workspace, "land", {"train": 2, "test": 2})
    prompts = [(picture(label, 1), {"prompt": f"a satellite image of {label}"}) for label in CLASSES]
    make_batch(workspace, "tiles", prompts)

    assert [index for _, index in plan(workspace, settings()).tiles] == [0, 1, 2]


@pytest.mark.parametrize("labels", [[], ["forest", "forest"], ["airport", "runway"]])
def test_fewer_than_two_shared_classes_are_refused(workspace: Workspace, run: Run, labels: list[str]) -> None:
    make_dataset(workspace, "land", {"test": 2})
    make_batch(workspace, "tiles", [(picture("forest", n), {"label": label}) for n, label in enumerate(labels)])

    finished, events, _ = run(settings())

    assert finished.exit_code == 2
    assert "and two are needed" in finished.message
    assert not measured(events)
