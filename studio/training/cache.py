"""Latents and text embeddings computed once: memory-mapped files that a killed run finds as far as they got."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studio import files

ENCODE_BATCH = 16


class LatentCache:
    """Mean and log-variance of pictures in each of eight orientations, filled where they are needed.

    Stored as float16 (pictures, 8, 2 × channels, height, width), beside a flag for each entry.
    """

    def __init__(self, folder: Path, pictures: int, shape: tuple[int, int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._moments = _mapped(folder / "moments.f16", np.float16, (pictures, 8, *shape))
        self._filled = _mapped(folder / "filled.u1", np.uint8, (pictures, 8))

    def missing(self, entries: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of the (picture, orientation) entries that are not there yet, in order, each once."""
        return [entry for entry in sorted(set(entries)) if not self._filled[entry]]

    def fill(
        self, entries: Sequence[tuple[int, int]], encode: Callable[[Sequence[tuple[int, int]]], Tensor]
    ) -> Iterator[int]:
        """Encode entries a few at a time; yields how many are done. Flags follow data, so a kill loses one batch."""
        for start in range(0, len(entries), ENCODE_BATCH):
            some = entries[start : start + ENCODE_BATCH]
            self._moments[tuple(zip(*some, strict=True))] = encode(some).to(torch.float16).cpu().numpy()
            self._filled[tuple(zip(*some, strict=True))] = 1
            yield start + len(some)
        self._moments.flush()
        self._filled.flush()

    def moments(self, entries: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (n, channels, height, width) float32."""
        both = torch.from_numpy(self._moments[tuple(zip(*entries, strict=True))].astype(np.float32))
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw from the encoder's Gaussian (Kingma and Welling 2014, sec. 2.4)."""
    return mean + torch.exp(0.5 * log_variance) * noise


class TextCache:
    """Embeddings of a fixed list of captions, float32 (captions, tokens, width) on disk."""

    def __init__(self, folder: Path, encoder_sha256: str, captions: Sequence[str]) -> None:
        self._index = {caption: place for place, caption in enumerate(captions)}
        self._captions = list(captions)
        name = files.sha256_of_texts([encoder_sha256, *captions])[:24]
        self._path = folder / f"{name}.npy"
        self._embeddings: np.ndarray | None = np.load(self._path, mmap_mode="r") if self._path.is_file() else None

    @property
    def is_ready(self) -> bool:
        return self._embeddings is not None

    def fill(self, embed: Callable[[list[str]], Tensor]) -> Iterator[int]:
        """Embed every caption; yields how many are done."""
        parts = []
        for start in range(0, len(self._captions), ENCODE_BATCH):
            parts.append(embed(self._captions[start : start + ENCODE_BATCH]).float().cpu().numpy())
            yield min(start + ENCODE_BATCH, len(self._captions))
        with files.replacing(self._path) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(parts))
        self._embeddings = np.load(self._path, mmap_mode="r")

    def embeddings(self, captions: Sequence[str]) -> Tensor:
        if self._embeddings is None:
            raise RuntimeError("The text cache was read before it was filled.")
        return torch.from_numpy(self._embeddings[[self._index[caption] for caption in captions]])


def _mapped(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not path.is_file() or path.stat().st_size != size:
        with path.open("wb") as file:
            file.truncate(size)  # sparse: takes room as it fills
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)
