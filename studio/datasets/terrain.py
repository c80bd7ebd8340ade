"""Procedural terrain seen from above: tiles of seven land-cover classes, each with sentences, from a seed alone."""

import numpy as np
import numpy.typing as npt

from studio.datasets import noise
from studio.datasets.noise import Generator
from studio.datasets.scenes import SCENES, Scene
from studio.errors import unknown

# The classes of the land-cover set that Remote Diffusion published; ids for paths, names for people.
CLASSES = {
    "bare-land": "Bare Land",
    "crop-land": "Crop Land",
    "cultivated-vegetation": "Cultivated Vegetation",
    "natural-vegetation": "Natural Vegetation",
    "snow-ice": "Snow Ice",
    "water-body": "Water Body",
    "woody-vegetation": "Woody Vegetation",
}


def tile(label: str, seed: int, size_px: int = 64) -> npt.NDArray[np.uint8]:
    """A tile (height, width, 3) of a class; the same for the same seed, in any of the eight orientations.

    Raises:
        UsageError: there is no such class.
    """
    rng, scene = _scene(label, seed)
    colours = scene.paint(rng, size_px)
    colours = colours * rng.uniform(0.92, 1.08) + noise.rough(rng, size_px, 0.4)[..., None] * 2.5
    turned = np.rot90(colours[:, ::-1] if rng.random() < 0.5 else colours, int(rng.integers(4)))
    return np.ascontiguousarray(np.clip(turned, 0, 255).astype(np.uint8))


def captions(label: str, seed: int) -> list[str]:
    """Three sentences for the tile of a class and seed: of its place, of its class, and of its place again.

    Raises:
        UsageError: there is no such class.
    """
    rng, scene = _scene(label, seed)
    first, second = rng.permutation(len(scene.phrases))[:2]
    views = rng.permutation(
        ["a satellite image of {}", "an aerial view of {}", "{} seen from above", "a top-down view of {}"]
    )
    name = CLASSES[label].lower().replace("snow ice", "snow and ice").replace("water body", "a water body")
    return [
        str(views[0]).format(scene.phrases[first]),
        f"a satellite image of {name}",
        str(views[1]).format(scene.phrases[second]),
    ]


def _scene(label: str, seed: int) -> tuple[Generator, Scene]:
    if label not in CLASSES:
        raise unknown("land-cover class", label, CLASSES)
    rng = np.random.default_rng([list(CLASSES).index(label), seed])
    scenes = SCENES[label]
    return rng, scenes[rng.integers(len(scenes))]
