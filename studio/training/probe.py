"""What a run forgets: tiles and predictions of fixed prompts, against those of the base before its first step."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studio import files
from studio.events import Event, MetricMeasured, PreviewSaved, Warned
from studio.images import save_tile
from studio.measures.diversity import change, vendi_score
from studio.measures.features import SCENES, STARTER_ENCODER, Network, open_network
from studio.models.load import DTYPES, DiffusionModel
from studio.settings import TrainSettings
from studio.training.batches import noise_generator
from studio.training.objective import alphas_cumprod, noised
from studio.training.previews import FIRST_SEED, latents_of, pixels_of, sampler_of
from studio.training.probe_prompts import NATURAL, REMOTE_SENSING
from studio.workspace import SCENES as SCENES_FOLDER

SEEDS = 4
PROMPTS = (*NATURAL, *REMOTE_SENSING)
_TIMES = (0.125, 0.375, 0.625, 0.875)
_NOISE_STEP = 2**62 + 1  # a place in the noise that no step and no validation uses


@dataclass(frozen=True)
class _Base:
    """What the base made: the start of every comparison of a run."""

    features: Tensor
    """(prompts, seeds, dimension) of its tiles."""
    latents: Tensor
    """(natural prompts, channels, height, width) of the first seed's tiles."""
    predictions: Tensor
    """(natural prompts × times, channels, height, width) on those, noised."""


class Probe:
    """Looks at one run's model; the base's tiles, features and predictions are kept in the run's folder."""

    def __init__(self, model: DiffusionModel, settings: TrainSettings, run: Path) -> None:
        self._model, self._settings, self._run = model, settings, run
        self._folder = run / "probe"
        self._file = self._folder / "base.safetensors"

    @torch.no_grad()
    def look(self, step: int) -> list[Event]:
        """Draw every prompt with every seed; at step 0 keep what comes, later tell how far it has moved."""
        if step and not self._file.is_file():
            return [Warned("What the base drew at step 0 is gone from probe/, so nothing can be compared with it.")]
        network = open_network(_network_name(self._file), str(self._model.device))
        with self._model.at_rest():
            latents = self._latents()
            pixels = pixels_of(self._model, latents)
            features = torch.from_numpy(network(pixels).reshape(len(PROMPTS), SEEDS, -1))
            if step == 0:
                natural = latents[: len(NATURAL) * SEEDS : SEEDS].float().cpu()
                self._keep(_Base(features, natural, self._predictions(natural)), network)
                return list(self._save_tiles(step, pixels))
            base = self._kept()
            moved = (self._predictions(base.latents) - base.predictions).square().mean()
        drift = float(moved / base.predictions.square().mean())
        return [*self._save_tiles(step, pixels), *_figures(step, base.features, features, drift, network)]

    def _latents(self) -> Tensor:
        prompts = [prompt for prompt in PROMPTS for _ in range(SEEDS)]
        return latents_of(self._model, self._settings, prompts, [FIRST_SEED + n for n in range(SEEDS)] * len(PROMPTS))

    def _predictions(self, latents: Tensor) -> Tensor:
        """What the UNet says of the natural prompts' latents at fixed times with fixed noise."""
        model, precision = self._model, DTYPES[self._settings.optimiser.precision]
        generator = noise_generator(self._settings.seed, _NOISE_STEP)
        said = []
        for place, prompt in enumerate(NATURAL):
            some = latents[place : place + 1].expand(len(_TIMES), -1, -1, -1)
            noise = torch.randn(some.shape, generator=generator)
            inputs, times, _ = noised(
                model.objective, some, noise, torch.tensor(_TIMES), alphas_cumprod(model.scheduler)
            )
            with torch.autocast(model.device.type, precision, enabled=precision != torch.float32):
                text = model.embed([prompt] * len(_TIMES))
                said.append(model.predict(inputs.to(model.device), times.to(model.device), text).float().cpu())
        return torch.cat(said)

    def _save_tiles(self, step: int, pixels: np.ndarray) -> Iterator[PreviewSaved]:
        """The first seed's tile of each prompt."""
        self._folder.mkdir(exist_ok=True)
        sampler = sampler_of(self._model)
        for index, prompt in enumerate(PROMPTS):
            path = self._folder / f"{step:06d}-{index + 1:02d}.png"
            recipe = {"prompt": prompt, "seed": FIRST_SEED, "step": step, "sampler": sampler, "synthetic": True}
            save_tile(path, pixels[index * SEEDS], recipe)
            yield PreviewSaved(step, path.relative_to(self._run).as_posix(), prompt, FIRST_SEED)

    def _keep(self, base: _Base, network: Network) -> None:
        from safetensors.torch import save_file

        self._folder.mkdir(exist_ok=True)
        tensors = {name: getattr(base, name).contiguous() for name in ("features", "latents", "predictions")}
        with files.replacing(self._file) as temporary:
            save_file(tensors, temporary, {"network": network.name.split(" ")[0]})

    def _kept(self) -> _Base:
        from safetensors.torch import load_file

        return _Base(**load_file(self._file))


def _figures(step: int, before: Tensor, after: Tensor, drift: float, network: Network) -> Iterator[MetricMeasured]:
    natural, sensing = slice(len(NATURAL)), slice(len(NATURAL), None)
    varied = [vendi_score(some[sensing].flatten(0, 1).numpy()) for some in (before, after)]
    told = (
        ("forgetting", change(before[natural].numpy(), after[natural].numpy()), "photographs: 0 as the base, 1 anew"),
        ("change", change(before[sensing].numpy(), after[sensing].numpy()), "remote sensing: 0 as the base, 1 anew"),
        ("drift", drift, "of predictions for photographs, against their own mean square"),
        ("diversity", varied[1], f"Vendi score of remote-sensing tiles; the base had {varied[0]:.3g}"),
    )
    for name, value, note in told:
        if name == "drift":  # of the UNet itself: no network looks at it
            yield MetricMeasured(name, value, 0, len(NATURAL) * len(_TIMES), "", "", "", None, step, note)
            continue
        tiles = SEEDS * len(NATURAL if name == "forgetting" else REMOTE_SENSING)
        yield MetricMeasured(name, value, 0, tiles, network.name, network.weights_sha256, "", None, step, note)


def _network_name(base: Path) -> str:
    """The network that the base was looked at with; for a new base the one that ships."""
    if not base.is_file():
        return SCENES if (SCENES_FOLDER / "config.json").is_file() else STARTER_ENCODER
    from safetensors import safe_open

    with safe_open(base, "pt") as file:
        return str(file.metadata()["network"])
