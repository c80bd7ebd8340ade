"""The words of the command line: every command with its arguments and their help."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from studio import __version__, commands
from studio.errors import UsageError

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
        added.set_defaults(run=run)
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
    _add_device(one)

    one = command("resume", commands.resume, "go on with a run that was stopped or killed")
    one.add_argument("run_name", metavar="RUN", help="number, name or folder")

    one = command("generate", commands.generate, "make tiles")
    one.add_argument(
        "--model", default="starter", metavar="MODEL", help="starter, RUN, RUN@STEP, or a diffusers folder (starter)"
    )
    prompts = one.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompt", default="", metavar="TEXT", help="one prompt; {a|b} makes one for each choice")
    prompts.add_argument(
        "--prompts", default="", metavar="FILE", help="text, .jsonl or .toml file, prompt book, or DATASET:SPLIT"
    )
    prompts.add_argument("--plan", type=Path, metavar="FILE", help="a count and prompts for each class (.toml)")
    one.add_argument("--negative", default="", metavar="TEXT", help="what to steer away from")
    one.add_argument("--count", type=int, default=0, metavar="N", help="tiles in all (one for each prompt)")
    one.add_argument("--seed", type=int, default=42, help="tile n has seed + n (42)")
    one.add_argument("--as", dest="name", default="", metavar="BATCH", help="name of the batch")
    one.add_argument("--sampler", help="pndm, dpm++2m, unipc, ddim or euler (the model's own)")
    one.add_argument("--steps", type=int, help="sampling steps (the model's own)")
    one.add_argument("--guidance", type=float, help="how strongly the prompt is followed (the model's own)")
    one.add_argument("--size", default="", metavar="PX|WxH", help="size of a tile in pixels (the model's own)")
    one.add_argument("--batch", type=int, default=8, metavar="N", help="tiles made together (8)")
    one.add_argument("--precision", default="fp32", help="fp32, bf16 or fp16 (fp32)")
    _add_device(one)

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
    forms = ["image-folder", "parquet", "gallery", "contact-sheet", "adapter"]
    one.add_argument("--to", required=True, choices=forms, help="the form")
    one.add_argument("target", type=Path, metavar="TARGET", help="folder (contact sheet: file), empty or absent")

    command("runs", commands.runs, "list the runs")
    one = command("watch", commands.watch, "follow a run until it ends")
    one.add_argument("run_name", nargs="?", default="", metavar="RUN", help="the newest where none is named")
    one = command("control", commands.control, "ask a running job for something")
    one.add_argument("run_name", metavar="RUN")
    one.add_argument("request", choices=["pause", "resume", "stop", "save", "preview", "promote"])
    one = command("check", commands.check, "look for damage, and build the index again")
    one.add_argument("--deep", action="store_true", help="read every file and compare its sum")
    command("doctor", commands.doctor, "tell what this machine can do")
    return parser, parsers.choices


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cpu, cuda:0, … (the workspace's own)")
