"""TorchGeo's ResNet-18 classifier, trained and tested in one flat loop on pictures held in memory.

TorchGeo's task brings network, loss and measures. Lightning's trainer around it is left out: it installs signal
handlers, prints to the screen, writes logs where it stands, and trains nothing, without a word, where no batch is full.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from studio.datasets.augmentation import orient
from studio.errors import StudioError, UsageError
from studio.measures.weights import read_weights
from studio.settings import D4

TEST_BATCH = 64
SETTLE_PICTURES = 1024
Tell = Callable[[int], None]
"""Is told how many pieces are done, and raises where to stop."""


@dataclass(frozen=True)
class Examples:
    """uint8 pictures (n, 3, height, width) and their classes (n)."""

    pictures: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def __add__(self, other: "Examples") -> "Examples":
        return Examples(torch.cat([self.pictures, other.pictures]), torch.cat([self.classes, other.classes]))


@dataclass(frozen=True)
class Course:
    """How a classifier is trained: every arm the same number of steps, so that none sees more pictures than another."""

    classes: int
    steps: int
    batch: int
    learning_rate: float
    seed: int
    device: str
    weights: dict[str, Tensor] | None = None


def read_backbone(file: Path) -> dict[str, Tensor]:
    """The weights of a ResNet-18 without its last layer, from a safetensors file.

    Raises:
        UsageError: there is no such file, it is no safetensors file, or holds another network's weights.
    """
    weights = {name: weight for name, weight in read_weights(file).items() if not name.startswith("fc.")}
    _load(make_task(2, 1e-3), weights, str(file))
    return weights


def make_task(classes: int, learning_rate: float) -> Any:
    """TorchGeo's classification task: a ResNet-18 from nothing, cross-entropy, and its four measures with two more."""
    from torchgeo.trainers import ClassificationTask
    from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassF1Score

    task = ClassificationTask("resnet18", None, 3, "multiclass", num_classes=classes, loss="ce", lr=learning_rate)
    # TorchGeo's F1 is averaged over pictures, which makes it the overall accuracy once more.
    task.test_metrics.add_metrics(
        {"F1Macro": MulticlassF1Score(classes, average="macro"), "ConfusionMatrix": MulticlassConfusionMatrix(classes)}
    )
    return task


def train_classifier(course: Course, examples: Examples, augmented: bool, tell: Tell) -> Any:
    """A task trained on the examples, in random flips and rotations where augmented.

    Raises:
        StudioError: the loss is no longer a number.
    """
    with torch.random.fork_rng([course.device] if course.device.startswith("cuda") else []):
        torch.manual_seed(course.seed)
        task = make_task(course.classes, course.learning_rate)
    if course.weights is not None:
        _load(task, course.weights, "the file")
    task = task.to(course.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(task.parameters(), lr=course.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1 + math.cos(math.pi * step / course.steps)) / 2
    )
    random = torch.Generator().manual_seed(course.seed)
    batches = _batches(len(examples), min(course.batch, len(examples)), random)
    for step in range(course.steps):
        tell(step)
        chosen = next(batches)
        pictures = examples.pictures[chosen]
        if augmented:
            pictures = _turned(pictures, random)
        loss = task.criterion(task(_input(pictures, course.device)), examples.classes[chosen].to(course.device))
        if not math.isfinite(loss.item()):
            raise StudioError("The classifier's loss is no longer a number.", "Lower the learning rate.")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    _settle(task, examples, course.device, random)
    return task.eval()


def measure_classifier(task: Any, examples: Examples, device: str, tell: Tell) -> dict[str, Any]:
    """Figures of a trained task, its confusion matrix (true, named) and the class it named for each example."""
    task.test_metrics.reset()
    total, named = 0.0, []
    with torch.inference_mode():
        for start in range(0, len(examples), TEST_BATCH):
            tell(start)
            classes = examples.classes[start : start + TEST_BATCH].to(device)
            scores = task(_input(examples.pictures[start : start + TEST_BATCH], device))
            total += task.criterion(scores, classes).item() * len(classes)
            task.test_metrics.update(scores, classes)
            named += scores.argmax(1).tolist()
    measured = task.test_metrics.compute()
    return {
        "overall_accuracy": measured["test_OverallAccuracy"].item(),
        "average_accuracy": measured["test_AverageAccuracy"].item(),
        "f1_macro": measured["test_F1Macro"].item(),
        "f1_micro": measured["test_F1Score"].item(),
        "jaccard": measured["test_JaccardIndex"].item(),
        "loss": total / len(examples),
        "confusion": measured["test_ConfusionMatrix"].tolist(),
        "named": named,
    }


def _batches(count: int, size: int, random: torch.Generator) -> Iterator[Tensor]:
    """Whole batches for ever, one shuffle after the other: a last batch of one picture would have no variance."""
    waiting = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(count, generator=random)])
        yield waiting[:size]
        waiting = waiting[size:]


def _settle(task: Any, examples: Examples, device: str, random: torch.Generator) -> None:
    """Let batch normalisation average over training pictures as the network is now.

    Its running averages lag a hundred steps behind, which a short training would be tested with.
    """
    chosen = torch.randperm(len(examples), generator=random)[:SETTLE_PICTURES]
    pieces = chosen.tensor_split(math.ceil(len(chosen) / TEST_BATCH))  # alike, so that none is of one picture
    update_bn((_input(examples.pictures[piece], device) for piece in pieces), task.model)


def _turned(pictures: Tensor, random: torch.Generator) -> Tensor:
    turns = torch.randint(len(D4), (len(pictures),), generator=random).tolist()
    return torch.stack([orient(picture, D4[turn]) for picture, turn in zip(pictures, turns, strict=True)])


def _input(pictures: Tensor, device: str) -> Tensor:
    # 0 to 1, which the Sentinel-2 weights expect of 8-bit pictures; their own transform divides by 10,000.
    return pictures.to(device).float().div(255).contiguous(memory_format=torch.channels_last)


def _load(task: Any, weights: dict[str, Tensor], source: str) -> None:
    from torchgeo.trainers.utils import load_state_dict

    first = weights.get("conv1.weight")
    try:
        fits = first is not None and first.shape[1] == 3  # other counts of bands would only be warned of, and skipped
        missing, unexpected = load_state_dict(task.model, dict(weights)) if fits else ([], ["conv1.weight"])
    except RuntimeError:  # shapes of another network
        missing, unexpected = [], ["conv1.weight"]
    if set(missing) - {"fc.weight", "fc.bias"} or unexpected:
        raise UsageError(f"{source} holds no weights of a ResNet-18 for RGB.", "Use timm's or TorchGeo's layout.")
