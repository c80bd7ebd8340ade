"""One training run in a process of its own, with the time at which each of its steps ended.

    python stamped.py STAMPS.json peer SCRIPT.py --its --own --arguments
    python stamped.py STAMPS.json own WORKSPACE SETTINGS.json RUN

A peer's script runs as it is; only Accelerate's `log`, which it calls after each step, also notes the time. The
studio's events are noted the same way. Stamps hold seconds of the clock and of the processor since the process began.
"""

import json
import os
import resource
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Stamp = dict[str, Any]


class Stamps:
    """What happened when; written once, at the end."""

    def __init__(self) -> None:
        self._stamps: list[Stamp] = []

    def note(self, what: str, **facts: Any) -> None:
        self._stamps.append({"what": what, "clock": time.time(), "cpu": time.process_time(), **facts})

    def write(self, path: Path) -> None:
        facts = {"stamps": self._stamps, "peak_memory_bytes": _peak_memory()}
        path.write_text(json.dumps(facts))


def _peak_memory() -> int:
    """Of the GPU where there is one, else of the process (Linux counts in KiB)."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_peer(stamps: Stamps, script: str, arguments: list[str]) -> None:
    from accelerate import Accelerator

    stock = Accelerator.log

    def log(self: Accelerator, values: dict[str, Any], step: int | None = None, **other: Any) -> None:
        stock(self, values, step=step, **other)
        if step is not None:
            stamps.note("step", step=step, loss=float(next(iter(values.values()))))

    Accelerator.log = log
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def run_own(stamps: Stamps, workspace: str, settings: str, name: str) -> None:
    from studio import requests
    from studio.events import Event, Phase, StepDone
    from studio.session import Session
    from studio.settings import TrainSettings
    from studio.workspace import open_workspace

    def watch(event: Event) -> None:
        if isinstance(event, StepDone):
            stamps.note("step", step=event.step, loss=event.loss)
        elif isinstance(event, Phase) and event.total:
            stamps.note("phase", name=event.name, done=event.done, total=event.total)

    session = Session(open_workspace(Path(workspace)))
    told = TrainSettings.model_validate_json(Path(settings).read_text())
    finished = session.execute(requests.train_job(session.workspace, told, name, session.device), watch)
    if finished.outcome != "completed":
        raise SystemExit(f"{finished.message} {finished.hint}")


def run(arguments: list[str], target: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Do it in a child process; what was noted, the clock counted from the child's start.

    Raises:
        SystemExit: the child failed; its last words are the message.
    """
    began = time.time()
    command = [sys.executable, __file__, str(target), *arguments]
    # The studio beside these benchmarks, wherever they are called from.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    env = os.environ | {"PYTHONPATH": path} | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode or not target.is_file():
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    noted: dict[str, Any] = json.loads(target.read_text())
    for stamp in noted["stamps"]:
        stamp["clock"] -= began
    return noted


def main() -> None:
    target, side, first, *others = sys.argv[1:]
    stamps = Stamps()
    if side == "peer":
        run_peer(stamps, first, others)
    else:
        run_own(stamps, first, *others)
    stamps.write(Path(target))


if __name__ == "__main__":
    main()
