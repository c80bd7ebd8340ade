"""What each command does: one short function for each, calling the same engine as the screens."""

import argparse
import signal
from collections.abc import Callable
from typing import Any

from studio import config
from studio.display import shown_line
from studio.errors import UsageError
from studio.workspace import Workspace, can_hold_workspace, make_workspace, open_workspace

INTERRUPTED = 130


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
    return _work(args, reporter, job, lambda r: f"The report is at {r['table']}")


def downstream(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import DownstreamSettings

    workspace = _opened(args)
    values: dict[str, Any] = {"synthetic": args.synthetic, "real": args.real, "seeds": args.seeds}
    values |= {"epochs": args.epochs} if args.epochs else {}
    values |= {"weights": args.weights} if args.weights else {}
    settings = config.check(values, DownstreamSettings, "The study")
    job = requests.downstream_job(workspace, settings, _device(args))
    return _work(args, reporter, job, lambda r: f"The report is at {r['table']}")


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
    from studio.requests import promote
    from studio.runs import JobFolder

    workspace = open_workspace(args.workspace)
    if args.request == "promote":
        name = promote(workspace, args.run_name)
        done = Finished("completed", result={"run": name, "request": "promote"})
        return int(reporter.finish(done, 0, f"{name} now stands for its run."))
    folder = JobFolder(workspace.run(args.run_name))
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
    if not width.isdecimal() or (height and not height.isdecimal()):
        raise UsageError(f"--size {text} is not a size.", "Write --size 512 or --size 512x768.")
    return int(width), int(height or width)
