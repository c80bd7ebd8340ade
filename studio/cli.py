"""The command line: `rs-studio WORKSPACE [COMMAND]`, one short function for each command."""

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from studio import __version__, config
from studio.display import shown_line
from studio.errors import StudioError, UsageError, unknown
from studio.workspace import Workspace, can_hold_workspace, make_workspace, open_workspace

Command = Callable[[argparse.Namespace, Any], int]
INTERRUPTED, STOPPED = 130, 75
# What the system says of a path that was given wrongly, rather than of a disk or machine in trouble.
_WRONG_PATH = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


def entry() -> NoReturn:
    """The command `rs-studio`."""
    _open_standard_streams()
    sys.exit(main(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Where the caller closed one, lead it nowhere: the next file opened would take its number and be printed into."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    0 done, 1 failed, 2 wrong usage or settings, 75 stopped but resumable, 130 interrupted.
    """
    as_json = "--json" in arguments
    words = [word for word in arguments if word != "--json"]
    if as_json or _names_a_command(words):
        return _headless(words, as_json)
    try:
        return _open_studio(_parsed(words).workspace)
    except _Told as told:
        print(told.text, end="")
        return 0
    except (StudioError, OSError) as caught:
        error = _of_system(caught) if isinstance(caught, OSError) else caught
        print(f"rs-studio: {shown_line(error)}", file=sys.stderr)
        return error.exit_code


class _Told(Exception):
    """What was asked for was the help or the version, and this is it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The arguments by name.

    Raises:
        UsageError: they cannot be used.
        _Told: there is nothing to do but to tell.
    """
    parser, commands = _parser()
    given = [word for word in words if not word.startswith("-")][1:2]
    if given and given[0] not in commands:
        raise unknown("command", given[0], commands)
    told = io.StringIO()
    try:
        with redirect_stdout(told):
            return parser.parse_args(words)
    except SystemExit:
        raise _Told(told.getvalue()) from None


def _names_a_command(words: Sequence[str]) -> bool:
    return len([word for word in words if not word.startswith("-")]) > 1


def _open_studio(root: Path) -> int:
    from screens.app import run  # the interface loads only when it opens

    return run(root)


def _headless(words: Sequence[str], as_json: bool) -> int:
    from studio.events import Finished
    from studio.reporting import Reporter

    _quieten_libraries()
    command = next(iter([word for word in words if not word.startswith("-")][1:]), "")
    with Reporter(command, as_json) as reporter, _ending_on_signals() as signalled:
        try:
            parsed = _parsed(words)
            if parsed.command is None:
                raise UsageError("--json needs a command.", "See rs-studio --help.")
            parsed.json = as_json
            run: Command = parsed.run
            return run(parsed, reporter)
        except _Told as told:
            return reporter.finish(Finished("completed", result={"help": told.text}), 0, told.text.rstrip())
        except StudioError as error:
            return reporter.fail(error)
        except KeyboardInterrupt:
            code = STOPPED if signalled() in (signal.SIGTERM, signal.SIGUSR1) else INTERRUPTED
            return reporter.finish(Finished("stopped"), code)
        except OSError as error:
            return reporter.fail(_of_system(error))
        except Exception as error:  # a fault of ours, which whoever mends it wants to see whole
            import traceback

            traceback.print_exc()
            return reporter.fail(StudioError(f"{type(error).__name__}: {error}", "This is a fault of rs-studio."))


def _of_system(error: OSError) -> StudioError:
    """An error of the operating system as a sentence."""
    what = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror or error}."
    return UsageError(what) if error.errno in _WRONG_PATH else StudioError(what)


@contextmanager
def _ending_on_signals() -> Iterator[Callable[[], int | None]]:
    """Until a job takes them over, the signals that stop a job end the command."""
    from studio.session import STOP_SIGNALS, stop_on_signals

    def end() -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield stop_on_signals(end)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quieten_libraries() -> None:
    """Nothing looks for a hub, reports home, or draws bars of its own."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


# ---- commands


def init(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished

    workspace = make_workspace(_writable(args).root)
    done = Finished("completed", result={"workspace": str(workspace.root)})
    return int(reporter.finish(done, 0, f"The workspace {workspace.root} is ready."))


def demo(args: argparse.Namespace, reporter: Any) -> int:
    from studio import demo as circle
    from studio.events import Finished

    device = _device(args)
    workspace = make_workspace(_writable(args).root)
    session, signalled = _session(workspace)
    for job in circle.demo_jobs(workspace, device):
        reporter.say(f"{job.kind}: {job.folder.path.name}")
        finished = session.execute(job, reporter.event, lambda: signalled() is not None)
        if finished.outcome != "completed":
            return int(reporter.finish(finished, _exit_code(finished, signalled())))
    evaluated = circle.evaluation(workspace, "evaluate")
    result = {
        "gallery": str(circle.targets(workspace)["gallery"] / "index.html"),
        "table": str(evaluated / "report.md") if evaluated else None,
        "exports": {form: str(target) for form, target in circle.targets(workspace).items()},
    }
    text = f"The gallery is at {result['gallery']}\nThe table is at {result['table']}"
    return int(reporter.finish(Finished("completed", result=result), 0, text))


def import_(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import ImportSettings

    values = {
        "source": args.source,
        "name": args.name,
        "format": args.format,
        "classes": tuple(name for name in args.classes.split(",") if name),
        "hold_out": args.hold_out,
        "seed": args.seed,
        "caption": args.caption,
        "link": args.link,
    }
    settings = config.check(values, ImportSettings, "The import")
    job = requests.import_job(_writable(args), settings)
    return _work(args, reporter, job, lambda r: f"{r['imported']} of {r['given']} pictures imported as {r['name']}.")


def train(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests

    workspace = _writable(args)
    settings = requests.load_recipe(workspace, args.recipe, args.data, args.set)
    name = args.name or requests.free_run_name(workspace, args.recipe)
    job = requests.train_job(workspace, settings, name, _device(args))
    if settings.known_problems:
        reporter.say(f"Known: {settings.known_problems}")
    return _work(args, reporter, job, _training_ended)


def resume(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.devices import check_device

    job = requests.resume_job(_opened(args), args.run_name)
    check_device(job.device)
    return _work(args, reporter, job, _training_ended)


def _training_ended(result: dict[str, Any]) -> str:
    first, last = result.get("validation_loss_first"), result.get("validation_loss_last")
    losses = f" Validation loss {first:.4f} → {last:.4f}." if first is not None and last is not None else ""
    return f"{result['run']} is at step {result['step']} of {result['steps']}.{losses}"


def generate(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import GenerateSettings

    workspace = _writable(args)
    width, height = _size(args.size)
    values = {
        "model": args.model,
        "sampler": args.sampler,
        "steps": args.steps,
        "guidance": args.guidance,
        "width_px": width,
        "height_px": height,
        "seed": args.seed,
        "batch": args.batch,
        "precision": args.precision,
    }
    settings = config.check(values, GenerateSettings, "The generation")
    source = requests.PromptSource(args.prompt, args.prompts, args.plan, args.negative)
    tiles = requests.tiles_of(workspace, source, args.count, args.seed)
    job = requests.generate_job(workspace, settings, tiles, args.name, _device(args))
    return _work(
        args, reporter, job, lambda r: f"{r['saved']} of {r['requested']} tiles are in the batch {r['batch']}."
    )


def reproduce(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.session import reproduce

    result = reproduce(_opened(args), args.tile, _device(args))
    reasons = "; ".join(result["reasons"])
    text = "Identical." if result["identical"] else f"{result['differing_pixels']} pixels differ. {reasons}"
    return int(reporter.finish(Finished("completed", result=result), 0, text))


def evaluate(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import EvaluateSettings

    workspace = _opened(args)
    real, _, split = args.real.partition(":")
    values: dict[str, Any] = {"generated": args.generated, "real": real, "split": split, "seed": args.seed}
    values |= {"metrics": tuple(args.metrics.split(","))} if args.metrics else {}
    values |= {"network": args.network} if args.network else {}
    settings = config.check(values, EvaluateSettings, "The evaluation")
    job = requests.evaluate_job(workspace, settings, _device(args))
    return _work(args, reporter, job, lambda r: f"The report is at {r['report']}")


def downstream(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import DownstreamSettings

    workspace = _opened(args)
    values: dict[str, Any] = {"synthetic": args.synthetic, "real": args.real, "seeds": args.seeds}
    values |= {"epochs": args.epochs} if args.epochs else {}
    values |= {"weights": args.weights} if args.weights else {}
    settings = config.check(values, DownstreamSettings, "The study")
    job = requests.downstream_job(workspace, settings, _device(args))
    return _work(args, reporter, job, lambda r: f"The report is at {r['report']}")


def suggest(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.prompts.suggest import suggest

    found = suggest(_opened(args), args.label, args.like, args.n, args.backend, args.seed)
    for one in found:
        record = {"type": "suggestion", "text": one.text, "tokens": one.tokens, "source": one.source}
        reporter.line(record, f"{shown_line(one.text)}  [{one.tokens} tokens, {shown_line(one.source)}]")
    return int(reporter.finish(Finished("completed", result={"suggestions": len(found)}), 0))


def export(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import ExportSettings

    workspace = _opened(args)
    values = {"name": args.name, "to": args.to, "target": str(args.target)}
    job = requests.export_job(workspace, config.check(values, ExportSettings, "The export"))
    return _work(args, reporter, job, lambda r: f"{r['files']} files are in {r['target']}")


def runs(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.listing import run_records

    records = run_records(_opened(args))
    for record in records:
        reporter.line({"type": "run", **record})
    if records and not args.json:
        head = ["run", "status", "data", "base", "step", "loss", "validation"]
        reporter.table(head, [[_cell(record, key) for key in head] for record in records])
    text = "" if records else "No runs yet."
    return int(reporter.finish(Finished("completed", result={"runs": len(records)}), 0, text))


def _cell(record: dict[str, Any], key: str) -> str:
    if key == "step":
        return f"{record['step']}/{record['steps']}"
    value = record["validation_loss" if key == "validation" else key]
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def watch(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.listing import followed, newest_run
    from studio.runs import state_of

    workspace = open_workspace(args.workspace)
    folder = workspace.run(args.run_name) if args.run_name else newest_run(workspace)
    count = 0
    for record, text in followed(folder):
        reporter.line(record, text)
        count += 1
    result = {"run": folder.name, "events": count, "status": state_of(folder).status}
    return int(reporter.finish(Finished("completed", result=result), 0))


def control(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.runs import JobFolder

    folder = JobFolder(open_workspace(args.workspace).run(args.run_name))
    folder.ask(args.request)
    done = Finished("completed", result={"run": folder.path.name, "request": args.request})
    return int(reporter.finish(done, 0, f"{folder.path.name} is asked to {args.request}."))


def check(args: argparse.Namespace, reporter: Any) -> int:
    from studio.checks import check
    from studio.events import Finished

    problems = check(_opened(args), args.deep)
    for problem in problems:
        path, kind = str(problem.path), problem.kind
        reporter.line({"type": "problem", "path": path, "kind": kind}, shown_line(f"{path}: {kind}"))
    text = "Everything is as it should be." if not problems else f"{len(problems)} problems."
    done = Finished("completed", result={"problems": len(problems)})
    return int(reporter.finish(done, 1 if problems else 0, text))


def doctor(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.listing import machine_facts

    for name, value in machine_facts(args.workspace):
        reporter.line({"type": "fact", "name": name, "value": value}, f"{name:<13} {shown_line(value)}")
    open_workspace(args.workspace)  # the machine is told of in any case, but a workspace was asked for
    return int(reporter.finish(Finished("completed"), 0))


# ---- how a command does a job


def _work(args: argparse.Namespace, reporter: Any, job: Any, text: Callable[[dict[str, Any]], str]) -> int:
    from studio.requests import take_back

    session, signalled = _session(job.workspace)
    is_new = not job.folder.journal_path.is_file()
    finished = session.execute(job, reporter.event, lambda: signalled() is not None)
    if is_new and finished.exit_code == UsageError.exit_code:
        take_back(job)
    told = text(finished.result) if finished.outcome == "completed" else ""
    return int(reporter.finish(finished, _exit_code(finished, signalled()), told))


def _session(workspace: Workspace) -> tuple[Any, Callable[[], int | None]]:
    from studio.session import Session, stop_on_signals

    session = Session(workspace)
    return session, stop_on_signals(session.stop_all)


def _exit_code(finished: Any, signalled: int | None) -> int:
    if finished.outcome == "stopped" and signalled == signal.SIGINT:
        return INTERRUPTED
    return int(finished.exit_code)


def _writable(args: argparse.Namespace) -> Workspace:
    """The workspace of a command that writes; it need not be there yet, and is made only once all else is right.

    Raises:
        UsageError: it can neither be opened nor made.
        SettingsError: its studio.toml has faults.
    """
    can_hold_workspace(args.workspace)
    workspace = Workspace(args.workspace)
    if workspace.settings_path.is_file():
        config.load(workspace.settings_path, config.WorkspaceSettings)
    return workspace


def _opened(args: argparse.Namespace) -> Workspace:
    """The workspace of a command that needs one.

    Raises:
        UsageError: there is none.
        SettingsError: its studio.toml has faults.
    """
    workspace = open_workspace(args.workspace)
    config.load(workspace.settings_path, config.WorkspaceSettings)
    return workspace


def _device(args: argparse.Namespace) -> str:
    """The device to work on: as asked, else as the workspace's settings say.

    Raises:
        UsageError: it is not there.
    """
    from studio.devices import check_device

    path = Workspace(args.workspace).settings_path
    own = config.load(path, config.WorkspaceSettings).device if path.is_file() else "auto"
    return check_device(args.device or own)


def _size(text: str) -> tuple[int | None, int | None]:
    """Width and height of '64' or '96x64'; neither for nothing."""
    if not text:
        return None, None
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not width.isdigit() or (height and not height.isdigit()):
        raise UsageError(f"--size {text} is not a size.", "Write --size 512 or --size 512x768.")
    return int(width), int(height or width)


# ---- words


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}.", f"See {self.prog} --help.")


def _parser() -> tuple["_Parser", dict[str, "_Parser"]]:
    """The parser, and that of each command by its name."""
    parser = _Parser(
        prog="rs-studio", description="A terminal studio for generative remote sensing.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"rs-studio {__version__}")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument(
        "workspace", type=Path, metavar="WORKSPACE", help="folder of the workspace, made where it is missing"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    command("init", init, "make the workspace, and stop")
    one = command("demo", demo, "the whole circle on built-in data and model")
    _add_device(one)

    one = command("import", import_, "bring pictures in")
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

    one = command("train", train, "fine-tune a model")
    one.add_argument("--recipe", required=True, metavar="NAME|FILE", help="recipe of the workspace, or a file")
    one.add_argument("--data", required=True, metavar="NAME", help="data set")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the recipe")
    one.add_argument("--name", default="", metavar="RUN", help="name of the run")
    _add_device(one)

    one = command("resume", resume, "go on with a run that was stopped or killed")
    one.add_argument("run_name", metavar="RUN", help="number, name or folder")

    one = command("generate", generate, "make tiles")
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

    one = command("reproduce", reproduce, "make a tile again from its own recipe, and compare")
    one.add_argument("tile", type=Path, metavar="TILE.png")
    _add_device(one)

    one = command("evaluate", evaluate, "compare generated tiles with real pictures")
    one.add_argument("--generated", required=True, metavar="BATCH")
    one.add_argument("--real", required=True, metavar="DATASET[:SPLIT]")
    one.add_argument("--metrics", default="", metavar="A,B", help="frechet,kid (both)")
    one.add_argument("--network", default="", help="starter-encoder, or inception:FILE.safetensors")
    one.add_argument("--seed", type=int, default=42, help="decides which pictures are compared (42)")
    _add_device(one)

    one = command("downstream", downstream, "train a classifier on tiles and test it on real pictures")
    one.add_argument("--synthetic", required=True, metavar="BATCH")
    one.add_argument("--real", required=True, metavar="DATASET")
    one.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each arm (1)")
    one.add_argument("--epochs", type=int, help="passes over the training pictures (20)")
    one.add_argument("--weights", default="", metavar="FILE", help="ResNet-18 weights to begin from (.safetensors)")
    _add_device(one)

    one = command("suggest", suggest, "suggest prompts, each with its source")
    one.add_argument("--class", dest="label", default="", metavar="NAME", help="class to write about")
    one.add_argument("--like", default="", metavar="TEXT", help="words to be near to")
    one.add_argument("-n", type=int, default=8, metavar="N", help="how many (8)")
    one.add_argument("--backend", default="grammar", choices=["grammar"], help="where they come from")
    one.add_argument("--seed", type=int, default=0, help="another seed gives others (0)")

    one = command("export", export, "take a batch, data set, collection or run out of the workspace")
    one.add_argument("name", metavar="NAME")
    forms = ["image-folder", "parquet", "gallery", "contact-sheet", "adapter"]
    one.add_argument("--to", required=True, choices=forms, help="the form")
    one.add_argument("target", type=Path, metavar="TARGET", help="folder (contact sheet: file), empty or absent")

    command("runs", runs, "list the runs")
    one = command("watch", watch, "follow a run until it ends")
    one.add_argument("run_name", nargs="?", default="", metavar="RUN", help="the newest where none is named")
    one = command("control", control, "ask a running job for something")
    one.add_argument("run_name", metavar="RUN")
    one.add_argument("request", choices=["pause", "resume", "stop", "save", "preview"])
    one = command("check", check, "look for damage, and build the index again")
    one.add_argument("--deep", action="store_true", help="read every file and compare its sum")
    command("doctor", doctor, "tell what this machine can do")
    return parser, commands.choices


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="cpu, cuda:0, … (the workspace's own)")
