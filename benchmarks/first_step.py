"""Seconds from starting the process to the end of its first training step: the studio, and diffusers' example script.

    python benchmarks/first_step.py --config SD15 --lora train_text_to_image_lora.py [--steps 16]

The model and tiles of training_speed.py. Each side starts twice in each round: once with nothing prepared (the script
makes its copy of the data set; the studio encodes what the first step draws), then with what that start left. Prints
medians of seconds by the clock and of CPU-seconds, as JSON.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from sides import Bench, Shape, set_up, spread


def first_steps(bench: Bench, shape: Shape, script: Path) -> dict[str, float]:
    """Of one round: by what was started, and how its seconds are counted."""
    found = {}
    bench.forget_caches()
    for prepared in ("nothing prepared", "prepared"):
        # A peer's time does not depend on how many steps follow.
        sides = {"peer": bench.run_peer(script, Shape(shape.method, 1), []), "studio": bench.run_own(shape)}
        for side, noted in sides.items():
            first = next(stamp for stamp in noted["stamps"] if stamp["what"] == "step")
            found[f"{side}, {prepared}, seconds"] = first["clock"]
            found[f"{side}, {prepared}, CPU-seconds"] = first["cpu"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a Stable Diffusion 1.5 folder; weights not needed")
    parser.add_argument("--lora", type=Path, required=True, help="diffusers' train_text_to_image_lora.py")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where model and tiles are kept from call to call")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bench = set_up(args.folder or Path(temporary), args.config, args.tiles, 256)
        rounds = [first_steps(bench, Shape("lora", args.steps), args.lora) for _ in range(args.rounds)]
    result = {name: spread([one[name] for one in rounds]) for name in rounds[0]}
    print(json.dumps(result | {"rounds": args.rounds, "steps": args.steps, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
