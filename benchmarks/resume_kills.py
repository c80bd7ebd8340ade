"""Does a run that is killed, again and again, end bit for bit as one that was left alone?

    python benchmarks/resume_kills.py --config SD15 [--kills 20] [--methods lora,full,scratch] [--steps 16] [--seed 0]

SD15 is a Stable Diffusion folder of which only settings, tokenizer and scheduler are read: a narrow model of its shape
is made from them, with random weights. For each method one run is left alone. Others, with the same settings, are
killed by SIGKILL at a random moment after a random step, or before the first, one to three times in a row, each time
resumed, and then left to end, until there were so many kills. Every byte of what they leave is compared with the first:
weights, averages, the optimiser's state, and the files for other tools; and so is the loss log, step by step. Prints
JSON; the exit code is 1 where anything differs.
"""

import argparse
import csv
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from narrow_model import save_model

from studio import requests
from studio.control import Control
from studio.events import Event, Phase, StepDone
from studio.jobs import execute
from studio.models import checkpoints
from studio.runs import state_of
from studio.session import Session
from studio.settings import ImportSettings, TrainSettings
from studio.workspace import Workspace, make_workspace

NARROW: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 64, "sample_size": 8},
    "text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2},
    "vae": {"block_out_channels": [32, 32, 32, 32], "sample_size": 64},
}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "rank": 4, "alpha": 4.0},
    "full": {"name": "full"},
    "scratch": {"name": "scratch", "channels": [32, 64], "text_width": 32, "text_layers": 1, "vocabulary": 600},
}
MOST_IN_A_ROW = 3
# Every process is a copy of this one, which has loaded the libraries and computed nothing.
fork = multiprocessing.get_context("fork")


def told(method: str, base: Path, steps: int) -> TrainSettings:
    saving = {"checkpoint_every": 3, "validate_every": 4, "validation_images": 8, "preview_every": 7}
    saving |= {"preview_steps": 2, "keep_last": 2}
    optimiser = {"steps": steps, "batch": 2, "accumulation": 2, "ema": 0.9, "learning_rate": 1e-3, "precision": "fp32"}
    return TrainSettings.model_validate(
        {
            "base": "starter" if method == "scratch" else str(base),
            "method": METHODS[method],
            "data": {"name": "tiles", "size_px": 64},
            "optimiser": optimiser,
            "saving": saving,
        }
    )


def work(root: Path, run: str, events: Connection | None = None) -> None:
    import torch

    torch.set_num_threads(1)

    def tell(event: Event) -> None:
        if events is not None and isinstance(event, StepDone | Phase):
            events.send((event.step, event.seconds) if isinstance(event, StepDone) else (-1, 0.1))

    finished = execute(requests.resume_job(Workspace(root), run), Control(), tell)
    sys.exit(finished.exit_code)


def to_the_end(root: Path, run: str) -> None:
    process = fork.Process(target=work, args=(root, run))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{run} ended with {process.exitcode}: {state_of(Workspace(root).run(run)).finished}")


def kill_once(root: Path, run: str, after: int, chance: random.Random) -> bool:
    """Start a run and kill it within two steps' time of the end of step `after`; whether that came before its end."""
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=work, args=(root, run, there))
    process.start()
    there.close()
    try:
        while True:
            step, seconds = here.recv()
            if step >= after:
                break
        time.sleep(chance.uniform(0, 2 * seconds))
    except EOFError:  # it ended
        pass
    process.kill()
    process.join()
    here.close()
    return process.exitcode == -9


def torn_apart(workspace: Workspace, run: str, steps: int, most: int, chance: random.Random) -> list[int]:
    """Kill a run one to three times in a row, and let it end; the steps after which it was killed."""
    killed = []
    for _ in range(min(chance.randint(1, MOST_IN_A_ROW), most)):
        if chance.random() < 0.3:  # it has to encode again, and is killed over that too
            for cache in ("latents", "text"):
                shutil.rmtree(workspace.cache / cache, ignore_errors=True)
        reached = checkpoints.newest(workspace.run(run))
        first = checkpoints.step_of(reached) if reached else -1
        after = chance.randint(first, steps - 1)
        if kill_once(workspace.root, run, after, chance):
            killed.append(after)
    if state_of(workspace.run(run)).status != "completed":
        to_the_end(workspace.root, run)
    return killed


def differing_bytes(one: Path, other: Path) -> Counter[str]:
    """How many bytes differ between the newest checkpoints of two runs, by kind."""
    first, second = checkpoints.newest(one), checkpoints.newest(other)
    assert first is not None
    assert second is not None
    counted = Counter({"weights": 0, "average": 0, "optimiser": 0, "for other tools": 0})
    (tensors, _), (others, _) = checkpoints.load(first), checkpoints.load(second)
    for name in tensors.keys() | others.keys():
        a, b = (some[name].numpy().tobytes() if name in some else b"" for some in (tensors, others))
        counted[name.partition(".")[0]] += sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    for path in first.rglob("*.safetensors"):
        if path.name != checkpoints.TRAINING_FILE:
            a, b = tensor_bytes(path), tensor_bytes(second / path.relative_to(first))
            counted["for other tools"] += sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    return counted


def tensor_bytes(path: Path) -> bytes:
    """What follows a safetensors file's header, which names the run and the day."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def log_faults(one: Path, other: Path, steps: int) -> dict[str, int]:
    """Faults of the loss log as a reader of the journal adds it up, and of metrics.csv where there is one."""
    first, second = state_of(one), state_of(other)
    found = {"journal": _faults([step for step, _ in second.losses], steps)}
    found["differing losses"] = sum(a != b for a, b in zip(first.losses, second.losses, strict=False))
    looks = [[(seen.step, seen.loss) for seen in state.validations] for state in (first, second)]
    found["differing validations"] = int(looks[0] != looks[1])
    table = other / "metrics.csv"
    if table.is_file():
        with table.open() as file:
            rows = [int(row["step"]) for row in csv.DictReader(file) if row.get("loss")]
        found["metrics.csv"] = _faults(rows, steps)
    return found


def _faults(seen: list[int], steps: int) -> int:
    """Steps that are missing, told twice, or out of order."""
    counted = Counter(seen)
    gaps = sum(step not in counted for step in range(1, steps + 1))
    return gaps + sum(count - 1 for count in counted.values()) + int(seen != sorted(seen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, metavar="SD15")
    parser.add_argument("--kills", type=int, default=20, help="of each method (20)")
    parser.add_argument("--methods", default="lora,full,scratch")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import studio.training.diffusion
    import studio.training.train  # noqa: F401  loaded once, for every copy

    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = make_workspace(Path(temporary) / "workspace")
        Session(workspace).execute(requests.import_job(workspace, ImportSettings(source="demo:70", name="tiles")))
        base = Path(temporary) / "narrow"
        making = fork.Process(target=save_model, args=(args.config, base, NARROW))
        making.start()
        making.join()
        told_all = {method: judge(workspace, method, base, args, chance) for method in args.methods.split(",")}
    print(json.dumps(told_all, indent=2))
    sys.exit(any(one["faults"] for one in told_all.values()))


def judge(
    workspace: Workspace, method: str, base: Path, args: argparse.Namespace, chance: random.Random
) -> dict[str, Any]:
    """Kill runs of one method until there were enough kills; what differs from the one that was left alone."""
    settings = told(method, base, args.steps)
    alone = requests.train_job(workspace, settings, f"{method}-alone").folder.path
    to_the_end(workspace.root, alone.name)
    killed: list[list[int]] = []
    differing: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    while (left := args.kills - sum(map(len, killed))) > 0:
        run = requests.train_job(workspace, settings, f"{method}-{len(killed) + 1}").folder.path
        killed.append(torn_apart(workspace, run.name, args.steps, left, chance))
        differing.update(differing_bytes(alone, run))
        faults.update(log_faults(alone, run, args.steps))
        print(f"{method}: killed after steps {killed[-1]}", file=sys.stderr, flush=True)
        shutil.rmtree(run)
    return {
        "kills": sum(map(len, killed)),
        "runs": len(killed),
        "most in a row": max(map(len, killed)),
        "killed after steps": killed,
        "differing bytes": dict(differing),
        "log faults": dict(faults),
        "faults": sum(differing.values()) + sum(faults.values()),
    }


if __name__ == "__main__":
    main()
