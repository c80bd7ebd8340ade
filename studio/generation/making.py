"""An opened model at work: tiles made together, from noise or from a picture, whole or in windows."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from studio.errors import StudioError
from studio.events import Event, Warned
from studio.generation.batch_size import compiling_repays, remember_batch
from studio.generation.canvas import decoded, encoded, enlarged
from studio.generation.inputs import fitted_pixels, kept_input, mask_of
from studio.generation.plans import PlannedTile
from studio.generation.provenance import Sampling
from studio.generation.samplers import EachStep, Start, sample, step_generator, tile_noise
from studio.generation.seamless import going_round
from studio.generation.windows import Windows, in_windows
from studio.memory import free_memory, is_out_of_memory
from studio.models.load import Conditioning, DiffusionModel, joined

_PROMPTS_KEPT = 256


class TileMaker:
    """Makes tiles as they are planned, and fewer together once memory has run out."""

    def __init__(self, model: DiffusionModel, folder: Path, batch: int, emit: Callable[[Event], None]) -> None:
        """`folder` is the batch's, where the pictures lie that tiles begin from."""
        self.model = model
        self.batch = batch
        self.is_compiled = False
        self._folder = folder
        self._emit = emit
        # One by one, so that a prompt's last bits do not depend on those beside it.
        self._embedded = lru_cache(_PROMPTS_KEPT)(lambda text: model.embed([text]))

    def made(
        self, tiles: Sequence[PlannedTile], is_there: Callable[[PlannedTile], bool], sampling: Sampling, each: EachStep
    ) -> Iterator[tuple[Sequence[PlannedTile], np.ndarray]]:
        """Tiles and their pixels (n, height, width, 3) uint8, batch after batch, where not all are there."""
        start, seconds = 0, list[float]()
        while start < len(tiles):
            rows = tiles[start : start + (1 if sampling.is_made_alone else self.batch)]
            if not all(is_there(tile) for tile in rows):
                each(0, sampling.steps)
                began = time.monotonic()
                pixels = self._tried(rows, sampling, each)
                if pixels is None:
                    continue
                yield rows, pixels
                seconds.append(time.monotonic() - began)
                self._compile_where_it_repays(seconds, (len(tiles) - start) // len(rows))
            start += len(rows)

    def _tried(self, rows: Sequence[PlannedTile], sampling: Sampling, each: EachStep) -> np.ndarray | None:
        """Pixels of tiles; None where they did not fit, and fewer are to be tried."""
        try:
            return self.make(rows, sampling, each)
        except RuntimeError as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        # Outside the handler, whose error holds on to what did not fit.
        free_memory()
        self.batch = len(rows) // 2
        remember_batch(self._folder, self.batch)
        self._emit(Warned(f"Memory ran out with {len(rows)} tiles at once; going on with {self.batch}."))
        return None

    @torch.inference_mode()
    def make(self, rows: Sequence[PlannedTile], sampling: Sampling, each: EachStep = lambda *_: None) -> np.ndarray:
        """Pixels (n, height, width, 3) uint8 of tiles made together."""
        source = self._source(sampling)
        # What is larger than a window goes round by its windows.
        with going_round(self.model, sampling.seamless and not sampling.window_px):
            if sampling.upscale > 1 and source is not None:
                pixels = np.repeat(source, len(rows), axis=0)
            else:
                pixels = self._first(rows, sampling, source, each)
            for _ in range(sampling.upscale.bit_length() - 1):
                pixels = self._doubled(rows, pixels, sampling, each)
        return pixels

    def _first(
        self, rows: Sequence[PlannedTile], sampling: Sampling, source: np.ndarray | None, each: EachStep
    ) -> np.ndarray:
        """Pixels at the size that was asked for."""
        size = sampling.width_px, sampling.height_px
        start = share = None
        if source is not None:
            share = self._mask(sampling)
            cells = None if share is None else self._mask_of_cells(share)
            start = Start(encoded(self.model, source, self._windows(*size, sampling, 0.25)), sampling.strength, cells)
        pixels = self._sampled(rows, sampling, size, start, each)
        if source is not None and share is not None:
            # The rest stays to the last bit; the decoder would change it a little.
            mixed = share[..., None] * pixels + (1 - share[..., None]) * source
            pixels = mixed.round().astype(np.uint8)
        return pixels

    def _doubled(
        self, rows: Sequence[PlannedTile], pixels: np.ndarray, sampling: Sampling, each: EachStep
    ) -> np.ndarray:
        """Pixels at twice their size: enlarged, then partly noised and denoised in windows of the model's own size."""
        large = enlarged(pixels, 2, sampling.seamless)
        size = large.shape[2], large.shape[1]
        start = Start(encoded(self.model, large, self._windows(*size, sampling, 0.25)), sampling.strength)
        return self._sampled(rows, sampling, size, start, each)

    def _sampled(
        self,
        rows: Sequence[PlannedTile],
        sampling: Sampling,
        size: tuple[int, int],
        start: Start | None,
        each: EachStep,
    ) -> np.ndarray:
        """Pixels of a width and height."""
        model = self.model
        cells = (size[1] // model.reduction, size[0] // model.reduction)
        shape = (int(model.unet.config.in_channels), *cells)
        windows = self._windows(*size, sampling, 0.5)
        latents = sample(
            model,
            self._embeddings([tile.prompt for tile in rows]),
            self._embeddings([tile.negative for tile in rows]),
            torch.cat([tile_noise(tile.seed, shape) for tile in rows]),
            sampling.sampler,
            sampling.steps,
            sampling.guidance,
            each,
            rescale=sampling.rescale,
            generators=[step_generator(tile.seed, shape) for tile in rows],
            start=start,
            around=in_windows(windows) if windows else lambda predict: predict,
        )
        if not torch.isfinite(latents).all():
            raise StudioError(
                "The sampler gave no finite numbers.",
                "Use fewer steps, another sampler, or --precision fp32 where it was fp16.",
            )
        return decoded(model, latents, self._windows(*size, sampling, 0.25))

    def _embeddings(self, texts: Sequence[str]) -> Conditioning:
        return joined([self._embedded(text) for text in texts])

    def _windows(self, width_px: int, height_px: int, sampling: Sampling, overlap: float) -> Windows | None:
        if not sampling.window_px:
            return None
        height, width, side = (px // self.model.reduction for px in (height_px, width_px, sampling.window_px))
        return Windows(height, width, side, overlap, sampling.seamless)

    def _source(self, sampling: Sampling) -> np.ndarray | None:
        """The picture (1, height, width, 3) that tiles begin from."""
        if not sampling.init_sha256:
            return None
        path = kept_input(self._folder, sampling.init_sha256)
        return fitted_pixels(path, sampling.width_px, sampling.height_px)[None]

    def _mask(self, sampling: Sampling) -> np.ndarray | None:
        if not sampling.mask_sha256:
            return None
        return mask_of(kept_input(self._folder, sampling.mask_sha256), sampling.width_px, sampling.height_px)

    def _mask_of_cells(self, share: np.ndarray) -> torch.Tensor:
        """(1, 1, height, width): every cell that has a pixel to be made anew."""
        pixels = torch.from_numpy(share).to(self.model.device)[None, None]
        return (torch.nn.functional.max_pool2d(pixels, self.model.reduction) > 0).float()

    def _compile_where_it_repays(self, seconds: Sequence[float], batches_left: int) -> None:
        """After the second batch, as the first warms the device up."""
        if self.model.device.type == "cuda" and len(seconds) == 2 and compiling_repays(seconds[-1], batches_left):
            self.compile()

    def compile(self) -> None:
        self.model.unet.compile()
        self.is_compiled = True
