"""One step of the optimiser over an effective batch, in as many forward passes as memory asks for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from studio.errors import StudioError
from studio.events import Event, Warned
from studio.memory import free_memory, is_out_of_memory
from studio.settings import OptimiserSettings
from studio.training import optimisers
from studio.training.processes import Team

if TYPE_CHECKING:
    from studio.training.train import Task

_LONGEST_PORTION = 64


@dataclass(frozen=True)
class Taken:
    """What became of one step."""

    loss: float
    learning_rate: float
    gradient_norm: float
    """Before it was clipped."""


@dataclass
class Stepping:
    """How a run takes its steps; `micro_batch` shrinks for good where memory runs out."""

    task: "Task"
    team: Team
    settings: OptimiserSettings
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    emit: Callable[[Event], None]
    micro_batch: int
    """Pictures of this process's rows that go through the network at once."""

    def take(self, step: int) -> Taken:
        """Take a step, with the same effective batch however little memory there is.

        Raises:
            StudioError: the loss or the gradient is not finite; nothing of the step was kept.
        """
        rate = optimisers.learning_rate(self.settings, step)
        optimisers.set_learning_rate(self.optimiser, rate)
        loss, norm = self._gradients(step)
        check_finite(step + 1, loss, norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        return Taken(loss, rate, norm)

    def _gradients(self, step: int) -> tuple[float, float]:
        """The whole step's loss, and the norm of its gradients, which are clipped and ready for the optimiser."""
        parameters = list(self.task.parameters.values())
        while True:
            loss, shortages = self.team.add(*self._tried(step))
            if shortages:
                self._make_room(step)
                continue
            self.team.add_gradients(parameters)
            self.scaler.unscale_(self.optimiser)
            norm = float(nn.utils.clip_grad_norm_(parameters, self.settings.max_gradient_norm))
            if math.isfinite(norm) or not (self.scaler.is_enabled() and self.scaler.get_scale() > 1):
                return loss, norm
            self.scaler.update()  # fp16 ran over: the same step again, scaled by less
            self.optimiser.zero_grad(set_to_none=True)

    def _tried(self, step: int) -> tuple[float, bool]:
        """This process's share of the step's mean loss, and whether memory ran out before its gradients were there."""
        losses = []
        rows = self.team.own(range(self.settings.effective_batch))
        try:
            for start in range(0, len(rows), self.micro_batch):
                some = rows[start : start + self.micro_batch]
                part = self.task.loss(step, some) * (len(some) / self.settings.effective_batch)
                self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
                losses.append(part.detach())
            return float(torch.stack(losses).sum()), False
        except (RuntimeError, MemoryError) as error:
            if self.micro_batch == 1 or not is_out_of_memory(error):
                raise
            return 0.0, True

    def _make_room(self, step: int) -> None:
        """Halve what goes at once; not while the error is handled, which holds on to what did not fit."""
        self.optimiser.zero_grad(set_to_none=True)
        free_memory()
        self.micro_batch = (self.micro_batch + 1) // 2
        self.emit(
            Warned(
                f"Memory ran out at step {step + 1}: going on with {self.micro_batch} pictures at once.",
                f"The effective batch stays {self.settings.effective_batch}.",
            )
        )


def portion(step: int, steps: int) -> range:
    """The steps around one whose pictures are encoded together: few at first, so that a run soon begins.

    Of a run of any length they are the first, the second, the next two, four, eight …, and at last 64 at a time; so
    that a run that was stopped finds the same ones.
    """
    if step >= _LONGEST_PORTION:
        start, count = step // _LONGEST_PORTION * _LONGEST_PORTION, _LONGEST_PORTION
    else:
        start = 2 ** (step.bit_length() - 1) if step else 0
        count = max(start, 1)
    return range(start, min(start + count, steps))


def check_finite(step: int, loss: float, norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise StudioError(
            f"The loss or gradient of step {step} is not a finite number, so the step was not taken.",
            "Resuming would repeat it. Begin a new run from this one's last checkpoint with a smaller step: "
            "--set base=RUN --set learning_rate=…, or try --set precision=fp32.",
        )
