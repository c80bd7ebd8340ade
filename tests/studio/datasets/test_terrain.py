import time

import numpy as np
import pytest

from studio.datasets import terrain
from studio.errors import UsageError


def test_a_tile_follows_from_its_class_and_seed() -> None:
    for label in terrain.CLASSES:
        assert np.array_equal(terrain.tile(label, 5), terrain.tile(label, 5))
        assert not np.array_equal(terrain.tile(label, 5), terrain.tile(label, 6))
        assert terrain.captions(label, 5) == terrain.captions(label, 5)


def test_every_scene_of_every_class_is_painted_at_any_size() -> None:
    for scenes in terrain.SCENES.values():
        for scene in scenes:
            for size_px in (16, 64, 100):
                colours = scene.paint(np.random.default_rng(0), size_px)
                assert colours.shape == (size_px, size_px, 3)
                assert np.isfinite(colours).all()
                assert colours.std() > 5
    assert terrain.tile("crop-land", 1, 48).shape == (48, 48, 3)
    assert terrain.tile("crop-land", 1).dtype == np.uint8


def test_a_caption_tells_the_scene_that_is_painted() -> None:
    for label, scenes in terrain.SCENES.items():
        for seed in range(20):
            _, scene = terrain._scene(label, seed)
            assert scene in scenes
            sentences = terrain.captions(label, seed)
            assert len(sentences) == 3
            assert any(phrase in sentences[0] for phrase in scene.phrases)


def test_classes_can_be_told_apart_by_colour_and_texture() -> None:
    """A nearest-mean rule on twelve simple features is right far more often than one in seven."""

    def features(label: str, seed: int) -> np.ndarray:
        tile = terrain.tile(label, seed).astype(float)
        edges = np.abs(np.diff(tile, axis=0)).mean() + np.abs(np.diff(tile, axis=1)).mean()
        return np.array([*tile.mean((0, 1)), *tile.std((0, 1)), edges, *np.quantile(tile.mean(-1), (0.05, 0.95))])

    labels = list(terrain.CLASSES)
    known = np.array([[features(label, seed) for seed in range(30)] for label in labels])
    scale = known.std((0, 1))
    new = np.array([[features(label, seed) for seed in range(100, 115)] for label in labels])
    # The nearest neighbour, as a class has several kinds of scenes.
    apart = np.linalg.norm((new[:, :, None, None] - known) / scale, axis=-1).min(-1)
    right = (apart.argmin(-1) == np.arange(len(labels))[:, None]).mean()
    assert right > 0.8


def test_a_tile_takes_a_few_milliseconds() -> None:
    terrain.tile("snow-ice", 0)
    started = time.process_time()
    for seed in range(70):
        terrain.tile(list(terrain.CLASSES)[seed % 7], seed)
    assert (time.process_time() - started) / 70 < 0.02  # measured: 0.002; a slow machine may take its time


def test_an_unknown_class_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean crop-land"):
        terrain.tile("cropland", 0)
