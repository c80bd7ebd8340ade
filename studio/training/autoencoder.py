"""Learning to decode latents: the decoder of an autoencoder whose encoder is principal components."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from studio.context import Context
from studio.events import PreviewSaved
from studio.images import save_tile
from studio.models.load import DTYPES
from studio.models.principal_components import principal_component_autoencoder, principal_components
from studio.models.quiet import quiet_libraries
from studio.models.saving import save_part
from studio.settings import D4, AutoencoderMethod, TrainSettings
from studio.training.batches import draws
from studio.training.pictures import Pictures, open_pictures

_FITTED_ON = 2000
_PREVIEWED = 4


@dataclass
class Autoencoding:
    """An autoencoder in training; see `studio.training.train` for the loop."""

    context: Context
    settings: TrainSettings
    vae: AutoencoderKL
    parameters: dict[str, nn.Parameter]
    training: Pictures
    measured: Pictures
    buffers: dict[str, Tensor] = field(default_factory=dict)
    bins: list[float] = field(default_factory=list)

    def prepare(self) -> bool:
        """Nothing is cached: reading a picture costs far less than decoding a latent."""
        return True

    def encode(self, steps: range) -> bool:
        return True

    def loss(self, step: int, rows: range) -> Tensor:
        """Absolute error of pictures and of their differences from pixel to pixel, which keeps edges."""
        orientations = self.settings.data.orientations
        drawn = draws(
            self.settings.seed,
            step,
            self.settings.optimiser.effective_batch,
            self.training.caption_counts,
            len(orientations),
            0.0,
            0.0,
        )[rows.start : rows.stop]
        pictures = self.training.tensor([(one.picture, D4.index(orientations[one.orientation])) for one in drawn])
        return self._error(pictures.to(self.vae.device))

    @torch.no_grad()
    def validation_loss(self) -> float:
        entries = [(index, 0) for index in range(len(self.measured))]
        return float(self._error(self.measured.tensor(entries).to(self.vae.device)))

    @torch.no_grad()
    def preview(self, step: int) -> list[PreviewSaved]:
        """Held-out pictures, each beside what the decoder makes of its latent."""
        count = min(_PREVIEWED, len(self.measured))
        pictures = self.measured.tensor([(index, 0) for index in range(count)]).to(self.vae.device)
        decoded = self.vae.decode(self.vae.encode(pictures).latent_dist.mean).sample
        both = torch.cat([pictures, decoded], dim=3).clamp(-1, 1).cpu()
        arrays = ((both + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        saved = []
        for index, array in enumerate(arrays):
            path = self.context.folder.previews / f"{step:06d}-{index + 1:02d}.png"
            save_tile(path, array, {"step": step, "source": self.measured.pictures[index].file_name})
            name = f"previews/{path.name}"
            saved.append(PreviewSaved(step, name, f"{self.measured.pictures[index].file_name}, decoded", 0))
        return saved

    def measure(self, step: int) -> None:
        """An autoencoder makes no tiles of its own."""

    def write(self, folder: Path) -> None:
        save_part(self.vae, folder / "vae")

    def state(self) -> dict[str, object]:
        return {}

    def _error(self, pictures: Tensor) -> Tensor:
        precision = DTYPES[self.settings.optimiser.precision]
        with torch.no_grad():
            latents = self.vae.encode(pictures).latent_dist.mean
        with torch.autocast(pictures.device.type, precision, enabled=precision != torch.float32):
            decoded = self.vae.decode(latents).sample
        difference = decoded.float() - pictures
        edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        error: Tensor = difference.abs().mean() + edges
        return error


def open_autoencoder(context: Context, settings: TrainSettings) -> Autoencoding:
    """Fit the encoder to the training pictures, and make a decoder that knows nothing yet."""
    assert isinstance(settings.method, AutoencoderMethod)
    quiet_libraries()
    training, measured = open_pictures(context, settings)
    stride = max(len(training) // _FITTED_ON, 1)
    fitted = np.stack([training.pixels(index) for index in range(0, len(training), stride)])
    mean, projection = principal_components(fitted.astype(np.float32) / 127.5 - 1, settings.method.latent_channels)
    torch.manual_seed(settings.seed)
    vae = principal_component_autoencoder(mean, projection, settings.method.channels, settings.data.size_px)
    vae.to(context.device)
    trained = {name: one for name, one in vae.named_parameters() if one.requires_grad}
    return Autoencoding(context, settings, vae, trained, training, measured)
