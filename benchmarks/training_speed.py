"""Pictures per CPU-second of the studio's trainer against diffusers' unmodified example scripts, given by path.

    python benchmarks/training_speed.py --config SD15 --lora train_text_to_image_lora.py --full train_text_to_image.py

SD15 is a Stable Diffusion 1.5 folder, of which only settings, tokenizer and scheduler are read. Both sides train the
same narrow model (UNet of 34 M weights, all random) on the same procedural tiles: 256 px, batch 4, random flip, one
thread. The scripts compute in fp32, their default; `--peer-precision bf16` gives them bf16. Each round runs the script
and then the studio, each in a process of its own; loading and the first step are left out on both sides. The studio
builds its caches anew in each round, counted apart: `with_caches` adds what it takes to encode every tile in both
orientations and every caption, spread over a training of `--epochs` passes. Prints JSON: a line for each round, then
the medians.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sides import Bench, Shape, cache_seconds, set_up, spread, step_seconds

PICTURES, CAPTIONS = "Encoding pictures", "Embedding captions"
ORIENTATIONS = 2


def with_caches(seconds: float, costs: dict[str, float], tiles: int, epochs: int) -> float:
    """Seconds for one picture with its share of the caches, all of which are taken to be built."""
    built = costs.get(PICTURES, 0.0) * tiles * ORIENTATIONS + costs.get(CAPTIONS, 0.0) * (tiles + 1)
    return seconds + built / (tiles * epochs)


def one_round(bench: Bench, shape: Shape, script: Path, args: argparse.Namespace) -> dict[str, float]:
    """Pictures per CPU-second of both sides."""
    bench.forget_caches()
    others = [] if args.peer_precision == "fp32" else [f"--mixed_precision={args.peer_precision}"]
    peer = bench.run_peer(script, shape, others)
    own = bench.run_own(shape)
    pictures = shape.batch * shape.accumulation
    theirs, ours = (step_seconds(noted, "cpu", pictures) for noted in (peer, own))
    full = with_caches(ours, cache_seconds(own, "cpu"), args.tiles, args.epochs)
    return {
        "peer": 1 / theirs, "studio": 1 / ours, "studio_with_caches": 1 / full, "times": theirs / ours,
        "times_with_caches": theirs / full, "peer_peak_gib": peer["peak_memory_bytes"] / 2**30,
        "studio_peak_gib": own["peak_memory_bytes"] / 2**30,
    }  # fmt: skip


def compared(bench: Bench, shape: Shape, script: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds."""
    rounds = []
    for number in range(args.rounds):
        rounds.append(one_round(bench, shape, script, args))
        shown = {name: round(value, 3) for name, value in rounds[-1].items()}
        print(json.dumps({"method": shape.method, "round": number + 1} | shown), flush=True)
    return {name: spread([one[name] for one in rounds]) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a Stable Diffusion 1.5 folder; weights not needed")
    parser.add_argument("--lora", type=Path, help="diffusers' train_text_to_image_lora.py")
    parser.add_argument("--full", type=Path, help="diffusers' train_text_to_image.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=5, help="passes that the caches are spread over")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16", help="of the studio")
    parser.add_argument("--peer-precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--folder", type=Path, help="where model and tiles are kept from call to call")
    args = parser.parse_args()
    scripts = {"lora": args.lora, "full": args.full}
    if not any(scripts.values()):
        parser.error("give the path of a script: --lora, --full, or both")
    with tempfile.TemporaryDirectory() as temporary:
        bench = set_up(args.folder or Path(temporary), args.config, args.tiles, 256)
        result = {
            method: compared(bench, Shape(method, args.steps, precision=args.precision), script, args)
            for method, script in scripts.items()
            if script
        }
    told = {name: getattr(args, name) for name in ("rounds", "steps", "epochs", "precision", "peer_precision")}
    print(json.dumps(result | {"settings": told, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
