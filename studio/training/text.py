"""Teaching a text encoder what captions say before a UNet listens: the class, and which of many pictures is meant."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from studio.context import Context
from studio.errors import UsageError
from studio.events import MetricMeasured, PreviewSaved
from studio.measures.features import SCENES, features_of, open_network
from studio.models.load import DTYPES, DiffusionModel, load_model
from studio.models.registry import resolve
from studio.models.saving import save_pipeline
from studio.settings import TextMethod, TrainSettings
from studio.training.batches import Draw, draws
from studio.training.pictures import Pictures, known_classes, open_pictures

_JOINT_WIDTH = 128
_FIRST_SHARPNESS = math.log(1 / 0.07)
_HARDEST = math.log(100.0)


@dataclass
class Reading:
    """A text encoder in training; see `studio.training.train` for the loop.

    Radford et al. 2021, with a picture encoder that is already trained and stays as it is, and the class beside it.
    """

    context: Context
    settings: TrainSettings
    method: TextMethod
    model: DiffusionModel
    heads: nn.ModuleDict
    sharpness: nn.Parameter
    parameters: dict[str, nn.Parameter]
    training: Pictures
    measured: Pictures
    classes: list[str]
    seen: Tensor
    """Features (n, width) of the training pictures, standardised."""
    seen_measured: Tensor
    buffers: dict[str, Tensor] = field(default_factory=dict)
    bins: list[float] = field(default_factory=list)

    def prepare(self) -> bool:
        """The features of every picture were computed when the model was opened: seconds."""
        return True

    def encode(self, steps: range) -> bool:
        return True

    def loss(self, step: int, rows: range) -> Tensor:
        """Cross-entropy of telling the pictures of a step apart by their captions, and of naming their classes."""
        chosen = self.draws(step)[rows.start : rows.stop]
        captions = [self.training.caption(draw) for draw in chosen]
        places = [draw.picture for draw in chosen]
        return self._error(captions, self.seen[places], self._labels(self.training, places))

    @torch.no_grad()
    def validation_loss(self) -> float:
        captions = [picture.captions[0] if picture.captions else "" for picture in self.measured.pictures]
        labels = self._labels(self.measured, list(range(len(self.measured))))
        return float(self._error(captions, self.seen_measured, labels))

    def preview(self, step: int) -> list[PreviewSaved]:
        """An encoder of text draws nothing."""
        return []

    @torch.no_grad()
    def measure(self, step: int) -> MetricMeasured:
        """Share of the held-out pictures whose class is told from their captions, each caption for itself."""
        pairs = [(caption, place) for place, one in enumerate(self.measured.pictures) for caption in one.captions]
        labels = self._labels(self.measured, [place for _, place in pairs])
        named = [
            self.heads["classes"](self._read([caption for caption, _ in pairs[start : start + 256]])).argmax(1)
            for start in range(0, len(pairs), 256)
        ]
        return MetricMeasured(
            "caption_accuracy",
            float((torch.cat(named) == labels).float().mean()),
            n_real=len(pairs),
            n_generated=0,
            network="the text encoder in training",
            weights_sha256="",
            split_sha256=self.measured.sha256,
            floor=1 / len(self.classes),
            step=step,
        )

    def write(self, folder: Path) -> None:
        defaults = resolve(self.context.workspace, self.settings.base).defaults()
        save_pipeline(self.model, folder / "model", defaults.guidance or 4.0, defaults.steps or 20, torch.float16)

    def state(self) -> dict[str, object]:
        return {"objective": self.model.objective, "normalisation": self.model.normalisation}

    def draws(self, step: int) -> list[Draw]:
        data, optimiser = self.settings.data, self.settings.optimiser
        counts = self.training.caption_counts
        return draws(self.settings.seed, step, optimiser.effective_batch, counts, 1, 0.0, data.class_captions)

    def _error(self, captions: list[str], seen: Tensor, labels: Tensor) -> Tensor:
        device = self.model.device
        read = self._read(captions)
        naming = functional.cross_entropy(self.heads["classes"](read), labels)
        texts = functional.normalize(self.heads["texts"](read), dim=1)
        pictures = functional.normalize(self.heads["pictures"](seen.to(device)), dim=1)
        likeness = texts @ pictures.T * self.sharpness.clamp(max=_HARDEST).exp()
        # Pictures that share a caption are as right as each other.
        same = torch.tensor([[one == other for other in captions] for one in captions], device=device).float()
        same = same / same.sum(1, keepdim=True)
        telling = functional.cross_entropy(likeness, same) + functional.cross_entropy(likeness.T, same)
        return telling / 2 + self.method.class_weight * naming

    def _read(self, captions: list[str]) -> Tensor:
        """The state (n, width) of the end token, which has seen the whole caption; float32."""
        tokens = self.model.tokenizer(captions, padding=True, truncation=True, max_length=77, return_tensors="pt")
        precision = DTYPES[self.settings.optimiser.precision]
        with torch.autocast(self.model.device.type, precision, enabled=precision != torch.float32):
            read: Tensor = self.model.text_encoder(tokens.input_ids.to(self.model.device)).pooler_output
        return read.float()

    def _labels(self, pictures: Pictures, places: list[int]) -> Tensor:
        found = [self.classes.index(pictures.pictures[place].label) for place in places]
        return torch.tensor(found, device=self.model.device)


def open_text(context: Context, settings: TrainSettings) -> Reading:
    """Load the base, and look at every picture once with the scene network.

    Raises:
        UsageError: the pictures have no classes, or the base has two text encoders.
    """
    method = settings.method
    assert isinstance(method, TextMethod)
    training, measured = open_pictures(context, settings)
    classes = known_classes(training, measured)
    model = load_model(resolve(context.workspace, settings.base), context.device)
    if model.text_encoder_2 is not None:
        raise UsageError(
            f"{settings.base} has two text encoders, and the method text teaches models of one.",
            "A LoRA can change both: --set method.text_encoder=true.",
        )
    network = open_network(SCENES, context.device)
    seen, seen_measured = (
        torch.from_numpy(features_of(network, (some.pixels(place).transpose(1, 2, 0) for place in range(len(some)))))
        for some in (training, measured)
    )
    mean, deviation = seen.mean(0), seen.std(0).clamp_min(1e-3)
    torch.manual_seed(settings.seed)
    width = int(model.text_encoder.config.hidden_size)
    heads = nn.ModuleDict(
        {
            "classes": nn.Linear(width, len(classes)),
            "texts": nn.Linear(width, _JOINT_WIDTH, bias=False),
            "pictures": nn.Linear(seen.shape[1], _JOINT_WIDTH, bias=False),
        }
    ).to(context.device)
    sharpness = nn.Parameter(torch.tensor(_FIRST_SHARPNESS, device=context.device))
    model.text_encoder.requires_grad_(True).train()
    parameters = {f"text_encoder.{name}": one for name, one in model.text_encoder.named_parameters()}
    parameters |= {f"heads.{name}": one for name, one in heads.named_parameters()} | {"sharpness": sharpness}
    return Reading(
        context, settings, method, model, heads, sharpness, parameters, training, measured, classes,
        (seen - mean) / deviation, (seen_measured - mean) / deviation,
    )  # fmt: skip
