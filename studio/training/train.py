"""The training loop: the same for every method, read from top to bottom."""

import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from studio.config import WorkspaceSettings, load
from studio.context import Context, Done
from studio.devices import cpu_threads
from studio.errors import StudioError, UsageError
from studio.events import CheckpointSaved, MetricMeasured, Phase, PreviewSaved, Started, StepDone
from studio.memory import is_out_of_memory
from studio.models import checkpoints
from studio.settings import AutoencoderMethod, ScenesMethod, ScratchMethod, TextMethod, TrainSettings
from studio.training import optimisers
from studio.training.averaging import MovingAverage
from studio.training.looking import Looks, with_average
from studio.training.planning import before, micro_batch_for
from studio.training.processes import Team
from studio.training.ranking import Ranking
from studio.training.stepping import Stepping, portion

ALONE = Team()


class Task(Protocol):
    """What is learnt: a loss for each step, and how to look at and write what came of it."""

    parameters: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    """What changes with every step and is no parameter, such as the running means of a normalisation."""
    bins: list[float]
    """The last validation loss by timestep, from little noise to much; empty where there are no timesteps."""

    def prepare(self) -> bool:
        """Make ready what is needed before any step; False if asked to stop meanwhile."""
        ...

    def encode(self, steps: range) -> bool:
        """Make ready what some steps draw, as far as it is not; False if asked to stop meanwhile."""
        ...

    def loss(self, step: int, rows: range) -> Tensor:
        """Mean error of some rows of a step's effective batch; of diffusion whichever rows go together."""
        ...

    def validation_loss(self) -> float: ...
    def preview(self, step: int) -> list[PreviewSaved]: ...
    def measure(self, step: int) -> MetricMeasured | None: ...
    def write(self, folder: Path) -> None: ...
    def state(self) -> dict[str, object]: ...


def train(context: Context, team: Team = ALONE) -> Done:
    """Train to the last step, or until asked to stop; the newest whole checkpoint is where it goes on.

    Args:
        team: the processes that train together; each runs this, and the first one looks, speaks and saves for all.

    Raises:
        StudioError: the loss or the gradient is no longer finite; nothing of that step was kept.
        UsageError: the method does not train in several processes.
    """
    settings = context.settings
    assert isinstance(settings, TrainSettings)
    if team.size > 1 and isinstance(settings.method, ScenesMethod | TextMethod):
        raise UsageError(
            f"The method {settings.method.name} trains in one process: its loss is of all pictures of a step together.",
            "Leave --processes out.",
        )
    context = replace(context, device=team.device or context.device)
    run, emit, control = context.folder.path, context.emit, context.control
    optimiser_settings, saving = settings.optimiser, settings.saving
    steps = optimiser_settings.steps

    # ---- where to begin
    checkpoint = team.agree(checkpoints.newest(run) if team.leads else None)
    first = checkpoints.step_of(checkpoint) if checkpoint else 0
    emit(Started("train", context.device, first, steps))
    emit(Phase("Opening model and data"))
    tensors, state = checkpoints.load(checkpoint) if checkpoint else ({}, {})
    threads = set_threads(context, state.get("threads"), team)
    task = team.after_the_first(lambda: open_task(context, settings))
    parameters = task.parameters
    optimiser = optimisers.optimiser_for(parameters, optimiser_settings)
    average = MovingAverage(parameters, optimiser_settings.ema) if optimiser_settings.ema and team.leads else None
    restore(parameters, task.buffers, optimiser, average, tensors)
    del tensors
    team.share(list(parameters.values()))
    effective = optimiser_settings.effective_batch
    rows = team.own(range(effective))
    scaler = torch.amp.GradScaler(torch.device(context.device).type, enabled=optimiser_settings.precision == "fp16")
    if state.get("scaler"):
        scaler.load_state_dict(state["scaler"])
    ranking = Ranking.of(saving.rank_by, state)
    looks = Looks(context, settings, task, average, ranking)

    saved = first

    def save(step: int) -> None:
        nonlocal saved
        kept = training_tensors(parameters, task.buffers, optimiser, average)
        check_whole(step, kept)
        going_on = {"threads": threads, "micro_batch": stepping.micro_batch, "scaler": scaler.state_dict()}
        facts = task.state() | {"step": step, "processes": team.size} | ranking.facts() | going_on | versions()
        path = with_average(lambda: checkpoints.save(run, step, kept, facts, task.write), average, parameters)
        best = ranking.best(map(checkpoints.step_of, checkpoints.all_of(run)))
        stay = [one for one in (best, checkpoints.promoted_step(run)) if one is not None]
        checkpoints.prune(run, step, saving.keep_last, stay)
        emit(CheckpointSaved(step, path.relative_to(run).as_posix()))
        saved = step

    def ended(step: int, outcome: Literal["completed", "stopped"] = "completed") -> Done:
        if team.leads and saved != step:
            save(step)
        return Done(result(context, first, step, ranking), outcome)

    # ---- before the first step
    if first == 0 and team.leads:
        for said in before(context.workspace, settings, context.device):
            emit(said)
    near = portion(first, steps)
    if not in_turn(team, lambda: task.prepare() and task.encode(near)):
        return ended(first, "stopped")
    # Sums differ in their last bits with the micro-batch: a resumed run keeps the one that it had.
    micro_batch = int(state.get("micro_batch") or 0) or team.agree(micro_batch_for(context, settings, len(rows)))
    stepping = Stepping(task, team, optimiser_settings, optimiser, scaler, emit, micro_batch)
    if first == 0 and team.leads:
        looks.first()

    # ---- the steps
    if ranking.is_spent(saving.patience):
        steps = first  # killed after its measures had ended it
    for step in range(first, steps):
        began = time.monotonic()
        try:
            if step not in near:
                near = portion(step, steps)
                if not in_turn(team, partial(task.encode, near)):
                    return ended(step, "stopped")
                began = time.monotonic()
            taken = stepping.take(step)
        except (StudioError, RuntimeError, MemoryError) as error:
            # A picture that cannot be read, a full disk, a loss that is no number: the steps before are whole.
            if team.leads and saved != step and (isinstance(error, StudioError) or is_out_of_memory(error)):
                save(step)
            raise
        if average:
            average.update(parameters, step)
        done = step + 1
        seconds = time.monotonic() - began
        emit(StepDone(done, taken.loss, taken.learning_rate, taken.gradient_norm, effective, seconds))
        looks.timed(first, done, seconds, stepping.micro_batch)

        # ---- look, show, keep
        ending: Literal["", "completed", "stopped"] = ""
        if team.leads:
            is_last = looks.at(done, done == steps, control.take("preview"))
            if control.take("save") or done % saving.checkpoint_every == 0 or is_last:
                save(done)
            ending = "completed" if is_last else "stopped" if context.should_stop(done) else ""
        ending = team.agree(ending)
        if ending:
            return ended(done, ending)
    return ended(steps)


def in_turn(team: Team, act: Callable[[], bool]) -> bool:
    """Let the first process act, then the others, which find on disk what it made; False where it was stopped."""
    is_whole = team.agree(act() if team.leads else None)
    if is_whole and not team.leads:
        act()
    return bool(is_whole)


def open_task(context: Context, settings: TrainSettings) -> Task:
    # Here, as each brings its own libraries.
    if isinstance(settings.method, AutoencoderMethod):
        from studio.training.autoencoder import open_autoencoder

        return open_autoencoder(context, settings)
    if isinstance(settings.method, ScenesMethod):
        from studio.training.scenes import open_scenes

        return open_scenes(context, settings)
    if isinstance(settings.method, TextMethod):
        from studio.training.text import open_text

        return open_text(context, settings)
    from studio.training.opening import open_diffusion, open_scratch

    if isinstance(settings.method, ScratchMethod):
        return open_scratch(context, settings)
    return open_diffusion(context, settings)


def set_threads(context: Context, recorded: int | None, team: Team) -> int:
    """Compute with as many threads as the run began with, since sums differ in their last bits otherwise."""
    own_share = load(context.workspace.settings_path, WorkspaceSettings).cpu_threads // team.local_size
    threads = cpu_threads(recorded or own_share)
    torch.set_num_threads(threads)
    return threads


def check_whole(step: int, tensors: dict[str, Tensor]) -> None:
    broken = next((name for name, one in tensors.items() if not torch.isfinite(one).all()), None)
    if broken:
        raise StudioError(
            f"{broken} is no longer finite at step {step}, so it was not saved.",
            "Begin a new run from this one's last checkpoint with a smaller step: --set base=RUN.",
        )


def training_tensors(
    parameters: dict[str, nn.Parameter],
    buffers: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    average: MovingAverage | None,
) -> dict[str, Tensor]:
    """Copies of everything that the next step depends on: weights, buffers, averages and the optimiser's state."""
    tensors = {f"weights.{name}": one.detach() for name, one in parameters.items()}
    tensors |= {f"buffers.{name}": one for name, one in buffers.items()}
    tensors |= optimisers.state_tensors(optimiser, parameters)
    if average:
        tensors |= {f"average.{name}": one for name, one in average.averages.items()}
    return {name: one.to("cpu", copy=True).contiguous() for name, one in tensors.items()}


@torch.no_grad()
def restore(
    parameters: dict[str, nn.Parameter],
    buffers: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    average: MovingAverage | None,
    tensors: dict[str, Tensor],
) -> None:
    if not tensors:
        return
    for name, buffer in buffers.items():
        buffer.copy_(tensors[f"buffers.{name}"])
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"weights.{name}"])
        if average:
            average.averages[name].copy_(tensors[f"average.{name}"])
    optimisers.restore(optimiser, parameters, tensors)


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version()}


def result(context: Context, first: int, step: int, ranking: Ranking) -> dict[str, Any]:
    run = context.folder.path
    checkpoint = checkpoints.newest(run)
    measured = [ranking.validations[one] for one in sorted(ranking.validations)]
    return {
        "run": run.name,
        "from_step": first,
        "step": step,
        "steps": context.settings.optimiser.steps,  # type: ignore[attr-defined]
        "checkpoint": str(checkpoint) if checkpoint else None,
        "best_step": ranking.best(map(checkpoints.step_of, checkpoints.all_of(run))),
        "validation_loss_first": measured[0] if measured else None,
        "validation_loss_last": measured[-1] if measured else None,
    }
