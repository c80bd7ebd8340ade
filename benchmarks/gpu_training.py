"""Training on a GPU: pictures per second against diffusers' scripts, and the share of what the GPU can multiply.

    python benchmarks/gpu_training.py --config SD15 --lora train_text_to_image_lora.py --full train_text_to_image.py
        [--xl train_text_to_image_lora_sdxl.py] [--only speed paper xl] [--folder FOLDER]

Stable Diffusion 1.5 of true shape with random weights, at 256 and 512 px. The scripts train in bf16 with TF32 allowed,
batch 4 × accumulation 4; the studio one batch of 16 in bf16. Loading, caches and the first steps are left out, on both
sides. `share_of_bf16` counts the arithmetic of the UNet's forward and backward pass alone, over the rate that a product
of two bf16 matrices of 8192 × 8192 reaches here. `paper` is a whole full fine-tune, 5 passes over 8,734 pictures at
224 px (on 400 tiles that come again, as the arithmetic is the same). `xl` is a LoRA of Stable Diffusion XL at 1024 px.
Prints JSON, one line for each measurement. Without a CUDA device it says so and measures nothing.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sides import Bench, Shape, cache_seconds, set_up, step_seconds
from xl_model import save_xl

SIZES_PX = (256, 512)
PAPER_PICTURES, PAPER_EPOCHS, PAPER_SIZE_PX = 8734, 5, 224
EFFECTIVE = 16
PEER = ["--mixed_precision=bf16", "--allow_tf32"]
_WARM_UP = 5


def bf16_rate(side: int = 8192, times: int = 50) -> float:
    """Floating-point operations in a second of a product of square bf16 matrices."""
    import torch

    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(times):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(times):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 2 * side**3 * times / (start.elapsed_time(end) / 1000)


def unet_flops(config: Path, size_px: int) -> float:
    """Floating-point operations of one picture through the UNet, forward and backward, counted without weights."""
    import torch
    from diffusers import UNet2DConditionModel
    from torch.utils.flop_counter import FlopCounterMode

    settings = json.loads((config / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(settings)
        inputs = torch.empty(1, 4, size_px // 8, size_px // 8)
        text = torch.empty(1, 77, int(settings["cross_attention_dim"]))
        with FlopCounterMode(display=False) as counter:
            unet(inputs, torch.zeros(1), encoder_hidden_states=text).sample.sum().backward()
    return float(counter.get_total_flops())


def after_warm_up(noted: dict[str, Any], pictures: int) -> float:
    """Pictures in a second, without the first steps, in which kernels are chosen and loaded."""
    return 1 / step_seconds(noted, "clock", pictures, _WARM_UP)


def speed(bench: Bench, config: Path, scripts: dict[str, Path | None], rate: float) -> Iterator[dict[str, Any]]:
    """Both methods at both sizes, against the script where its path was given."""
    for size_px in SIZES_PX:
        flops = unet_flops(config, size_px)
        for method, script in scripts.items():
            own = bench.run_own(Shape(method, 40, size_px, EFFECTIVE))
            ours = after_warm_up(own, EFFECTIVE)
            facts = {
                "method": method, "size_px": size_px, "studio_per_second": ours,
                "studio_peak_gib": own["peak_memory_bytes"] / 2**30, "caches_seconds_each": cache_seconds(own, "clock"),
            }  # fmt: skip
            if method == "full":
                facts["share_of_bf16"] = ours * flops / rate
            if script:
                peer = bench.run_peer(script, Shape(method, 20, size_px, 4, EFFECTIVE // 4), PEER)
                theirs = after_warm_up(peer, EFFECTIVE)
                facts |= {"peer_per_second": theirs, "times": ours / theirs}
                facts["peer_peak_gib"] = peer["peak_memory_bytes"] / 2**30
            yield facts


def paper(bench: Bench) -> dict[str, Any]:
    """The time of a whole fine-tune, its steps really done, and what its caches would take."""
    steps = -(-PAPER_PICTURES * PAPER_EPOCHS // EFFECTIVE)
    noted = bench.run_own(Shape("full", steps, PAPER_SIZE_PX, EFFECTIVE))
    each = cache_seconds(noted, "clock").get("Encoding pictures", 0.0)
    return {
        "paper": f"{steps} steps of {EFFECTIVE} at {PAPER_SIZE_PX} px",
        "seconds_of_steps": step_seconds(noted, "clock", 1) * steps,
        "seconds_of_caches_upright": each * PAPER_PICTURES,
    }


def xl(folder: Path, config: Path, script: Path | None) -> dict[str, Any]:
    """A LoRA of Stable Diffusion XL at 1024 px, batch 4."""
    if not (folder / "model" / "model_index.json").is_file():
        save_xl(config, folder / "model")
    bench = set_up(folder, config, 40, 1024, "cuda")
    own = bench.run_own(Shape("lora", 20, 1024, 4))
    ours = after_warm_up(own, 4)
    facts = {"xl": "LoRA, 1024 px, batch 4", "studio_per_second": ours}
    facts["studio_peak_gib"] = own["peak_memory_bytes"] / 2**30
    if script:
        theirs = after_warm_up(bench.run_peer(script, Shape("lora", 20, 1024, 4), PEER), 4)
        facts |= {"peer_per_second": theirs, "times": ours / theirs}
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a Stable Diffusion 1.5 folder; weights not needed")
    parser.add_argument("--lora", type=Path, help="diffusers' train_text_to_image_lora.py")
    parser.add_argument("--full", type=Path, help="diffusers' train_text_to_image.py")
    parser.add_argument("--xl", type=Path, help="diffusers' train_text_to_image_lora_sdxl.py")
    parser.add_argument("--only", nargs="+", choices=["speed", "paper", "xl"], default=["speed", "paper", "xl"])
    parser.add_argument("--folder", type=Path, help="where models and tiles are kept from call to call (20 GB)")
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device on this machine, so nothing was measured.")
    rate = bf16_rate()
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "bf16_rate": rate}), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if {"speed", "paper"} & set(args.only):
            bench = set_up(folder / "sd15", args.config, 400, 512, "cuda", over={})
        if "speed" in args.only:
            for facts in speed(bench, args.config, {"lora": args.lora, "full": args.full}, rate):
                print(json.dumps(facts), flush=True)
        if "paper" in args.only:
            print(json.dumps(paper(bench)), flush=True)
        if "xl" in args.only:
            print(json.dumps(xl(folder / "xl", args.config, args.xl)), flush=True)


if __name__ == "__main__":
    main()
