"""What a frozen encoder says, computed once and kept on disk: a killed run finds all that was done."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from studio import files
from studio.models.load import Conditioning

ENCODE_BATCH = 16
_SECONDS_BETWEEN_SYNCS = 2.0
_DIGEST_BYTES = 32

Entry = tuple[int, int]
"""A picture and the number of its orientation."""
CachePrecision = Literal["fp32", "fp16"]
_TYPES: dict[CachePrecision, Any] = {"fp32": np.float32, "fp16": np.float16}


class LatentCache:
    """Mean and log-variance of pictures in each of eight orientations, filled where they are needed.

    Stored as (pictures, 8, 2 × channels, height, width), beside a flag for each entry.
    """

    def __init__(
        self, folder: Path, pictures: int, shape: tuple[int, int, int], precision: CachePrecision = "fp32"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._moments = _mapped(folder / f"moments.{precision}", _TYPES[precision], (pictures, 8, *shape))
        self._filled = _mapped(folder / f"filled.{precision}", np.uint8, (pictures, 8))

    @property
    def entry_bytes(self) -> int:
        return int(self._moments[0, 0].nbytes)

    def filled(self, orientations: Sequence[int]) -> int:
        """Entries in some orientations that are there."""
        return int(np.count_nonzero(self._filled[:, list(orientations)]))

    def missing(self, entries: Sequence[Entry]) -> list[list[Entry]]:
        """The batches in which entries are encoded, as far as any of theirs is not there yet.

        They are cut before what is there is left out: the last bits of a latent may depend on those beside it, and a
        run that was killed while encoding shall find the same ones.
        """
        batches = _batches(sorted(set(entries)))
        return [batch for batch in batches if not all(self._filled[entry] for entry in batch)]

    def fill(self, batches: Sequence[list[Entry]], encode: Callable[[list[Entry]], Tensor]) -> Iterator[int]:
        """Encode batch after batch; yields how many entries each had.

        Flags follow data that is on disk, so a kill or a power cut loses two seconds and leaves nothing half done.
        """
        written, synced = list[Entry](), time.monotonic()
        try:
            for batch in batches:
                moments = encode(batch).float().cpu().numpy()
                for entry, one in zip(batch, moments, strict=True):
                    if not self._filled[entry]:
                        self._moments[entry] = one
                        written.append(entry)
                if time.monotonic() - synced > _SECONDS_BETWEEN_SYNCS:
                    self._flag(written)
                    written, synced = [], time.monotonic()
                yield len(batch)
        finally:
            self._flag(written)

    def _flag(self, entries: Sequence[Entry]) -> None:
        self._moments.flush()
        for entry in entries:
            self._filled[entry] = 1
        self._filled.flush()

    def moments(self, entries: Sequence[Entry]) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (n, channels, height, width) float32."""
        places = tuple(zip(*entries, strict=True))
        if not self._filled[places].all():
            raise RuntimeError("The latent cache was read before it was filled.")
        both = torch.from_numpy(self._moments[places].astype(np.float32))
        mean, log_variance = both.chunk(2, dim=1)
        return mean, log_variance


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw from the encoder's Gaussian (Kingma and Welling 2014, sec. 2.4)."""
    return mean + torch.exp(0.5 * log_variance) * noise


class TextCache:
    """Embeddings by caption, float32, of one text encoder: every run in the workspace shares them.

    `captions.sha256` holds the digest of each caption and `embeddings.f32` a record for each, in the same order: the
    states (tokens, width), then the pooled vector where there is one. A record counts once its digest is there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._digests, self._records, self._shapes = (
            folder / "captions.sha256", folder / "embeddings.f32", folder / "shapes.json"
        )  # fmt: skip
        self._open()

    def _open(self) -> None:
        digests = self._digests.read_bytes() if self._digests.is_file() else b""
        count = len(digests) // _DIGEST_BYTES
        self._places: dict[bytes, int] = {}
        for place in range(count):
            # The first counts where two runs embedded the same caption at the same time.
            self._places.setdefault(digests[place * _DIGEST_BYTES : (place + 1) * _DIGEST_BYTES], place)
        if count:
            self._states, self._pooled = json.loads(self._shapes.read_text())
            length = int(np.prod(self._states)) + self._pooled
            self._embeddings = np.memmap(self._records, np.float32, "r", shape=(count, length))

    def missing(self, captions: Sequence[str]) -> list[list[str]]:
        """The batches in which captions are embedded, as far as any of theirs is not there; cut as those of latents."""
        batches = _batches(sorted(set(captions)))
        return [batch for batch in batches if not all(_digest(one) in self._places for one in batch)]

    def fill(self, batches: Sequence[list[str]], embed: Callable[[list[str]], Conditioning]) -> Iterator[int]:
        """Embed batch after batch; yields how many captions each had. A kill loses the batch it is in."""
        for batch in batches:
            text = embed(batch)
            new = [row for row, caption in enumerate(batch) if _digest(caption) not in self._places]
            rows = text.states.flatten(1)
            if text.pooled is not None:
                rows = torch.cat([rows, text.pooled], dim=1)
            if not self._shapes.is_file():
                pooled = 0 if text.pooled is None else text.pooled.shape[1]
                files.write_json(self._shapes, [list(text.states.shape[1:]), pooled])
            self._append([_digest(batch[row]) for row in new], rows[new].float().cpu().numpy())
            yield len(batch)
        self._open()

    def _append(self, digests: list[bytes], rows: np.ndarray) -> None:
        with self._digests.open("ab") as index, self._records.open("ab"), self._records.open("r+b") as records:
            fcntl.flock(index, fcntl.LOCK_EX)
            count = index.seek(0, os.SEEK_END) // _DIGEST_BYTES
            records.seek(count * rows[0].nbytes)  # over what a killed run left without its digest
            records.write(rows.tobytes())
            records.flush()
            os.fsync(records.fileno())
            index.truncate(count * _DIGEST_BYTES)
            index.write(b"".join(digests))
            index.flush()
            os.fsync(index.fileno())

    def embeddings(self, captions: Sequence[str]) -> Conditioning:
        """Of captions that were embedded; in float32 on the CPU."""
        try:
            places = [self._places[_digest(caption)] for caption in captions]
        except KeyError:
            raise RuntimeError("The text cache was read before it was filled.") from None
        rows = torch.from_numpy(self._embeddings[places])
        length = rows.shape[1] - self._pooled
        states = rows[:, :length].reshape(len(places), *self._states)
        return Conditioning(states, rows[:, length:] if self._pooled else None)


def _batches(ordered: list[Any]) -> list[list[Any]]:
    return [ordered[start : start + ENCODE_BATCH] for start in range(0, len(ordered), ENCODE_BATCH)]


def _digest(caption: str) -> bytes:
    return hashlib.sha256(caption.encode("utf-8", "surrogateescape")).digest()


def _mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.is_file() and path.stat().st_size not in (0, size):
        path.unlink()
    with path.open("ab") as file:  # never "wb", which would empty what another run has just begun to fill
        file.truncate(size)  # sparse: takes room as it fills
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)
