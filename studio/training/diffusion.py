"""Learning to denoise latents: the loss of each step, and how to look at and write what came of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from studio.context import Context
from studio.datasets.augmentation import has_direction_words
from studio.events import MetricMeasured, PreviewSaved, Warned
from studio.memory import AtOnce
from studio.models.load import DTYPES, DiffusionModel
from studio.models.modelspec import architecture_of
from studio.models.saving import save_part, save_pipeline
from studio.settings import D4, LoraMethod, ScratchMethod, TrainSettings
from studio.training.adapters import write_lora
from studio.training.batches import (
    Draw,
    draws,
    dropout_seed,
    noise_generator,
    turns_by_a_quarter,
)
from studio.training.buckets import members
from studio.training.cache import Entry, sample
from studio.training.encoding import Encodings
from studio.training.measuring import loss_by_time, measure_kid
from studio.training.objective import (
    alphas_cumprod,
    draw_timesteps,
    even_timesteps,
    min_snr_weights,
    noised,
    with_offset,
)
from studio.training.pictures import Pictures, is_quarter_turn
from studio.training.previews import save_previews

_VALIDATION_BATCH = 16


@dataclass
class Diffusion:
    """A model in training with all that its loss needs; see `studio.training.train` for the loop."""

    context: Context
    settings: TrainSettings
    model: DiffusionModel
    parameters: dict[str, nn.Parameter]
    training: Pictures
    measured: Pictures
    encodings: Encodings
    buffers: dict[str, Tensor] = field(default_factory=dict)
    bins: list[float] = field(default_factory=list)
    alphas: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.alphas = alphas_cumprod(self.model.scheduler)
        self.objective = self.model.objective
        self.precision = DTYPES[self.settings.optimiser.precision]
        self._validated_at_once = AtOnce(_VALIDATION_BATCH)
        self._scaling = float(self.model.vae.config.scaling_factor)
        self._buckets = members(self.training.shapes) if self.training.shapes else []
        # Models of SDXL's kind are told how large a picture was and where it was cropped.
        self._is_told_frames = self.model.unet.config.addition_embed_type == "text_time"

    def draws(self, step: int) -> list[Draw]:
        """The pictures of one optimiser step, all its forward passes together."""
        seed, data = self.settings.seed, self.settings.data
        allowed = [D4.index(one) for one in data.orientations]
        if self._buckets:
            turned = [one for one in allowed if is_quarter_turn(one)]
            turns = turns_by_a_quarter(seed, step, len(turned) / len(allowed))
            allowed = turned if turns else [one for one in allowed if not is_quarter_turn(one)]
        chosen = draws(
            seed,
            step,
            self.settings.optimiser.effective_batch,
            self.training.caption_counts,
            len(allowed),
            data.caption_dropout,
            data.class_captions,
            self._buckets,
        )
        return [Draw(one.picture, allowed[one.orientation], one.caption) for one in chosen]

    def prepare(self) -> bool:
        """Look for pixels without data, and encode what is measured on; False if asked to stop meanwhile.

        Raises:
            UsageError: the disk has too little room for all that the run will encode.
        """
        self._warn_of_directions()
        orientations = [D4.index(one) for one in self.settings.data.orientations]
        optimiser = self.settings.optimiser
        self.encodings.check_room(self.training, optimiser.steps * optimiser.effective_batch, orientations)
        whole = [(index, 0) for index in range(len(self.measured))]
        encodings = self.encodings
        return (
            encodings.fill_masks(self.training)
            and encodings.fill_masks(self.measured)
            and encodings.fill_latents(self.measured, whole)
            and encodings.fill_texts(self._measured_captions())
        )

    def encode(self, steps: range) -> bool:
        """Encode the pictures and captions that some steps draw; False if asked to stop meanwhile."""
        self.encodings.step = steps.start
        drawn = [draw for step in steps for draw in self.draws(step)]
        entries = {(draw.picture, draw.orientation) for draw in drawn}
        captions = {self.training.caption(draw) for draw in drawn}
        return self.encodings.fill_latents(self.training, entries) and self.encodings.fill_texts(captions)

    def loss(self, step: int, rows: range) -> Tensor:
        """Mean squared error of some rows of a step, each over the cells of its latent that hold data."""
        some = slice(rows.start, rows.stop, rows.step)
        every = self.draws(step)
        chosen = every[some]
        entries = [(draw.picture, draw.orientation) for draw in chosen]
        mean, log_variance = self.encodings.moments(self.training, entries)
        # Drawn for the whole step, so that a row's noise does not depend on those beside it in memory.
        generator = noise_generator(self.settings.seed, step)
        shape = (len(every), *mean.shape[1:])
        latents = sample(mean, log_variance, torch.randn(shape, generator=generator)[some]) * self._scaling
        noise = torch.randn(shape, generator=generator)[some]
        times = draw_timesteps(self.objective, len(every), generator)[some]
        optimiser = self.settings.optimiser
        if optimiser.offset_noise:
            offsets = torch.randn((*shape[:2], 1, 1), generator=generator)[some]
            noise = with_offset(noise, offsets, optimiser.offset_noise)
        captions = [self.training.caption(draw) for draw in chosen]
        with self._leaving_out(step, rows.start):
            errors = self._errors(self.training, entries, captions, latents, noise, times)
        share = self._share(self.training, entries)
        if not optimiser.min_snr_gamma and share is None:
            return errors.mean()  # one sum, as diffusers takes it: other orders differ in the last bit
        of_rows = row_means(errors, share)
        if optimiser.min_snr_gamma:
            weights = min_snr_weights(self.objective, times, self.alphas, optimiser.min_snr_gamma)
            of_rows = of_rows * self._sent(weights)
        return of_rows.mean()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Mean squared error on the fixed pictures, with fixed noise and evenly spread timesteps, none weighed more."""
        count = len(self.measured)
        generator = noise_generator(self.settings.seed, 2**62)
        shapes = [self.measured.shape(index) for index in range(count)]
        groups = [torch.tensor(group) for group in members(shapes)]
        means = [self.encodings.moments(self.measured, [(int(one), 0) for one in group])[0] for group in groups]
        noises = [torch.randn(mean.shape, generator=generator) for mean in means]
        # Shuffled once, so that the order of the pictures, by class, does not decide their timesteps.
        times = even_timesteps(count)[torch.randperm(count, generator=generator)]
        captions = self._measured_captions()
        losses = torch.empty(count, dtype=torch.float64)

        def of_rows(some: Sequence[tuple[int, Tensor, Tensor]]) -> Tensor:
            entries = [(index, 0) for index, *_ in some]
            latents, drawn = (torch.stack(ones) for ones in list(zip(*some, strict=True))[1:])
            said, when = [captions[index] for index, _ in entries], times[[index for index, _ in entries]]
            errors = self._errors(self.measured, entries, said, latents * self._scaling, drawn, when)
            return row_means(errors, self._share(self.measured, entries)).double().cpu()

        with self.model.at_rest():
            for group, mean, noise in zip(groups, means, noises, strict=True):
                rows = list(zip(group.tolist(), mean, noise, strict=True))
                losses[group] = torch.cat(self._validated_at_once.parts(rows, of_rows))
        self.bins = loss_by_time(losses, times)
        return float(losses.mean())

    def preview(self, step: int) -> list[PreviewSaved]:
        with self.model.at_rest():
            return save_previews(self.model, self.settings, self.context.folder.path, step)

    def measure(self, step: int) -> MetricMeasured:
        with self.model.at_rest():
            return measure_kid(self.model, self.settings, self.measured, self.training, step)

    def write(self, folder: Path) -> None:
        """Write the model, as it is now, in the form that other tools load."""
        match self.settings.method:
            case LoraMethod() as method:
                write_lora(self.model, method, folder / "lora")
            case ScratchMethod():
                saving = self.settings.saving
                guidance, steps = saving.preview_guidance, saving.preview_steps
                save_pipeline(self.model, folder / "model", guidance, steps, torch.float16)
            case _:
                save_part(self.model.unet, folder / "unet")

    def state(self) -> dict[str, object]:
        architecture = architecture_of(self.model.unet.config, self.objective)
        return {
            "objective": self.objective,
            "normalisation": self.training.normalisation,
            "architecture": architecture,
        }

    def _errors(
        self,
        pictures: Pictures,
        entries: Sequence[Entry],
        captions: Sequence[str],
        latents: Tensor,
        noise: Tensor,
        times: Tensor,
    ) -> Tensor:
        """Squared errors (n, channels, height, width) of what is predicted for latents as the UNet sees them."""
        inputs, steps, target = noised(self.objective, latents, noise, times, self.alphas)
        frames = self._sent(pictures.frames(entries)) if self._is_told_frames else None
        device = self.model.device
        with torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32):
            text = self.encodings.text(captions)
            predicted = self.model.predict(self._sent(inputs), self._sent(steps), text, frames)
        return (predicted.float() - self._sent(target)).pow(2)

    def _share(self, pictures: Pictures, entries: Sequence[Entry]) -> Tensor | None:
        share = self.encodings.masks(pictures, entries)
        return None if share is None else self._sent(share)

    def _sent(self, tensor: Tensor) -> Tensor:
        """On the model's device, without waiting for what the device is doing."""
        if self.model.device.type != "cuda":
            return tensor.to(self.model.device)
        return tensor.pin_memory().to(self.model.device, non_blocking=True)

    @contextmanager
    def _leaving_out(self, step: int, row: int) -> Iterator[None]:
        """Let what is left out at random follow from the step and the first row, so that a resumed run repeats it."""
        if not (isinstance(self.settings.method, LoraMethod) and self.settings.method.dropout):
            yield
            return
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(dropout_seed(self.settings.seed, step, row))
            yield

    def _measured_captions(self) -> list[str]:
        return [picture.captions[0] if picture.captions else "" for picture in self.measured.pictures]

    def _warn_of_directions(self) -> None:
        if set(self.settings.data.orientations) == {"identity"} or self.settings.data.class_captions == 1:
            return
        captions = [caption for picture in self.training.pictures for caption in picture.captions]
        found = [caption for caption in captions if has_direction_words(caption)]
        if found:
            examples = "; ".join(f"“{caption}”" for caption in dict.fromkeys(found[:3]))
            self.context.emit(
                Warned(
                    f"{len(found)} of {len(captions)} captions name directions, which turning belies: {examples}.",
                    "Train upright with --set 'orientations=[\"identity\"]', or change those captions.",
                )
            )


def row_means(errors: Tensor, share: Tensor | None) -> Tensor:
    """Mean error (n,) of each row of (n, channels, height, width), over the share (n, 1, height, width) with data."""
    if share is None:
        return errors.mean(dim=(1, 2, 3))
    # Of a picture without any data nothing can be learnt.
    return (errors.mean(dim=1, keepdim=True) * share).sum(dim=(1, 2, 3)) / share.sum(dim=(1, 2, 3)).clamp(min=1e-6)
