"""How busy each device is, with bars."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from screens import wording
from screens.watching import Watched
from studio.devices import DeviceLoad
from studio.display import shown_line


class DeviceBars(Static):
    """Load, memory, power and heat of every device, and the space left on disk."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__("", id=id, classes=classes, markup=False)
        self._drawn = Content("")

    def show(self, loads: list[DeviceLoad], free_bytes: int, live: list[Watched]) -> None:
        lines: list[Content] = []
        for load in loads:
            job = next((job for job in live if job.state.device == load.name), None)
            lines += [*device_lines(load, job, max(self.content_size.width - 20, 6)), Content("")]
        if free_bytes:
            lines.append(Content(f"disk  {wording.gigabytes(free_bytes)} GB free"))
        drawn = Content("\n").join(lines)
        if drawn != self._drawn:
            self._drawn = drawn
            self.update(drawn)


def device_lines(load: DeviceLoad, job: Watched | None, width: int) -> list[Content]:
    name = "CPU " if load.name == "cpu" else load.name.replace("cuda:", "GPU")
    work = ("▶ " + wording.title_of(job.state), "$success") if job else ("idle", "$foreground 40%")
    lines = [Content.assemble((name, "bold"), f" {shown_line(load.label, 20)}  ", work)]
    if load.load_percent is not None:
        lines.append(_bar("load", f"{load.load_percent:.0f}%", load.load_percent / 100, width))
    share = load.memory_used_bytes / load.memory_total_bytes if load.memory_total_bytes else 0.0
    used, total = wording.gigabytes(load.memory_used_bytes), wording.gigabytes(load.memory_total_bytes)
    lines.append(_bar("mem", f"{used}/{total} GB", share, width))
    if load.power_watts is not None:
        lines.append(Content(f"{'power':<5} {load.power_watts:>12.0f} W"))
    if load.temperature_celsius is not None:
        lines.append(Content(f"{'heat':<5} {load.temperature_celsius:>11.0f} °C"))
    return lines


def _bar(name: str, figure: str, share: float, width: int) -> Content:
    colour = "$error" if share >= 0.9 and name == "mem" else "$primary"
    return Content.assemble(f"{name:<5}{figure:>13} ", (wording.block_bar(share, width), colour))
