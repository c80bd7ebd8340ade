"""Train a land-cover classifier on generated tiles and test it on real pictures, beside as many real ones."""

import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, cast

import numpy as np
import torch

from studio import files
from studio.context import Context, Done
from studio.errors import UsageError
from studio.evaluation.classifier import Course, Examples, measure_classifier, read_backbone, train_classifier
from studio.evaluation.intervals import mcnemar, wilson
from studio.evaluation.progress import Progress, Stopped, begin
from studio.evaluation.report import FIGURES, downstream_markdown, write_report
from studio.evaluation.study import Study, plan
from studio.events import MetricMeasured, Phase, Warned
from studio.files import sha256_of
from studio.images import fit_square, open_picture
from studio.settings import DownstreamSettings

RESULTS = "arms.jsonl"  # one line a trained classifier, so that a stopped study goes on where it was
MEMORY_BYTES = 1 << 29  # of one set of pictures; there are three, and two of them once more together
PROTOCOL = (
    "Every arm is trained for the same number of steps of the same size on pictures divided by 255, with AdamW and a "
    "cosine fall; batch normalisation is then averaged anew over training pictures, and the arm is tested once: none "
    "chooses a checkpoint. Only real-d4 sees flips and rotations."
)


def downstream(context: Context) -> Done:
    """Train and test every arm of `DownstreamSettings` for every seed, tell its figures and report them.

    Raises:
        UsageError: something named does not exist, or fewer than two classes are in both sets.
    """
    settings = cast(DownstreamSettings, context.settings)
    begin(context, "downstream")
    study = plan(context.workspace, settings)
    for message, hint in study.warnings:
        context.emit(Warned(message, hint))
    try:
        report = _measure(context, settings, study)
    except Stopped:
        return Done(outcome="stopped")
    return Done(write_report(context.folder.path, report, downstream_markdown(report)))


def _measure(context: Context, settings: DownstreamSettings, study: Study) -> dict[str, Any]:
    """The report, after every classifier that this folder does not have figures of yet."""
    context.emit(Phase("Loading TorchGeo"))
    file = Path(settings.weights).expanduser() if settings.weights else None
    weights, weights_sha256 = (read_backbone(file), sha256_of(file)) if file else (None, "none")
    given = {"generated tiles": study.tiles, "real pictures": study.real, "test pictures": study.test}
    tiles, real, test = (_examples(context, name, paths, settings.size_px) for name, paths in given.items())
    # Only the arms beside the tiles' own have real pictures, so an empty set is never trained on.
    sets = {"synthetic": tiles, "real": real, "both": tiles + real, "real-d4": real}
    steps = settings.epochs * math.ceil(len(study.tiles) / settings.batch)
    path = context.folder.path / RESULTS
    known = {(row["arm"], row["seed"]): row["figures"] for row in files.read_records(path)}
    arms: dict[str, Any] = {}
    for arm, trained_with in study.arms.items():
        results = []
        for seed in range(settings.seed, settings.seed + settings.seeds):
            if (arm, seed) not in known:
                course = Course(
                    len(study.classes), steps, settings.batch, settings.learning_rate, seed, context.device, weights
                )
                known[arm, seed] = _one(context, arm, course, sets[arm], test)
                files.append_record(path, {"arm": arm, "seed": seed, "figures": known[arm, seed]})
            results.append(known[arm, seed])
        arms[arm] = _summary(results, trained_with, len(test))
        _tell(context, study, arm, arms[arm], weights_sha256)
    return _report(settings, study, arms, weights_sha256, steps)


def _examples(context: Context, name: str, paths: list[tuple[Path, int]], size_px: int) -> Examples:
    if len(paths) * 3 * size_px**2 > MEMORY_BYTES:
        raise UsageError(
            f"{len(paths)} pictures of {size_px} px do not fit into {MEMORY_BYTES >> 20} MB.", "Lower size_px."
        )
    progress = Progress(context, f"Reading {name}", len(paths))
    pictures = np.zeros((len(paths), size_px, size_px, 3), np.uint8)
    for place, (path, _) in enumerate(paths):
        progress(place)
        pictures[place] = np.asarray(fit_square(open_picture(path), size_px))
    classes = torch.tensor([index for _, index in paths], dtype=torch.long)
    return Examples(torch.from_numpy(pictures).permute(0, 3, 1, 2), classes)


def _one(context: Context, arm: str, course: Course, examples: Examples, test: Examples) -> dict[str, Any]:
    """One arm trained and tested with one seed."""
    name = f"Classifier on {arm}, seed {course.seed}"
    task = train_classifier(course, examples, arm == "real-d4", Progress(context, name, course.steps))
    return measure_classifier(task, test, course.device, Progress(context, f"{name}: testing", len(test)))


def _summary(results: list[dict[str, Any]], trained_on: str, n_test: int) -> dict[str, Any]:
    """Mean and standard deviation over seeds, Wilson's interval, and the sum of the confusion matrices."""
    values = {key: [result[key] for result in results] for key, _ in FIGURES}
    return {
        "trained_on": trained_on,
        "mean": {key: fmean(of_seeds) for key, of_seeds in values.items()},
        "deviation": {key: stdev(of_seeds) if len(of_seeds) > 1 else None for key, of_seeds in values.items()},
        "seeds": values,
        "interval": wilson(fmean(values["overall_accuracy"]), n_test),
        "confusion": np.sum([result["confusion"] for result in results], 0).tolist(),
        "named": results[0]["named"],
    }


def _tell(context: Context, study: Study, arm: str, summary: dict[str, Any], weights_sha256: str) -> None:
    for key, _ in FIGURES:
        note = f"trained on {summary['trained_on']}"
        if summary["deviation"][key] is not None:
            note += f"; mean of {len(summary['seeds'][key])} seeds, standard deviation {summary['deviation'][key]:.3g}"
        if key == "overall_accuracy":
            note += "; 95 % interval {:.3f}–{:.3f}".format(*summary["interval"])
        context.emit(
            MetricMeasured(
                f"{arm}/{key}",
                summary["mean"][key],
                n_real=len(study.test),
                n_generated=len(study.tiles) if arm in ("synthetic", "both") else 0,
                network="resnet18",
                weights_sha256=weights_sha256,
                split_sha256=study.split_sha256,
                note=note,
            )
        )


def _report(
    settings: DownstreamSettings,
    study: Study,
    arms: dict[str, Any],
    weights_sha256: str,
    steps: int,
) -> dict[str, Any]:
    truth = [index for _, index in study.test]
    pairs = (("synthetic", "real"), ("both", "real"), ("both", "real-d4")) if study.real else ()
    return {
        "kind": "downstream",
        "synthetic": settings.synthetic,
        "real": study.dataset,
        "split": study.split,
        "split_sha256": study.split_sha256,
        "network": "resnet18",
        "weights_sha256": weights_sha256,
        "protocol": PROTOCOL,
        "settings": settings.model_dump(mode="json"),
        "steps": steps,
        "classes": study.classes,
        "n_test": len(study.test),
        "comparisons": [_compared(first, second, arms, truth) for first, second in pairs],
        "arms": {name: {key: value for key, value in arm.items() if key != "named"} for name, arm in arms.items()},
        "warnings": [f"{message} {hint}".strip() for message, hint in study.warnings],
    }


def _compared(first: str, second: str, arms: dict[str, Any], truth: list[int]) -> dict[str, Any]:
    """McNemar's exact test between two arms' first seeds, on the same real pictures."""
    pairs = list(zip(arms[first]["named"], arms[second]["named"], truth, strict=True))
    only_first = sum(one == true != other for one, other, true in pairs)
    only_second = sum(other == true != one for one, other, true in pairs)
    return {
        "first": first,
        "second": second,
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar(only_first, only_second),
    }
