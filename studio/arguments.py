"""The words of the command line: every command with its arguments and their help."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, get_args

from studio import __version__, commands
from studio.errors import UsageError
from studio.settings import Sampler

Command = Callable[[argparse.Namespace, Any], int]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}.", f"See {self.prog} --help.")


def make_parser() -> tuple["Parser", dict[str, "Parser"]]:
    """The parser, and that of each command by its name."""
    parser = Parser(
        prog="rs-studio", description="A terminal studio for generative remote sensing.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"rs-studio {__version__}")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "workspace", type=Path, metavar="WORKSPACE", help="folder of the workspace, made where it is missing"
    )
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        added = parsers.add_parser(name, help=help, description=help, allow_abbrev=False)
        added.set_defaults(run=run, makes_workspace=False)
        return added

    command("init", commands.init, "make the workspace, and stop")
    one = command("demo", commands.demo, "the whole circle on built-in data and model")
    _add_device(one)

    one = command("import", commands.import_, "bring pictures in")
    one.add_argument("source", metavar="SOURCE", help="file or folder, or demo:COUNT")
    one.add_argument("--as", dest="name", required=True, metavar="NAME", help="name of the data set")
    one.add_argument("--format", default="auto", help="auto, class-folders, metadata-jsonl, parquet, folder or demo")
    one.add_argument("--classes", default="", metavar="A,B", help="take these classes only")
    one.add_argument(
        "--hold-out", type=int, default=0, metavar="N", help="pictures of train put aside, never trained on"
    )
    one.add_argument("--seed", type=int, default=42, help="decides which (42)")
    one.add_argument(
        "--caption", default="", metavar="TEMPLATE", help="caption where there is none: 'a satellite image of {class}'"
    )
    one.add_argument("--link", action="store_true", help="link to the files instead of copying them")

    one = command("train", commands.train, "fine-tune a model")
    one.add_argument("--recipe", required=True, metavar="NAME|FILE", help="recipe of the workspace, or a file")
    one.add_argument("--data", required=True, metavar="NAME", help="data set")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the recipe")
    one.add_argument("--name", default="", metavar="RUN", help="name of the run")
    one.add_argument("--estimate", action="store_true", help="tell what it would take and what speaks against it")
    _add_device(one)
    one.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes that train together, each on its own GPU (1)"
    )

    one = command("resume", commands.resume, "go on with a run, batch or grid that was stopped or killed")
    one.add_argument("run_name", metavar="NAME", help="of a run its number, name or folder; of a batch its name")
    one.add_argument("--processes", type=int, metavar="N", help="processes that train together (as many as before)")

    one = command("generate", commands.generate, "make tiles")
    one.add_argument(
        "--model",
        default="starter",
        metavar="MODEL",
        help="starter, RUN, RUN@STEP, a diffusers folder, FILE.safetensors, or OWNER/NAME of the hub (starter)",
    )
    prompts = one.add_mutually_exclusive_group(required=True)
    # None, as argparse takes whatever equals the default for not given.
    prompts.add_argument("--prompt", metavar="TEXT", help="one prompt; {a|b} makes one for each choice")
    prompts.add_argument("--prompts", metavar="FILE", help="text, .jsonl or .toml file, prompt book, or DATASET:SPLIT")
    prompts.add_argument("--plan", metavar="NAME|FILE", help="a class plan, or its .toml file")
    one.add_argument("--negative", default="", metavar="TEXT", help="what to steer away from")
    one.add_argument("--count", type=int, default=0, metavar="N", help="tiles in all (one for each prompt)")
    one.add_argument("--as", dest="name", default="", metavar="BATCH", help="name of the batch")
    one.add_argument("--init", default="", metavar="PICTURE", help="begin from this picture")
    one.add_argument("--mask", default="", metavar="PICTURE", help="draw anew only where this one is white")
    _add_sampling(one)
    _add_device(one)

    one = command("grid", commands.grid, "make tiles that differ in one, two or three settings, on a labelled sheet")
    axis = "steps=10,20,50; seed=1..6; model=A,B; weights=base,tuned; 'prompt=a {river|forest}'"
    one.add_argument("--x", required=True, metavar="NAME=A,B", help=f"what varies from column to column: {axis}")
    one.add_argument("--y", default="", metavar="NAME=A,B", help="what varies from row to row")
    one.add_argument("--z", default="", metavar="NAME=A,B", help="what varies from block to block")
    one.add_argument("--model", default="starter", metavar="MODEL", help="of cells where no axis names it (starter)")
    one.add_argument("--prompt", default="", metavar="TEXT", help="of cells where no axis is of prompts")
    one.add_argument("--negative", default="", metavar="TEXT", help="what to steer away from")
    one.add_argument("--as", dest="name", default="", metavar="BATCH", help="name of the batch")
    _add_sampling(one)
    _add_device(one)

    one = command("model", commands.model, "add a model of the hub or a single file to the workspace, or list them")
    one.add_argument("action", choices=["add", "list"], help="what to do")
    one.add_argument("source", nargs="?", default="", metavar="OWNER/NAME[@REVISION]|FILE", help="what to add")
    one.add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="CLIP's tokenizer for a single file (looked for elsewhere)"
    )

    one = command("reproduce", commands.reproduce, "make a tile again from its own recipe, and compare")
    one.add_argument("tile", type=Path, metavar="TILE.png")
    _add_device(one)

    one = command("evaluate", commands.evaluate, "compare generated tiles with real pictures")
    one.add_argument("--generated", required=True, metavar="BATCH")
    one.add_argument("--real", required=True, metavar="DATASET[:SPLIT]")
    one.add_argument("--metrics", default="", metavar="A,B", help="frechet,kid (both)")
    one.add_argument("--network", default="", help="starter-encoder, or inception:FILE.safetensors")
    one.add_argument("--seed", type=int, default=42, help="decides which pictures are compared (42)")
    _add_device(one)

    one = command("downstream", commands.downstream, "train a classifier on tiles and test it on real pictures")
    one.add_argument("--synthetic", required=True, metavar="BATCH")
    one.add_argument("--real", required=True, metavar="DATASET")
    one.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each arm (1)")
    one.add_argument("--epochs", type=int, help="passes over the training pictures (20)")
    one.add_argument("--weights", default="", metavar="FILE", help="ResNet-18 weights to begin from (.safetensors)")
    _add_device(one)

    one = command("suggest", commands.suggest, "suggest prompts, each with its source")
    one.add_argument("--class", dest="label", default="", metavar="NAME", help="class to write about")
    one.add_argument("--like", default="", metavar="TEXT", help="words to be near to")
    one.add_argument("-n", type=int, default=8, metavar="N", help="how many (8)")
    one.add_argument("--backend", default="grammar", choices=["grammar"], help="where they come from")
    one.add_argument("--seed", type=int, default=0, help="another seed gives others (0)")

    one = command("export", commands.export, "take a batch, data set, collection or run out of the workspace")
    one.add_argument("name", metavar="NAME")
    forms = ["image-folder", "parquet", "gallery", "contact-sheet", "adapter", "kohya", "comfyui", "model"]
    one.add_argument("--to", required=True, choices=forms, help="the form; the last four are of a run")
    one.add_argument("--precision", default="fp32", help="of a run's weights: fp32, bf16 or fp16 (fp32)")
    one.add_argument("target", type=Path, metavar="TARGET", help="folder (contact sheet: file), empty or absent")

    command("runs", commands.runs, "list the runs")
    one = command("checkpoints", commands.checkpoints, "compare the checkpoints of a run by what was held out")
    one.add_argument("run_name", metavar="RUN", help="number, name or folder")

    one = command("probe", commands.probe, "draw fixed prompts, to see what a model knows before it is trained")
    one.add_argument("model", metavar="MODEL", help="as of generate")
    one.add_argument("--data", default="", metavar="NAME", help="draw each class of this data set too")
    one.add_argument("--count", type=int, default=2, metavar="N", help="tiles of each prompt (2)")
    one.add_argument("--as", dest="name", default="", metavar="BATCH", help="name of the batch")
    _add_device(one)

    one = command("sweep", commands.sweep, "train with a few values of a few settings, and compare")
    one.add_argument("--recipe", required=True, metavar="NAME|FILE", help="recipe of every run")
    one.add_argument("--data", required=True, metavar="NAME", help="data set")
    one.add_argument(
        "--vary", action="append", required=True, metavar="KEY=A,B", help="a setting and its values; may be repeated"
    )
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of every run")
    one.add_argument("--name", default="", metavar="SWEEP", help="name of the sweep; its runs are SWEEP-1, SWEEP-2, …")
    _add_device(one)

    one = command("sweeps", commands.sweeps, "list the sweeps, or compare the runs of one")
    one.add_argument("name", nargs="?", default="", metavar="SWEEP")

    one = command("watch", commands.watch, "follow a run until it ends")
    one.add_argument("run_name", nargs="?", default="", metavar="RUN", help="the newest where none is named")
    one = command("control", commands.control, "ask a running job for something")
    one.add_argument("run_name", metavar="RUN")
    one.add_argument("request", choices=["pause", "resume", "stop", "save", "preview", "promote"])
    one = command("check", commands.check, "look for damage, and build the index again")
    one.add_argument("--deep", action="store_true", help="read every file and compare its sum")
    command("doctor", commands.doctor, "tell what this machine can do")
    return parser, parsers.choices


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    """How a tile is made, whatever it shows; `commands._sampling` reads it."""
    lora_help = "lay a LoRA file, or what a run learnt, over the model, with this strength (1); may be repeated"
    parser.add_argument("--lora", action="append", default=[], metavar="FILE|RUN[:STRENGTH]", help=lora_help)
    parser.add_argument("--seed", type=int, default=42, help="tile n has seed + n (42)")
    parser.add_argument("--sampler", metavar="NAME", help=f"{', '.join(get_args(Sampler))} (the model's own)")
    parser.add_argument("--steps", type=int, help="sampling steps (the model's own)")
    parser.add_argument("--guidance", type=float, help="how strongly the prompt is followed (the model's own)")
    parser.add_argument(
        "--rescale", type=float, default=0.0, metavar="SHARE", help="take guidance's contrast back, 0 to 1 (0)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--size", default="", metavar="PX|WxH", help="size of a tile in pixels (the model's own)")
    size.add_argument(
        "--scene", default="", metavar="PX|WxH", help="size of one large picture, made in overlapping windows"
    )
    parser.add_argument("--seamless", action="store_true", help="tiles that can be laid side by side")
    parser.add_argument(
        "--strength", type=float, metavar="SHARE", help="how much is drawn anew (0.6; mask 1; upscale 0.3)"
    )
    parser.add_argument(
        "--upscale", type=int, default=1, metavar="N", help="enlarge 2 or 4 times, the model drawing the detail"
    )
    parser.add_argument("--batch", type=int, default=0, metavar="N", help="tiles made together (as memory allows)")
    parser.add_argument("--precision", help="fp32, bf16 or fp16 (bf16 on a GPU that has it, else fp32)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cpu, cuda:0, … (the workspace's own)")
