"""The places that demo tiles show, class by class, and what each is called."""

from collections.abc import Callable
from dataclasses import dataclass

from studio.datasets import painters
from studio.datasets.noise import Generator
from studio.datasets.painters import Colours


@dataclass(frozen=True)
class Scene:
    """One kind of place within a class: how it is painted, and what it is called."""

    paint: Callable[[Generator, int], Colours]
    phrases: tuple[str, ...]


SCENES: dict[str, tuple[Scene, ...]] = {
    "bare-land": (
        Scene(
            painters.canyon,
            ("a barren rocky desert canyon", "eroded rock layers without vegetation", "bare mountains of red rock"),
        ),
        Scene(
            painters.dunes,
            ("long sand dunes in a desert", "bare sand shaped by the wind", "a field of desert dunes"),
        ),
        Scene(
            painters.dry_wash,
            ("a gravel plain with dry stream beds", "dry washes across bare ground", "a stony desert plain"),
        ),
    ),
    "crop-land": (
        Scene(
            painters.fields,
            ("a patchwork of crop fields", "ripe and green fields divided by hedges", "ploughed and planted parcels"),
        ),
        Scene(
            painters.pivots,
            (
                "round crop fields watered by centre pivots",
                "circular irrigated fields on a dry plain",
                "green and brown crop circles",
            ),
        ),
    ),
    "cultivated-vegetation": (
        Scene(
            painters.orchard,
            ("orchards with trees in regular rows", "blocks of fruit trees on light soil", "an olive grove in a grid"),
        ),
        Scene(
            painters.vineyard,
            ("vineyards in close parallel rows", "rows of vines following the slope", "a wine-growing landscape"),
        ),
    ),
    "natural-vegetation": (
        Scene(
            painters.mixed_forest,
            (
                "a mixed oak and hickory forest in autumn colours",
                "autumn foliage with small clearings",
                "an open deciduous forest in orange and green",
            ),
        ),
        Scene(
            painters.savanna,
            ("a savanna with scattered shrubs", "dry grassland dotted with bushes", "grass and single trees"),
        ),
        Scene(
            painters.meadow,
            ("rolling grassland with thickets", "green hills of natural grass", "wild meadows and shrubs"),
        ),
    ),
    "snow-ice": (
        Scene(
            painters.floes,
            (
                "ice floes drifting on dark water",
                "broken sea ice in the Arctic Ocean",
                "white pack ice with dark leads",
            ),
        ),
        Scene(
            painters.snow_peaks,
            ("snow-covered mountains", "white peaks with blue shadows", "snow and bare rock on steep slopes"),
        ),
        Scene(
            painters.glacier,
            ("a glacier with crevasses", "flowing ice with dark moraines", "a white ice field with blue cracks"),
        ),
    ),
    "water-body": (
        Scene(
            painters.islands,
            ("small islands in shallow turquoise water", "sandy islets in a blue sea", "a cluster of green islands"),
        ),
        Scene(
            painters.open_sea,
            ("open sea with waves", "deep blue ocean water", "wind and swell on the sea"),
        ),
        Scene(
            painters.lake,
            ("a lake with a shallow shore", "a blue lake surrounded by land", "calm inland water"),
        ),
    ),
    "woody-vegetation": (
        Scene(
            painters.dense_canopy,
            ("a dense forest canopy", "closed evergreen forest on hills", "tree crowns without a gap"),
        ),
        Scene(
            painters.mangrove,
            (
                "a mangrove swamp with meandering tidal creeks",
                "creeks winding through swamp forest",
                "dark woodland cut by water channels",
            ),
        ),
        Scene(
            painters.plantation_edge,
            ("a conifer forest with a track", "dense woodland with a felled patch", "a forest road between trees"),
        ),
    ),
}
