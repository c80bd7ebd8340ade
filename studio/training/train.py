"""The training loop: the same for every method, read from top to bottom."""

import platform
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from studio.config import WorkspaceSettings, load
from studio.context import Context, Done
from studio.devices import cpu_threads
from studio.errors import StudioError
from studio.events import CheckpointSaved, MetricMeasured, Phase, PreviewSaved, Started, StepDone, Validated
from studio.models import checkpoints
from studio.settings import AutoencoderMethod, ScratchMethod, TrainSettings
from studio.training import optimisers
from studio.training.averaging import MovingAverage


class Task(Protocol):
    """What is learnt: a loss for each step, and how to look at and write what came of it."""

    parameters: dict[str, nn.Parameter]

    def prepare(self) -> bool: ...
    def loss(self, step: int, micro: int) -> Tensor: ...
    def validation_loss(self) -> float: ...
    def preview(self, step: int) -> list[PreviewSaved]: ...
    def measure(self, step: int) -> MetricMeasured | None: ...
    def write(self, folder: Path) -> None: ...
    def state(self) -> dict[str, object]: ...


def train(context: Context) -> Done:
    """Train to the last step, or until asked to stop; the newest whole checkpoint is where it goes on.

    Raises:
        StudioError: the loss or the gradient is no longer finite; nothing of that step was kept.
    """
    settings = context.settings
    assert isinstance(settings, TrainSettings)
    run, emit, control = context.folder.path, context.emit, context.control
    optimiser_settings, saving = settings.optimiser, settings.saving
    steps = optimiser_settings.steps

    # ---- where to begin
    checkpoint = checkpoints.newest(run)
    first = checkpoints.step_of(checkpoint) if checkpoint else 0
    emit(Started("train", context.device, first, steps))
    emit(Phase("Opening model and data"))
    tensors, state = checkpoints.load(checkpoint) if checkpoint else ({}, {})
    threads = set_threads(context, state.get("threads"))
    task = open_task(context, settings)
    parameters = task.parameters
    optimiser = optimisers.adamw(parameters, optimiser_settings)
    average = MovingAverage(parameters, optimiser_settings.ema) if optimiser_settings.ema else None
    restore(parameters, optimiser, average, tensors)
    del tensors
    validations: dict[int, float] = {int(step): loss for step, loss in state.get("validations", {}).items()}

    def look(step: int) -> None:
        """Measure the validation loss with the weights that would be used."""
        loss = with_average(task.validation_loss, average, parameters)
        validations[step] = loss
        emit(Validated(step, loss, best=loss <= min(validations.values())))

    def save(step: int) -> None:
        kept = training_tensors(parameters, optimiser, average)
        check_whole(step, kept)
        facts = task.state() | {"step": step, "threads": threads, "validations": validations} | versions()
        path = with_average(lambda: checkpoints.save(run, step, kept, facts, task.write), average, parameters)
        there = map(checkpoints.step_of, checkpoints.all_of(run))
        best = min((one for one in there if one in validations), key=lambda one: validations[one], default=step)
        promoted = checkpoints.promoted_step(run)
        checkpoints.prune(run, step, saving.keep_last, [best] if promoted is None else [best, promoted])
        emit(CheckpointSaved(step, path.relative_to(run).as_posix()))

    def show(step: int) -> None:
        for preview in with_average(lambda: task.preview(step), average, parameters):
            emit(preview)

    def measure(step: int) -> None:
        metric = with_average(lambda: task.measure(step), average, parameters)
        if metric is not None:
            emit(metric)

    # ---- before the first step
    if not task.prepare():
        return stopped(context, first, first, validations)
    if first == 0:
        look(0)

    # ---- the steps
    saved = first
    for step in range(first, steps):
        began = time.monotonic()
        rate = optimisers.learning_rate(optimiser_settings, step)
        optimisers.set_learning_rate(optimiser, rate)
        loss = 0.0
        for micro in range(optimiser_settings.accumulation):
            part = task.loss(step, micro) / optimiser_settings.accumulation
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        norm = float(nn.utils.clip_grad_norm_(parameters.values(), optimiser_settings.max_gradient_norm))
        check_finite(step + 1, loss, norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average:
            average.update(parameters, step)
        done = step + 1
        images = optimiser_settings.batch * optimiser_settings.accumulation
        emit(StepDone(done, loss, rate, norm, images, time.monotonic() - began))

        # ---- look, show, keep
        if done % saving.validate_every == 0 or done == steps:
            look(done)
        if control.take("preview") or done % saving.preview_every == 0 or done == steps:
            show(done)
        if saving.measure_every and (done % saving.measure_every == 0 or done == steps):
            measure(done)
        if control.take("save") or done % saving.checkpoint_every == 0 or done == steps:
            save(done)
            saved = done
        if done < steps and context.should_stop(done):
            if saved != done:
                save(done)
            return stopped(context, first, done, validations)
    return Done(result(context, first, steps, validations))


def open_task(context: Context, settings: TrainSettings) -> Task:
    # Here, as each brings its own libraries.
    if isinstance(settings.method, AutoencoderMethod):
        from studio.training.autoencoder import open_autoencoder

        return open_autoencoder(context, settings)
    from studio.training.diffusion import open_diffusion, open_scratch

    if isinstance(settings.method, ScratchMethod):
        return open_scratch(context, settings)
    return open_diffusion(context, settings)


def set_threads(context: Context, recorded: int | None) -> int:
    """Compute with as many threads as the run began with, since sums differ in their last bits otherwise."""
    threads = cpu_threads(recorded or load(context.workspace.settings_path, WorkspaceSettings).cpu_threads)
    torch.set_num_threads(threads)
    return threads


def check_finite(step: int, loss: float, norm: float) -> None:
    if not (torch.isfinite(torch.tensor([loss, norm])).all()):
        raise StudioError(
            f"The loss or gradient of step {step} is not a finite number, so the step was not taken.",
            "Resuming would repeat it. Begin a new run from this one's last checkpoint with a smaller step: "
            "--set base=RUN --set learning_rate=…, or try --set precision=fp32.",
        )


def check_whole(step: int, tensors: dict[str, Tensor]) -> None:
    broken = next((name for name, one in tensors.items() if not torch.isfinite(one).all()), None)
    if broken:
        raise StudioError(
            f"{broken} is no longer finite at step {step}, so it was not saved.",
            "Begin a new run from this one's last checkpoint with a smaller step: --set base=RUN.",
        )


def with_average(act: Any, average: MovingAverage | None, parameters: dict[str, nn.Parameter]) -> Any:
    """Act with the averaged weights in place, where there are any."""
    if average is None:
        return act()
    with average.applied(parameters):
        return act()


def training_tensors(
    parameters: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer, average: MovingAverage | None
) -> dict[str, Tensor]:
    """Copies of everything that the next step depends on: weights, averages and the optimiser's state."""
    tensors = {f"weights.{name}": one.detach() for name, one in parameters.items()}
    tensors |= optimisers.state_tensors(optimiser, parameters)
    if average:
        tensors |= {f"average.{name}": one for name, one in average.averages.items()}
    return {name: one.to("cpu", copy=True).contiguous() for name, one in tensors.items()}


@torch.no_grad()
def restore(
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    average: MovingAverage | None,
    tensors: dict[str, Tensor],
) -> None:
    if not tensors:
        return
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"weights.{name}"])
        if average:
            average.averages[name].copy_(tensors[f"average.{name}"])
    optimisers.restore(optimiser, parameters, tensors)


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version()}


def result(context: Context, first: int, step: int, validations: dict[int, float]) -> dict[str, Any]:
    checkpoint = checkpoints.newest(context.folder.path)
    measured = [validations[one] for one in sorted(validations)]
    return {
        "run": context.folder.path.name,
        "from_step": first,
        "step": step,
        "steps": context.settings.optimiser.steps,  # type: ignore[attr-defined]
        "checkpoint": str(checkpoint) if checkpoint else None,
        "validation_loss_first": measured[0] if measured else None,
        "validation_loss_last": measured[-1] if measured else None,
    }


def stopped(context: Context, first: int, step: int, validations: dict[int, float]) -> Done:
    return Done(result(context, first, step, validations), "stopped")
