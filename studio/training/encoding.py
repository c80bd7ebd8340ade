"""What a run's frozen encoders say of its pictures and captions: cached ahead, and read back for each step."""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studio import files
from studio.context import Context
from studio.datasets.augmentation import orient
from studio.errors import UsageError
from studio.events import Warned
from studio.memory import AtOnce
from studio.models.load import Conditioning, DiffusionModel, joined
from studio.settings import D4
from studio.training.buckets import Shape
from studio.training.cache import ENCODE_BATCH, Entry, LatentCache, TextCache
from studio.training.masks import data_share
from studio.training.pictures import Pictures


@dataclass
class Encodings:
    """The caches of one run; every `fill` says False where it was asked to stop."""

    context: Context
    model: DiffusionModel
    vae_sha256: str
    text_sha256: str
    """Empty where the text encoder is trained too, so that nothing can be embedded ahead."""
    step: int = 0
    """How far the run is, for whoever pauses it meanwhile."""
    _latents: dict[tuple[str, Shape], LatentCache] = field(default_factory=dict)
    _texts: TextCache | None = None
    _masks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    _pictures_at_once: AtOnce = field(init=False)
    _captions_at_once: AtOnce = field(init=False)
    _format: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        # A picture's activations fit into a CPU's cache where a batch's do not: one by one took 0.075 s a picture
        # where sixteen took 0.17 s (narrow model, 256 px, fp32). There channels last would save a sixth more, but
        # latents would differ in their last bits from those of diffusers' scripts.
        on_cpu = self.model.device.type == "cpu"
        self._pictures_at_once = AtOnce(1 if on_cpu else ENCODE_BATCH, "pictures", self._warn)
        self._captions_at_once = AtOnce(ENCODE_BATCH, "captions", self._warn)
        self._format = torch.contiguous_format if on_cpu else torch.channels_last
        self.model.vae.to(memory_format=self._format)

    def check_room(self, pictures: Pictures, drawn: int, orientations: Sequence[int]) -> None:
        """Refuse to begin where the disk has no room for the latents of so many draws in some orientations.

        Raises:
            UsageError: it has not.
        """
        upright = {pictures.shape(index) for index in range(len(pictures))}
        caches = [self._cache_of(pictures, shape) for shape in upright | {shape[::-1] for shape in upright}]
        there = sum(cache.filled(orientations) for cache in caches)
        missing = max(min(drawn, len(pictures) * len(orientations)) - there, 0)
        _check_room(self.context.workspace.cache, missing * max(cache.entry_bytes for cache in caches))

    def fill_latents(self, pictures: Pictures, entries: Iterable[Entry]) -> bool:
        """Encode pictures in orientations, as far as they are not in the cache, which holds one shape in each folder.

        Raises:
            UsageError: the disk has too little room.
        """
        by_shape = defaultdict[Shape, list[Entry]](list)
        for entry in sorted(set(entries)):
            by_shape[pictures.shape(*entry)].append(entry)
        work = []
        for shape, some in sorted(by_shape.items()):
            cache = self._cache_of(pictures, shape)
            work.append((cache, cache.missing(some)))
        total = sum(len(batch) for _, batches in work for batch in batches)
        needed_bytes = sum(cache.entry_bytes * len(batch) for cache, batches in work for batch in batches)
        _check_room(self.context.workspace.cache, needed_bytes)

        def encode(some: list[Entry]) -> Tensor:
            return torch.cat(self._pictures_at_once.parts(some, lambda part: self._moments_of(pictures, part)))

        done = (count for cache, batches in work for count in cache.fill(batches, encode))
        return self._counted("Encoding pictures", total, done)

    def fill_texts(self, captions: Iterable[str]) -> bool:
        """Embed captions, as far as they are not in the cache; nothing where the text encoder is trained."""
        if not self.text_sha256:
            return True
        dtype = self.model.text_encoder.dtype
        name = self.text_sha256[:24] + ("-zeros" if self.model.empty_is_zero else "")
        name += "" if dtype == torch.float32 else f"-{str(dtype).removeprefix('torch.')}"
        self._texts = TextCache(self.context.workspace.cache / "text" / name)
        batches = self._texts.missing(list(captions))

        @torch.no_grad()
        def embed(some: list[str]) -> Conditioning:
            return joined(self._captions_at_once.parts(some, self.model.embed))

        return self._counted("Embedding captions", sum(map(len, batches)), self._texts.fill(batches, embed))

    def fill_masks(self, pictures: Pictures) -> bool:
        """Look for pixels without data; nothing where the loss leaves none out."""
        ignored = pictures.settings.ignore
        if ignored == "nothing":
            return True
        cell = self.model.reduction
        shapes = [pictures.shape(index) for index in range(len(pictures))]
        key = files.sha256_of_texts([pictures.sha256, ignored, str(cell), *map(str, shapes)])
        path = self.context.workspace.cache / "masks" / f"{key[:24]}.npy"
        if path.is_file():
            flat = np.load(path, mmap_mode="r")
        else:
            found = list[np.ndarray]()

            def look() -> Iterable[int]:
                for picture, shape in zip(pictures.pictures, shapes, strict=True):
                    found.append(data_share(pictures.dataset.path(picture), ignored, *shape, cell).ravel())
                    yield 1

            if not self._counted("Looking for pixels without data", len(pictures), look()):
                return False
            flat = np.concatenate(found)
            with files.replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, flat)
        sizes = [(height // cell, width // cell) for height, width in shapes]
        parts = np.split(flat, np.cumsum([height * width for height, width in sizes])[:-1])
        self._masks[pictures.sha256] = [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]
        return True

    def moments(self, pictures: Pictures, entries: Sequence[Entry]) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (n, channels, height, width) of the encoder's latents, before they are scaled for the
        UNet; entries of one shape."""
        return self._cache_of(pictures, pictures.shape(*entries[0])).moments(entries)

    def text(self, captions: Sequence[str]) -> Conditioning:
        """On the model's device; from the text encoder itself where that is trained."""
        if self._texts is None:
            return self.model.embed(list(captions))
        return self._texts.embeddings(captions).to(self.model.device)

    def masks(self, pictures: Pictures, entries: Sequence[Entry]) -> Tensor | None:
        """(n, 1, height, width) share of each latent cell's pixels that hold data; None where all do."""
        masks = self._masks.get(pictures.sha256)
        if masks is None:
            return None
        turned = [orient(masks[index], D4[orientation]) for index, orientation in entries]
        return torch.from_numpy(np.stack(turned)[:, None].astype(np.float32) / 255)

    def _cache_of(self, pictures: Pictures, shape: Shape) -> LatentCache:
        key = pictures.sha256, shape
        if key not in self._latents:
            self._latents[key] = self._open_cache(pictures, shape)
        return self._latents[key]

    def _open_cache(self, pictures: Pictures, shape: Shape) -> LatentCache:
        cells = shape[0] // self.model.reduction, shape[1] // self.model.reduction
        parts = [pictures.sha256[:24], self.vae_sha256[:12], f"{shape[0]}x{shape[1]}"]
        if pictures.normalisation:
            parts.append(files.sha256_of_texts([repr(pictures.normalisation)])[:12])
        folder = self.context.workspace.cache / "latents" / "-".join(parts)
        channels = 2 * int(self.model.vae.config.latent_channels)
        return LatentCache(folder, len(pictures), (channels, *cells), pictures.settings.cache_precision)

    @torch.no_grad()
    def _moments_of(self, pictures: Pictures, entries: list[Entry]) -> Tensor:
        vae = self.model.vae
        pixels = pictures.tensor(entries).to(vae.device, vae.dtype, memory_format=self._format)
        posterior = vae.encode(pixels).latent_dist
        return torch.cat([posterior.mean, posterior.logvar], dim=1)

    def _counted(self, name: str, total: int, progress: Iterable[int]) -> bool:
        if not total:
            return not self.context.should_stop(self.step)
        counted = self.context.counted(name, total, accumulate(progress))
        return not any(self.context.should_stop(self.step) for _ in counted)

    def _warn(self, words: str) -> None:
        self.context.emit(Warned(words))


def _check_room(folder: Path, needed_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise UsageError(
            f"Latents of these pictures take {needed_bytes / 1e6:,.1f} MB; the disk has {free_bytes / 1e6:,.1f} MB.",
            "Make room; or a new run needs half with --set cache_precision=fp16, and less with fewer orientations.",
        )
