"""Time from a key press to its effect on the screen, idle and while a CPU training runs in the studio's own process.

    python benchmarks/key_latency.py [--presses 200]

Makes a small workspace, opens the studio on a pseudo-terminal of 120 × 36, walks over the six screens by their digits,
starts a training from the Data screen with the keys that a person uses, and walks on. The seconds in which PyTorch and
the model load are counted apart. Prints p50, p95 and the slowest, in milliseconds, as JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pty_screen import PtyScreen

from studio.runs import state_of
from studio.workspace import Workspace, numbered_folders

# What only the target screen shows.
STEPS = {"2": "Data sets", "3": "Events", "4": "Sampling", "5": "Full size", "6": "Measurements", "1": "Devices"}
REST_SECONDS = 0.12


def walk(screen: PtyScreen, presses: int, go_on: Callable[[], bool] = lambda: True) -> list[float]:
    """Milliseconds of each press; stops early where it should not go on."""
    times = []
    for index in range(presses):
        key, text = list(STEPS.items())[index % len(STEPS)]
        screen.read(REST_SECONDS)
        if not go_on():
            break
        screen.press(key)
        took = screen.wait_for(text, 5)
        if took is None:
            raise SystemExit(f"The key {key} had no effect in 5 s:\n" + "\n".join(screen.lines()))
        times.append(took * 1000)
    return times


def figures(times: list[float]) -> dict[str, float | int]:
    ordered = sorted(times)
    if not ordered:
        return {"presses": 0}
    p95 = ordered[max(int(len(ordered) * 0.95) - 1, 0)]
    return {"p50_ms": statistics.median(ordered), "p95_ms": p95, "max_ms": ordered[-1], "presses": len(ordered)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presses", type=int, default=200)
    args = parser.parse_args()
    command = str(Path(sys.executable).parent / "rs-studio")
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace(Path(temporary) / "workspace")
        imported = [command, str(workspace.root), "import", "demo:140", "--as", "demo", "--hold-out", "20"]
        subprocess.run(imported, check=True, capture_output=True)
        screen = PtyScreen([command, str(workspace.root)])
        try:
            if screen.wait_for(STEPS["1"], 30) is None:
                raise SystemExit("The studio drew nothing in 30 s.")
            screen.read(2)
            idle = walk(screen, args.presses)
            if not screen.shows(STEPS["2"]):
                screen.press("2")
            screen.read(1)
            for key in ("t", "\n"):
                screen.press(key)
                screen.read(1)
            loading = walk(screen, 10_000, lambda: _step(workspace) < 1)
            first = _step(workspace)
            training = walk(screen, args.presses)
            last = _step(workspace)
        finally:
            screen.kill()
    result = {"idle": figures(idle), "loading": figures(loading), "training": figures(training)}
    print(json.dumps(result | {"steps_meanwhile": last - first, "load": os.getloadavg()[0]}))


def _step(workspace: Workspace) -> int:
    runs = numbered_folders(workspace.runs)
    return state_of(runs[-1]).step if runs else 0


if __name__ == "__main__":
    main()
