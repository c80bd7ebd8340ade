"""Measure how far a batch of generated tiles is from real pictures, with all that is needed to believe the figures."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from studio.context import Context, Done
from studio.evaluation.progress import Progress, Stopped, begin
from studio.evaluation.protocols import Comparison, Look, choose, faults_of
from studio.evaluation.report import evaluation_markdown, write_report
from studio.events import MetricMeasured, Phase, Warned
from studio.measures.distances import Distance, frechet_distance, kid, real_floor, subset_size_for
from studio.measures.features import Network, open_network
from studio.settings import EvaluateSettings

BATCH = 32
FLOOR_SUBSETS = 20  # the floor is a mean over draws already


def evaluate(context: Context) -> Done:
    """Measure, tell and report the distances of `EvaluateSettings`.

    Raises:
        UsageError: something named does not exist, or the sets cannot be compared.
    """
    settings = cast(EvaluateSettings, context.settings)
    begin(context, "evaluate")
    comparison = choose(context.workspace, settings)
    warnings = list(comparison.warnings)
    context.emit(Phase("Loading the feature network"))
    network = open_network(settings.network, context.device)
    tiles, real, more = (Look(settings.generated), Look(comparison.dataset), Look(comparison.dataset))
    try:
        of_tiles = _features(context, network, comparison.tiles, settings.size_px, tiles)
        of_real = _features(context, network, comparison.real, settings.size_px, real)
        of_more = _features(context, network, comparison.more_real, settings.size_px, more)
    except Stopped:
        return Done(outcome="stopped")
    warnings += faults_of(tiles, (real, more), settings.size_px)
    for message, hint in warnings:
        context.emit(Warned(message, hint))
    pool = np.concatenate([of_real, of_more])
    figures = []
    for done, name in enumerate(settings.metrics):
        context.emit(Phase("Measuring", done, len(settings.metrics)))
        figure = _figure(name, of_tiles, of_real, pool, network, comparison, settings)
        context.emit(figure)
        figures.append(figure)
    report = _report(settings, comparison, network, figures, warnings)
    return Done(write_report(context.folder.path, report, evaluation_markdown(report)))


def _features(context: Context, network: Network, paths: list[Path], size_px: int, look: Look) -> NDArray[np.float32]:
    """Vectors (n, dimension) of picture files, read a few at a time."""
    progress = Progress(context, f"Looking at {look.name}", len(paths))
    vectors = [np.zeros((0, network.dimension), np.float32)]
    for start in range(0, len(paths), BATCH):
        pictures = [look.read(path, size_px) for path in paths[start : start + BATCH]]
        vectors.append(network(np.stack(pictures)))
        progress(start + len(pictures))
    return np.concatenate(vectors)


def _figure(
    name: str,
    of_tiles: NDArray[np.float32],
    of_real: NDArray[np.float32],
    pool: NDArray[np.float32],
    network: Network,
    comparison: Comparison,
    settings: EvaluateSettings,
) -> MetricMeasured:
    distance: Distance = frechet_distance
    if name == "kid":
        shown = "kid"
        value, deviation = kid(of_real, of_tiles, seed=settings.seed)
        distance = partial(_kid_of_few_subsets, settings.seed)
        note = f"mean of 100 subsets of {subset_size_for(comparison.n)}, standard deviation {deviation:.3g}"
    else:
        shown = "fid" if network.is_inception else "frechet_distance"
        value = frechet_distance(of_real, of_tiles)
        note = f"biased upwards at N = {comparison.n}"
    return MetricMeasured(
        shown,
        value,
        n_real=len(of_real),
        n_generated=len(of_tiles),
        network=network.name,
        weights_sha256=network.weights_sha256,
        split_sha256=comparison.split_sha256,
        floor=real_floor(pool, comparison.n, distance, settings.seed),
        note=f"{settings.size_px} px; {network.input_note}; {note}",
    )


def _kid_of_few_subsets(seed: int, x: NDArray[Any], y: NDArray[Any]) -> float:
    return kid(x, y, FLOOR_SUBSETS, seed=seed)[0]


def _report(
    settings: EvaluateSettings,
    comparison: Comparison,
    network: Network,
    figures: list[MetricMeasured],
    warnings: list[tuple[str, str]],
) -> dict[str, Any]:
    return {
        "kind": "evaluate",
        "generated": settings.generated,
        "real": comparison.dataset,
        "split": comparison.split,
        "split_sha256": comparison.split_sha256,
        "tiles_found": comparison.found_tiles,
        "real_found": comparison.found_real,
        "n": comparison.n,
        "network": network.name,
        "weights_sha256": network.weights_sha256,
        "size_px": settings.size_px,
        "resize": "shorter side to size, antialiased bicubic, centre square; then " + network.input_note,
        "seed": settings.seed,
        "metrics": [asdict(figure) for figure in figures],
        "warnings": [f"{message} {hint}".strip() for message, hint in warnings],
    }
