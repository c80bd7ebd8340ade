"""Learning to name scenes: the small network whose features the studio measures pictures with."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from studio.context import Context
from studio.datasets.augmentation import orient
from studio.events import MetricMeasured, PreviewSaved
from studio.models.load import DTYPES
from studio.models.quiet import quiet_libraries
from studio.models.scenes import SceneNetwork, new_scene_network, save_scene_network
from studio.settings import D4, ScenesMethod, TrainSettings
from studio.training.batches import Draw, draws, noise_generator
from studio.training.pictures import Pictures, known_classes, open_pictures

_SMALLEST_CROP = 0.7
_BRIGHTNESS = 0.15
_CONTRAST = 0.2


@dataclass
class SceneNaming:
    """A scene network in training; see `studio.training.train` for the loop."""

    context: Context
    settings: TrainSettings
    method: ScenesMethod
    network: SceneNetwork
    parameters: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    training: Pictures
    measured: Pictures
    kept: dict[int, Tensor] = field(default_factory=dict)
    """Pixels of training pictures that were read before."""
    bins: list[float] = field(default_factory=list)

    def prepare(self) -> bool:
        """Nothing is cached on disk: pictures of this size fit in memory."""
        return True

    def encode(self, steps: range) -> bool:
        return True

    def loss(self, step: int, rows: range) -> Tensor:
        """Cross-entropy with smoothed labels over turned, cropped and tinted pictures."""
        chosen = self.draws(step)[rows.start : rows.stop]
        generator = noise_generator(self.settings.seed, step)
        chances = torch.rand(self.settings.optimiser.effective_batch, 5, generator=generator)[rows.start : rows.stop]
        pictures = varied(torch.stack([self._pixels(draw) for draw in chosen]), chances).to(self.device)
        labels = self._labels(self.training, [draw.picture for draw in chosen])
        scores = self._scores(pictures)
        smoothing = self.method.label_smoothing
        error: Tensor = functional.cross_entropy(scores, labels, label_smoothing=smoothing)
        return error

    @torch.no_grad()
    def validation_loss(self) -> float:
        scores, labels = self._measured_scores()
        return float(functional.cross_entropy(scores, labels))

    def preview(self, step: int) -> list[PreviewSaved]:
        """A network that names pictures draws none."""
        return []

    @torch.no_grad()
    def measure(self, step: int) -> MetricMeasured:
        """Share of held-out pictures that are named rightly; chance is the floor."""
        scores, labels = self._measured_scores()
        return MetricMeasured(
            "accuracy",
            float((scores.argmax(1) == labels).float().mean()),
            n_real=len(labels),
            n_generated=0,
            network="the one in training",
            weights_sha256="",
            split_sha256=self.measured.sha256,
            floor=1 / len(self.network.classes),
            step=step,
        )

    def write(self, folder: Path) -> None:
        save_scene_network(self.network, folder / "scenes", torch.float16)

    def state(self) -> dict[str, object]:
        return {"classes": self.network.classes}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def draws(self, step: int) -> list[Draw]:
        data, effective = self.settings.data, self.settings.optimiser.effective_batch
        counts = self.training.caption_counts
        chosen = draws(self.settings.seed, step, effective, counts, len(data.orientations), 0.0, 0.0)
        return [Draw(one.picture, D4.index(data.orientations[one.orientation]), one.caption) for one in chosen]

    def _pixels(self, draw: Draw) -> Tensor:
        if draw.picture not in self.kept:
            self.kept[draw.picture] = torch.from_numpy(self.training.pixels(draw.picture))
        return orient(self.kept[draw.picture], D4[draw.orientation]).float() / 127.5 - 1

    def _labels(self, pictures: Pictures, places: list[int]) -> Tensor:
        classes = self.network.classes
        return torch.tensor([classes.index(pictures.pictures[place].label) for place in places], device=self.device)

    def _scores(self, pictures: Tensor) -> Tensor:
        precision = DTYPES[self.settings.optimiser.precision]
        with torch.autocast(self.device.type, precision, enabled=precision != torch.float32):
            scores: Tensor = self.network(pictures)
        return scores.float()

    def _measured_scores(self) -> tuple[Tensor, Tensor]:
        places = list(range(len(self.measured)))
        pictures = self.measured.tensor([(place, 0) for place in places]).to(self.device)
        self.network.eval()
        scores = torch.cat([self._scores(some) for some in pictures.split(128)])  # type: ignore[no-untyped-call]
        self.network.train()  # its running means are those of training alone
        return scores, self._labels(self.measured, places)


def varied(pictures: Tensor, chances: Tensor) -> Tensor:
    """Crop, tint and brighten pictures (n, 3, size, size), as five chances (n, 5) in [0, 1) for each say."""
    scale = torch.lerp(torch.tensor(_SMALLEST_CROP), torch.tensor(1.0), chances[:, 0]).sqrt()
    shift = (2 * chances[:, 1:3] - 1) * (1 - scale[:, None])
    frames = torch.zeros(len(pictures), 2, 3)
    frames[:, 0, 0] = frames[:, 1, 1] = scale
    frames[:, :, 2] = shift
    grid = functional.affine_grid(frames, list(pictures.shape), align_corners=False)
    cropped = functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    contrast = torch.exp((2 * chances[:, 3] - 1) * math.log1p(_CONTRAST)).view(-1, 1, 1, 1)
    brightness = ((2 * chances[:, 4] - 1) * _BRIGHTNESS).view(-1, 1, 1, 1)
    return cropped * contrast + brightness


def open_scenes(context: Context, settings: TrainSettings) -> SceneNaming:
    """Make a network for the classes of a data set.

    Raises:
        UsageError: its pictures have no classes.
    """
    assert isinstance(settings.method, ScenesMethod)
    quiet_libraries()
    training, measured = open_pictures(context, settings)
    classes = known_classes(training, measured)
    method = settings.method
    network = new_scene_network(classes, method.widths, method.input_px, settings.seed).to(context.device)
    network.train()
    return SceneNaming(
        context, settings, method, network, dict(network.named_parameters()), dict(network.named_buffers()),
        training, measured,
    )  # fmt: skip
