"""Kernel distance between a run's tiles and held-out pictures while it goes on, so that checkpoints can be compared."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from studio.events import MetricMeasured
from studio.measures.distances import kid, real_floor
from studio.measures.features import STARTER_ENCODER, open_network
from studio.models.load import DiffusionModel
from studio.settings import TrainSettings
from studio.training.pictures import Pictures
from studio.training.previews import tiles_of

TIME_BINS = 4


def measure_kid(
    model: DiffusionModel, settings: TrainSettings, measured: Pictures, training: Pictures, step: int
) -> MetricMeasured:
    """KID of tiles made from the held-out pictures' own captions, one each, against those pictures.

    The floor is real against real at the same count: the held-out pictures and as many of the training pictures.
    """
    network = open_network(STARTER_ENCODER, str(model.device))
    real = network(_pixels(measured, len(measured)))
    more = network(_pixels(training, len(measured)))
    captions = [picture.captions[0] if picture.captions else "" for picture in measured.pictures]
    tiles = network(tiles_of(model, settings, captions))
    value, deviation = kid(real, tiles, seed=settings.seed)
    return MetricMeasured(
        "kid",
        value,
        n_real=len(real),
        n_generated=len(tiles),
        network=network.name,
        weights_sha256=network.weights_sha256,
        split_sha256=measured.sha256,
        floor=real_floor(np.concatenate([real, more]), len(real), lambda x, y: kid(x, y, seed=settings.seed)[0]),
        step=step,
        note=f"standard deviation {deviation:.3g} over subsets; {settings.saving.preview_steps} sampling steps",
    )


def loss_by_time(errors: Tensor, times: Tensor) -> list[float]:
    """Mean of errors (n,) in even parts of their times (n,), spread evenly over [0, 1), from little noise to much."""
    bins = min(TIME_BINS, len(times))
    parts = (times * bins).long().clamp(max=bins - 1)
    return [float(errors[parts == part].mean()) for part in range(bins)]


def _pixels(pictures: Pictures, count: int) -> np.ndarray:
    """Of the first pictures, all square, as the tiles are that they are compared with."""
    square = replace(pictures, shapes=())
    return np.stack([square.pixels(index).transpose(1, 2, 0) for index in range(min(count, len(pictures)))])
