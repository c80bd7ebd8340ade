"""Latents and text embeddings computed once: memory-mapped files; of latents a killed run finds what was done."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studio import files

ENCODE_BATCH = 16
_SECONDS_BETWEEN_SYNCS = 2.0

Entry = tuple[int, int]
"""A picture and the number of its orientation."""


class LatentCache:
    """Mean and log-variance of pictures in each of eight orientations, filled where they are needed.

    Stored as float16 (pictures, 8, 2 × channels, height, width), beside a flag for each entry.
    """

    def __init__(self, folder: Path, pictures: int, shape: tuple[int, int, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._moments = _mapped(folder / "moments.f16", np.float16, (pictures, 8, *shape))
        self._filled = _mapped(folder / "filled.u1", np.uint8, (pictures, 8))

    def missing(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """The batches in which entries are encoded, as far as any of theirs is not there yet.

        They are cut before what is there is left out: the last bits of a latent may depend on those beside it, and a
        run that was killed while encoding shall find the same ones.
        """
        ordered = sorted(set(entries))
        batches = [ordered[start : start + ENCODE_BATCH] for start in range(0, len(ordered), ENCODE_BATCH)]
        return [batch for batch in batches if not all(self._filled[entry] for entry in batch)]

    def fill(self, batches: Sequence[list[Entry]], encode: Callable[[Sequence[Entry]], Tensor]) -> Iterator[int]:
        """Encode batch after batch; yields how many entries are done.

        Flags follow data that is on disk, so a kill or a power cut loses two seconds and leaves nothing half done.
        """
        done, written, synced = 0, list[Entry](), time.monotonic()
        try:
            for batch in batches:
                moments = encode(batch).to(torch.float16).cpu().numpy()
                for entry, one in zip(batch, moments, strict=True):
                    if not self._filled[entry]:
                        self._moments[entry] = one
                        written.append(entry)
                if time.monotonic() - synced > _SECONDS_BETWEEN_SYNCS:
                    self._flag(written)
                    written, synced = [], time.monotonic()
                done += len(batch)
                yield done
        finally:
            self._flag(written)

    def _flag(self, entries: Sequence[Entry]) -> None:
        self._moments.flush()
        for entry in entries:
            self._filled[entry] = 1
        self._filled.flush()

    def moments(self, entries: Sequence[Entry]) -> tuple[Tensor, Tensor]:
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
        """Embed every caption, straight into the file; yields how many are done."""
        count = len(self._captions)
        with files.replacing(self._path) as temporary:
            stored: np.memmap | None = None
            for start in range(0, count, ENCODE_BATCH):
                part = embed(self._captions[start : start + ENCODE_BATCH]).float().cpu().numpy()
                if stored is None:
                    stored = np.lib.format.open_memmap(temporary, "w+", np.float32, (count, *part.shape[1:]))
                stored[start : start + len(part)] = part
                yield start + len(part)
            assert stored is not None
            stored.flush()
        self._embeddings = np.load(self._path, mmap_mode="r")

    def embeddings(self, captions: Sequence[str]) -> Tensor:
        if self._embeddings is None:
            raise RuntimeError("The text cache was read before it was filled.")
        return torch.from_numpy(self._embeddings[[self._index[caption] for caption in captions]])


def _mapped(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.is_file() and path.stat().st_size not in (0, size):
        path.unlink()
    with path.open("ab") as file:  # never "wb", which would empty what another run has just begun to fill
        file.truncate(size)  # sparse: takes room as it fills
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)
