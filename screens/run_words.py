"""A run in words for the Train screen: what it was told, how it stands, its newest figures, and how fast it goes."""

from __future__ import annotations

from textual.content import Content

from screens import run_facts, wording
from screens.watching import Watched
from studio.display import shown_line

BIN_COLOURS = ("$primary", "$accent", "$success", "$warning")
PROBED = ("forgetting", "change", "drift")


def told(job: Watched) -> Content:
    """What the run was told, under headings, without what is long or empty."""
    lines: list[Content] = []
    values = run_facts.settings_of(job.path).get("settings", {})
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    groups = {"run": plain, **{key: value for key, value in values.items() if isinstance(value, dict)}}
    for heading, group in groups.items():
        rows = [
            (key, run_facts.said(value)) for key, value in group.items() if key not in ("description", "known_problems")
        ]
        rows = [(key, value) for key, value in rows if value]
        if rows:
            lines.append(Content.assemble((heading.capitalize(), "bold $primary")))
        for key, value in rows:
            name = key.replace("_px", "").replace("_", " ")
            lines.append(Content.assemble((f"  {shown_line(name, 17):<18}", "$foreground 65%"), shown_line(value, 13)))
    return Content("\n").join(lines)


def status(job: Watched) -> str:
    state = job.state
    match state.status:
        case "running" | "paused":
            return f"{state.status} on {state.device}: e opens a copy"
        case "stopped" | "interrupted":
            return f"{state.status} at {state.step:,}: r resumes"
        case "failed" if state.finished is not None:
            return f"failed: {state.finished.message}"
        case _:
            return state.status


def figures(job: Watched, series: str = "Loss") -> Content:
    """The newest figures of a run, for the lower edge of its plot; where it shows several lines, in their colours."""
    if series == "By noise":
        return _bins(job)
    if series == "Probe":
        return _probed(job)
    state = job.state
    text = f"step {state.step:,}   loss {state.losses[-1][1]:.4f}" if state.losses else ""
    if state.validations:
        newest, best = state.validations[-1], state.best
        text += f"   valid {newest.loss:.4f} @ {newest.step:,}"
        if best is not None and best is not newest:
            text += f"   best {best.loss:.4f} @ {best.step:,}"
    return Content(text)


def _bins(job: Watched) -> Content:
    newest = next((one for one in reversed(list(job.state.validations)) if one.bins), None)
    if newest is None:
        return Content("")
    parts: list[str | tuple[str, str]] = ["little noise "]
    for place, loss in enumerate(newest.bins):
        parts.append((f" {loss:.4f} ", f"bold {BIN_COLOURS[place % len(BIN_COLOURS)]}"))
    return Content.assemble(*parts, f" much @ {newest.step:,}")


def _probed(job: Watched) -> Content:
    newest = {one.name: one for one in list(job.state.metrics)}
    parts: list[str | tuple[str, str]] = []
    for name, colour in zip(PROBED, BIN_COLOURS, strict=False):
        if name in newest:
            parts += [(name, f"bold {colour}"), f" {newest[name].value:.3g}  "]
    if (varied := newest.get("diversity")) is not None:
        parts.append(f"diversity {varied.value:.3g}")
        parts.append(f" @ {varied.step:,}" if varied.step is not None else "")
    return Content.assemble(*parts)


def speed(job: Watched) -> Content:
    """Phase, steps and images a second, time spent and left."""
    state = job.state
    lines: list[Content] = []
    if state.phase is not None:
        phase = state.phase
        lines.append(Content.assemble(("▸ ", "$accent"), wording.phase_of(phase, 22)))
        if phase.total:
            full, rest = wording.bar(phase.done / phase.total, 30)
            lines.append(Content.assemble((full, "$primary"), (rest, "$foreground 40%")))
    done, total = state.step, state.steps
    if total:
        full, rest = wording.bar(done / total, 18)
        lines.append(Content.assemble(f"{done:,}/{total:,} ", (full, "$primary"), (rest, "$foreground 40%")))
    newest, plan = state.last_step, state.plan
    if newest is None and plan is not None:
        lines.append(Content(f"expected {wording.gigabytes(plan.memory_bytes)} GB   {wording.duration(plan.seconds)}"))
    if newest is not None and state.seconds_per_step:
        rate = 1 / state.seconds_per_step
        each = newest.images / newest.seconds if newest.seconds else 0.0
        lines.append(Content(f"{rate:.2f} steps/s   {each:.1f} images/s"))
        memory = f"  {wording.gigabytes(plan.memory_bytes)} GB" if plan is not None else ""
        step = f"{state.seconds_per_step * 1000:,.0f} ms"
        lines.append(Content(f"step {step}  rate {newest.learning_rate:.1e}{memory}"))
    if state.started_at:
        left = f"   {wording.time_left(state.seconds_left)}" if state.seconds_left is not None else ""
        lines.append(Content(f"elapsed {wording.duration(max(state.updated_at - state.started_at, 0))}{left}"))
    return Content("\n").join(lines)
