"""What a tile can be refused for: artefacts, borders, likeness to a kept one, and not looking like its class.

Of the 1,027 real pictures of RSICD's valid split, `artefact` refuses none and `border` one, at 64 px as at 150.
"""

from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from studio.datasets.augmentation import orient
from studio.errors import UsageError, unknown
from studio.generation.class_plan import Plan
from studio.generation.plans import PlannedTile
from studio.measures.features import Network, open_network
from studio.settings import D4

Picture = NDArray[np.uint8]
_LUMA = np.array([0.299, 0.587, 0.114])
LEAST_DEVIATION = 1.5
"""Grey values; a tile that varies less is flat."""
MOST_CLIPPED = 0.5
"""Share of pixels that are pure black or pure white."""
LEAST_CORRELATION, NOISE_DEVIATION = 0.15, 12.0
"""Neighbours that correlate less in a tile that varies more are noise; faint meadows correlate as little."""
STRIP_DEVIATION, STRIP_STEP = 4.0, 16.0
"""A strip along a side that varies less and is followed by a larger step is a border."""
CONFUSED, FEWEST = 0.25, 5
"""Classes are alike where this share of one's tiles, so many at least, lie nearest to a tile of the other."""


def artefact(picture: Picture) -> str:
    """Why a picture (height, width, 3) is no photograph, or nothing."""
    luma = picture @ _LUMA
    deviation = float(luma.std())
    if deviation < LEAST_DEVIATION:
        return f"flat: deviation {deviation:.1f}"
    clipped = float(((picture <= 1).all(2) | (picture >= 254).all(2)).mean())
    if clipped > MOST_CLIPPED:
        return f"clipped: {clipped:.0%} black or white"
    alike = neighbour_correlation(luma)
    if alike < LEAST_CORRELATION and deviation > NOISE_DEVIATION:
        return f"noise: neighbours correlate by {alike:.2f}"
    return ""


def neighbour_correlation(luma: NDArray[Any]) -> float:
    """How alike neighbours are in both directions: one less half their squared difference over the variance."""
    squares = np.mean(np.diff(luma, axis=0) ** 2), np.mean(np.diff(luma, axis=1) ** 2)
    return float(1 - np.mean(squares) / (2 * luma.var() + 1e-12))


def border(picture: Picture) -> str:
    """Which side carries a strip of one colour, at most an eighth deep, with a sharp straight edge; or nothing."""
    luma = picture @ _LUMA
    for name, lines in (
        ("top", luma), ("bottom", luma[::-1]), ("left", luma.T), ("right", luma.T[::-1]),
    ):  # fmt: skip
        depth = max(2, len(lines) // 8)
        outer = lines[: depth + 1]
        for edge in range(1, depth + 1):
            strip = outer[:edge]
            if strip.std() > STRIP_DEVIATION:
                break
            jump = np.abs(outer[edge] - strip.mean())
            if np.median(jump) > STRIP_STEP:
                return f"border: {edge} px at the {name}"
    return ""


class Judge:
    """Says of each tile of a class plan whether it is kept; it remembers the kept ones."""

    def __init__(self, plan: Plan, device: str) -> None:
        self._filters = plan.filters
        self._network: Network | None = None
        if plan.filters.near_duplicates or plan.filters.margin is not None:
            self._network = open_network(plan.filters.network, device)
        self._accepted = accepted_classes(plan, self._network) if plan.filters.margin is not None else {}
        self._names = {one.label: one.title for one in plan.classes}
        self._kept: list[NDArray[np.float32]] = []
        self._tiles: list[PlannedTile] = []

    @property
    def network_note(self) -> str:
        return f"{self._network.name}, sha256 {self._network.weights_sha256}" if self._network else ""

    @property
    def unjudged(self) -> list[str]:
        """Classes that the network knows no counterpart of, so that their tiles are kept whatever they show."""
        return [self._names[label] for label, accepted in self._accepted.items() if not accepted]

    def reason(self, tile: PlannedTile, picture: Picture) -> str:
        """Why a tile (height, width, 3) is refused, the filter's name first; or nothing."""
        reason = artefact(picture) if self._filters.artefacts else ""
        reason = reason or (border(picture) if self._filters.borders else "")
        if reason or self._network is None:
            return reason
        vectors = self._network(_orientations(picture))
        return self._not_its_class(tile, vectors[:1]) or self._near_duplicate(vectors)

    def remember(self, tile: PlannedTile, picture: Picture) -> None:
        """Note a kept tile, which later ones must differ from."""
        if self._network is not None:
            # Made as `reason` makes it, since the last bits of a sum depend on the size of a batch.
            self._kept.append(_unit(self._network(_orientations(picture)))[0])
            self._tiles.append(tile)

    def confusable(self) -> list[dict[str, Any]]:
        """Pairs of classes whose kept tiles are each other's nearest: how large a share of `of` is nearest to `to`."""
        if len(self._kept) < 2:
            return []
        vectors = np.stack(self._kept)
        alike = vectors @ vectors.T
        np.fill_diagonal(alike, -np.inf)
        labels = [tile.label for tile in self._tiles]
        totals = Counter(labels)
        pairs = Counter(zip(labels, (labels[place] for place in alike.argmax(1)), strict=True))
        shares = {pair: count / totals[pair[0]] for pair, count in pairs.items() if pair[0] != pair[1]}
        return [
            {"of": self._names[of], "to": self._names[to], "share": round(share, 3)}
            for (of, to), share in sorted(shares.items(), key=lambda one: -one[1])
            if share >= CONFUSED and totals[of] >= FEWEST
        ]

    def _not_its_class(self, tile: PlannedTile, vectors: NDArray[np.float32]) -> str:
        accepted = self._accepted.get(tile.label)
        if not accepted:
            return ""
        assert self._network is not None
        chances = probabilities(self._network, vectors)[0]
        others = [place for place in range(len(chances)) if place not in accepted]
        if not others:
            return ""
        other = max(others, key=lambda place: chances[place])
        margin = float(chances[accepted].sum() - chances[other])
        wanted, rival = self._filters.margin or 0.0, self._network.classes[other]
        if margin > wanted:
            return ""
        if margin > 0:
            return f"class: ahead of {rival} by {margin:.2f} only, more than {wanted:.2f} is wanted"
        return f"class: {rival} by {-margin:.2f}"

    def _near_duplicate(self, vectors: NDArray[np.float32]) -> str:
        if not self._filters.near_duplicates or not self._kept:
            return ""
        # Eight orientations of the new one against one of each kept: a turn of both changes nothing.
        alike = (_unit(vectors) @ np.stack(self._kept).T).max(0)
        nearest = int(alike.argmax())
        if alike[nearest] < self._filters.near_duplicates:
            return ""
        return f"near-duplicate: of {self._tiles[nearest].index + 1:06d} by {alike[nearest]:.4f}"


def accepted_classes(plan: Plan, network: Network | None) -> dict[str, list[int]]:
    """For each class of a plan the places of the network's classes that count as it.

    Raises:
        UsageError: the network names no classes, none of the plan's, or an accepted one is not among them.
    """
    if network is None or not network.classes:
        raise UsageError(
            f"{plan.filters.network} cannot tell classes apart.", 'Set network = "scenes", or take out the margin.'
        )
    places = {_key(name): place for place, name in enumerate(network.classes)}
    found = {}
    for one in plan.classes:
        wrong = [name for name in one.accept if _key(name) not in places]
        if wrong:
            raise unknown(f"class of {plan.filters.network}", wrong[0], network.classes)
        names = [_key(name) for name in one.accept or (one.label, one.name)]
        found[one.label] = sorted({places[name] for name in names if name in places})
    if not any(found.values()):
        hint = 'Name classes that it knows, such as accept = ["Farmland"].'
        raise UsageError(f"{plan.filters.network} knows none of the plan's classes.", hint)
    return found


def probabilities(network: Network, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each class (n, classes), from the network's vectors."""
    assert network.scores is not None
    with torch.inference_mode():
        scores = network.scores(torch.from_numpy(vectors).to(network.device)).float().softmax(1)
    result: NDArray[np.float32] = scores.cpu().numpy()
    return result


def _orientations(picture: Picture) -> Picture:
    """A square picture in its eight orientations (8, side, side, 3); an oblong one in the four of its shape."""
    turned = [orient(picture, name, (0, 1)) for name in D4]
    return np.stack([one for one in turned if one.shape == picture.shape])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def _key(name: str) -> str:
    """A class name without case, spaces and signs: BareLand, "Bare Land" and bare-land are one."""
    return "".join(sign for sign in name.lower() if sign.isalnum())
