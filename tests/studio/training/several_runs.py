"""A process of several that torchrun started: it trains one run after the other, NAME or NAME@STEP to stop there."""

import sys
from pathlib import Path

import torch
from torch import Tensor

from studio import jobs, launch, requests
from studio.control import Control
from studio.events import Event, StepDone
from studio.jobs import Job
from studio.runs import JobFolder
from studio.training.diffusion import Diffusion
from studio.workspace import Workspace

SHORT_OF_MEMORY = "short"


def main(root: str, *runs: str) -> None:
    workspace = Workspace(Path(root))

    def job_of(name: str) -> Job:
        return requests.job_of(workspace, JobFolder(workspace.run(name)))

    for run in runs:
        name, _, step = run.partition("@")
        if name == SHORT_OF_MEMORY:
            run_short_of_memory()
        if launch.follows():
            jobs.follow(job_of)
            continue
        control = Control()

        def watch(event: Event, control: Control = control, last: str = step) -> None:
            if isinstance(event, StepDone) and str(event.step) == last:
                control.ask("stop")

        finished = jobs.execute(job_of(name), control, watch)
        assert finished.outcome == ("stopped" if step else "completed"), finished


def run_short_of_memory() -> None:
    """Let the second process find no room for more than one picture at its third step."""
    honest = Diffusion.loss

    def loss(self: Diffusion, step: int, rows: range) -> Tensor:
        if launch.follows() and step == 2 and len(rows) > 1:
            raise torch.OutOfMemoryError("There is no room.")
        return honest(self, step, rows)

    Diffusion.loss = loss  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
