"""A measurement's report: report.json for programs, report.md for people."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import files
from studio.display import shown_line

JSON, TABLE = "report.json", "report.md"
FIGURES = (
    ("overall_accuracy", "overall accuracy"),
    ("average_accuracy", "average accuracy"),
    ("f1_macro", "F1 (macro)"),
    ("f1_micro", "F1 (micro)"),
    ("jaccard", "Jaccard"),
    ("loss", "loss"),
)


def write_report(folder: Path, report: Mapping[str, Any], markdown: str) -> dict[str, str]:
    """Write both forms, the one for programs last; the job's result names them."""
    files.write_text(folder / TABLE, markdown)
    files.write_json(folder / JSON, report)
    return {"report": str(folder / JSON), "table": str(folder / TABLE)}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; foreign text cannot break out of its cell."""
    lines = [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def evaluation_markdown(report: Mapping[str, Any]) -> str:
    """The distances of an evaluation, each with its counts, network, floor and sums."""
    rows = [
        (
            metric["name"],
            figure(metric["value"]),
            figure(metric["floor"]),
            _ratio(metric),
            metric["n_real"],
            metric["n_generated"],
            metric["network"],
            metric["weights_sha256"][:12],
            metric["note"],
        )
        for metric in report["metrics"]
    ]
    header = ("figure", "value", "real against real", "ratio", "N real", "N generated", "network", "weights", "how")
    real = f"{report['real']}:{report['split']}"
    return (
        f"# {_text(report['generated'])} against {_text(real)}\n\n"
        f"{table(header, rows)}\n"
        "Lower is closer. *Real against real* is the same figure between two sets of real pictures of the same size: "
        "what a perfect generator would reach.\n\n"
        f"Split {_text(report['split'])} has the sha256 {report['split_sha256'][:12]}; "
        f"{report['n']} of its {report['real_found']} pictures and {report['n']} of {report['tiles_found']} tiles were "
        f"compared at {report['size_px']} px, drawn with seed {report['seed']}.\n{_warnings(report)}"
    )


def downstream_markdown(report: Mapping[str, Any]) -> str:
    """What classifiers reach that learnt from generated, real or both kinds of pictures."""
    rows = [
        (name, arm["trained_on"], *(figure(arm["mean"][key]) for key, _ in FIGURES), _interval(arm["interval"]))
        for name, arm in report["arms"].items()
    ]
    header = ("arm", "trained on", *(label for _, label in FIGURES), "95 % interval")
    real = f"{report['real']}:{report['split']}"
    return (
        f"# A classifier trained on {_text(report['synthetic'])} and tested on {_text(real)}\n\n"
        f"{table(header, rows)}\n"
        f"{_text(report['protocol'])} The interval is Wilson's for the overall accuracy of one classifier on "
        f"{report['n_test']} real pictures. F1 (micro) equals overall accuracy by definition.\n\n"
        f"{_comparisons(report['comparisons'])}{_warnings(report)}\n{_confusions(report)}"
    )


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    return "".join(
        f"- {one['first']} against {one['second']}: right where the other is wrong {one['only_first']} and "
        f"{one['only_second']} times, McNemar p = {one['p']:.2g}"
        f"{'; no difference shown' if one['p'] > 0.05 else ''}.\n"
        for one in comparisons
    )


def _confusions(report: Mapping[str, Any]) -> str:
    classes = report["classes"]
    parts = []
    for name, arm in report["arms"].items():
        rows = [(label, *counts) for label, counts in zip(classes, arm["confusion"], strict=True)]
        parts.append(f"## {_text(name)}: true class down, named class across\n\n{table(('', *classes), rows)}")
    return "\n".join(parts)


def _warnings(report: Mapping[str, Any]) -> str:
    return "".join(f"\n- {_text(warning)}" for warning in report["warnings"]) + "\n" if report["warnings"] else ""


def _ratio(metric: Mapping[str, Any]) -> str:
    # KID's floor is nothing but noise around 0, so a ratio to it would say nothing.
    if metric["name"] == "kid" or not metric["floor"]:
        return "–"
    return figure(metric["value"] / metric["floor"])


def _interval(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(_text(cell) for cell in cells) + " |"


def _text(value: object) -> str:
    text = shown_line(value)
    for sign in "\\`*[]<|":
        text = text.replace(sign, f"\\{sign}")
    return text
