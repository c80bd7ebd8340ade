"""What each command does: one short function for each, calling the same engine as the screens."""

import argparse
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from studio import config
from studio.display import shown_line
from studio.errors import UsageError
from studio.workspace import Workspace, can_hold_workspace, folders, make_workspace, open_workspace

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
    from studio import launch, requests, sources

    if launch.follows():
        return _follow(args)
    device = _device(args)
    launch.check_processes(args.processes, device)
    workspace = _writable(args)
    settings = sources.load_recipe(workspace, args.recipe, args.data, args.set)
    if args.estimate:
        return _estimate(args, reporter, workspace, settings, device)
    name = args.name or requests.free_run_name(workspace, args.recipe)
    _fetched(workspace, reporter, settings.base)
    job = requests.train_job(workspace, settings, name, device, args.processes)
    if settings.known_problems:
        reporter.say(f"Known: {settings.known_problems}")
    return _work(args, reporter, job, _training_ended)


def _estimate(args: argparse.Namespace, reporter: Any, workspace: Workspace, settings: Any, device: str) -> int:
    """Say what a run would take and what speaks against it, and begin nothing."""
    from studio.events import Finished, Planned
    from studio.reporting import plan_in_words
    from studio.requests import expected

    told, said = expected(workspace, settings, device)
    for event in said:
        if args.json or not isinstance(event, Planned):
            reporter.event(event)
    plan = next((event for event in said if isinstance(event, Planned)), None)
    result: dict[str, Any] = {"steps": told.optimiser.steps, "known_problems": settings.known_problems}
    result |= {"memory_bytes": round(plan.memory_bytes), "seconds": plan.seconds} if plan else {}
    if settings.known_problems:
        reporter.say(f"Known: {settings.known_problems}")
    text = plan_in_words(plan) if plan else f"{told.optimiser.steps} steps; memory and time are not known yet."
    return int(reporter.finish(Finished("completed", result=result), 0, text))


def resume(args: argparse.Namespace, reporter: Any) -> int:
    from studio import launch, requests
    from studio.devices import check_device

    if launch.follows():
        return _follow(args)
    workspace = _opened(args)
    if args.run_name in [path.name for path in folders(workspace.batches)]:
        batch = requests.resume_batch(workspace, args.run_name, _own_device(args))
        return _work(args, reporter, batch, _grid_ended if batch.kind == "grid" else _generation_ended)
    job = requests.resume_job(workspace, args.run_name)
    job = replace(job, processes=job.processes if args.processes is None else args.processes)
    launch.check_processes(job.processes, check_device(job.device))
    return _work(args, reporter, job, _training_ended)


def _follow(args: argparse.Namespace) -> int:
    """Train as another process of the same launch says, and leave every word to it."""
    from studio import jobs, requests
    from studio.runs import JobFolder
    from studio.session import stop_on_signals

    workspace = Workspace(args.workspace)
    stop_on_signals(lambda: None)  # whoever sends them tells the first process too, which says when to stop
    jobs.follow(lambda name: requests.job_of(workspace, JobFolder(workspace.run(name))))
    return 0


def _training_ended(result: dict[str, Any]) -> str:
    first, last = result.get("validation_loss_first"), result.get("validation_loss_last")
    losses = f" Validation loss {first:.4f} → {last:.4f}." if first is not None and last is not None else ""
    return f"{result['run']} is at step {result['step']} of {result['steps']}.{losses}"


def generate(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests, sources
    from studio.settings import GenerateSettings

    workspace = _writable(args)
    values = {**_sampling(args), "init": args.init, "mask": args.mask}
    settings = config.check(values, GenerateSettings, "The generation")
    source = sources.PromptSource(args.prompt or "", args.prompts or "", args.plan or "", args.negative)
    tiles = sources.tiles_of(workspace, source, args.count, args.seed)
    plan = sources.plan_of(workspace, source)
    _fetched(workspace, reporter, args.model)
    job = requests.generate_job(workspace, settings, tiles, args.name, _device(args), plan)
    if plan and plan.known_problems:
        reporter.say(f"Known: {plan.known_problems}")
    return _work(args, reporter, job, _generation_ended)


def grid(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import GridSettings

    workspace = _writable(args)
    values = {"x": args.x, "y": args.y, "z": args.z, "prompt": args.prompt, "negative": args.negative}
    settings = config.check({**values, "tiles": _sampling(args)}, GridSettings, "The grid")
    _fetched(workspace, reporter, args.model)
    job = requests.grid_job(workspace, settings, args.name, _device(args))
    return _work(args, reporter, job, _grid_ended)


def model(args: argparse.Namespace, reporter: Any) -> int:
    from studio import fetching
    from studio.events import Finished

    if args.action == "list":
        if args.source:
            raise UsageError(f"model list takes no {shown_line(args.source, 80)}.", "Write: model list")
        records = fetching.fetched_models(_opened(args))
        for record in records:
            reporter.line({"type": "model", **record}, f"{record['name']}  {record['bytes'] / 1e9:.2f} GB")
        text = "" if records else "No models were added yet; the starter is always there."
        return int(reporter.finish(Finished("completed", result={"models": len(records)}), 0, text))
    if not args.source:
        raise UsageError("No model is named.", "Write: model add OWNER/NAME, or model add FILE.safetensors")
    ref = fetching.fetch_model(_writable(args), args.source, reporter.event, args.tokenizer)
    done = Finished("completed", result={"model": ref.name, "folder": str(ref.folder)})
    return int(reporter.finish(done, 0, f"{ref.name} is ready."))


def _fetched(workspace: Workspace, reporter: Any, name: str) -> None:
    """Download or unpack a model that a job needs, before the job is made."""
    from studio.fetching import fetch_where_needed

    fetch_where_needed(workspace, name, reporter.event)


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The model and what `arguments._add_sampling` adds, as values of GenerateSettings."""
    width, height = _size(args.scene or args.size)
    return {
        "model": args.model,
        "loras": tuple(args.lora),
        "sampler": args.sampler,
        "steps": args.steps,
        "guidance": args.guidance,
        "rescale": args.rescale,
        "width_px": width,
        "height_px": height,
        "seed": args.seed,
        "batch": args.batch,
        "precision": args.precision,
        "seamless": args.seamless,
        "scene": bool(args.scene),
        "upscale": args.upscale,
        "strength": args.strength,
    }


def _grid_ended(result: dict[str, Any]) -> str:
    return f"{result['saved']} of {result['requested']} cells are on {result['sheet']}"


def _generation_ended(result: dict[str, Any]) -> str:
    refused = ", ".join(f"{count} {kind}" for kind, count in result.get("refused", {}).items())
    aside = f" Refused and put aside: {refused}." if refused else ""
    return f"{result['saved']} of {result['requested']} tiles are in the batch {result['batch']}.{aside}"


def reproduce(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.session import reproduce

    result = reproduce(_opened(args), args.tile, _device(args))
    if result["identical"]:
        return int(reporter.finish(Finished("completed", result=result), 0, "Identical."))
    count = result["differing_pixels"]
    differing = "1 pixel differs" if count == 1 else f"{count:,} pixels differ"
    text = shown_line(f"{differing}: {'; '.join(result['reasons'])}.")
    return int(reporter.finish(Finished("completed", result=result), 1, text))


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
    values = {"name": args.name, "to": args.to, "target": str(args.target), "precision": args.precision}
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


def checkpoints(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.listing import checkpoint_records

    folder = _opened(args).run(args.run_name)
    records = checkpoint_records(folder)
    for record in records:
        reporter.line({"type": "checkpoint", **record})
    if records and not args.json:
        metrics = sorted({name for record in records for name in record["metrics"]})
        rows = [
            [
                record["checkpoint"],
                _figure(record["validation_loss"]),
                *(_figure(record["metrics"].get(name)) for name in metrics),
                " ".join(word for word in ("best", "promoted") if record[word]),
            ]
            for record in records
        ]
        reporter.table(["checkpoint", "validation", *metrics, f"by {records[0]['rank_by'].replace('_', ' ')}"], rows)
    text = "" if records else f"{folder.name} has no checkpoints yet."
    best = next((record["step"] for record in records if record["best"]), None)
    result = {"run": folder.name, "checkpoints": len(records), "best_step": best}
    return int(reporter.finish(Finished("completed", result=result), 0, text))


def _figure(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.5g}"


def probe(args: argparse.Namespace, reporter: Any) -> int:
    from studio import requests
    from studio.settings import ProbeSettings

    workspace = _writable(args)
    settings = config.check({"model": args.model, "data": args.data, "count": args.count}, ProbeSettings, "The probe")
    _fetched(workspace, reporter, args.model)
    job = requests.probe_job(workspace, settings, args.name, _device(args))
    return _work(args, reporter, job, lambda r: f"{r['saved']} tiles of fixed prompts are in the batch {r['batch']}.")


def sweep(args: argparse.Namespace, reporter: Any) -> int:
    from studio import sources
    from studio.events import Finished
    from studio.sweeps import SweepRecord, plan_sweep, sweep_jobs, sweep_records
    from studio.taking_back import take_back

    workspace, device = _writable(args), _device(args)
    settings = sources.load_recipe(workspace, args.recipe, args.data, args.set)
    _fetched(workspace, reporter, settings.base)
    record = SweepRecord(recipe=args.recipe, settings=settings, vary=tuple(args.vary))
    planned = plan_sweep(workspace, record, args.name)
    session, signalled = _session(make_workspace(workspace.root))
    for job in sweep_jobs(workspace, planned, device):
        values = next(arm.values for arm in planned.arms if arm.run == job.folder.name)
        reporter.say(f"{job.folder.path.name}: {', '.join(f'{key}={value}' for key, value in values.items())}")
        is_new = not job.folder.journal_path.is_file()
        finished = session.execute(job, reporter.event, lambda: signalled() is not None)
        if is_new and _came_to_nothing(job, finished):
            take_back(job)
        if finished.outcome == "stopped" or finished.exit_code == UsageError.exit_code:
            return int(reporter.finish(finished, _exit_code(finished, signalled())))
        if finished.outcome == "failed":  # a step size too large is a finding too
            reporter.say(f"{finished.message} The sweep goes on.")
    records = sweep_records(workspace, planned)
    none_done = Finished("failed", "No run of the sweep completed.", "How one ended tells: rs-studio WS watch RUN", 1)
    is_done = any(record["status"] == "completed" for record in records)
    return _compared(args, reporter, Finished("completed") if is_done else none_done, records)


def sweeps(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.sweeps import open_sweep, sweep_files, sweep_records

    workspace = _opened(args)
    if args.name:
        records = sweep_records(workspace, open_sweep(workspace, args.name))
        return _compared(args, reporter, Finished("completed"), records)
    names = [path.stem for path in sweep_files(workspace)]
    for name in names:
        reporter.line({"type": "sweep", "sweep": name}, name)
    text = "" if names else "No sweeps yet."
    return int(reporter.finish(Finished("completed", result={"sweeps": len(names)}), 0, text))


def _compared(args: argparse.Namespace, reporter: Any, finished: Any, records: list[dict[str, Any]]) -> int:
    """One table of a sweep's runs, best first."""
    from studio.reporting import in_time

    for record in records:
        reporter.line({"type": "run", **record})
    if not args.json:
        keys = list(records[0]["values"])
        measure = records[0]["measure"].replace("_", " ")
        rows = [
            [record["run"], *(record["values"][key] for key in keys), f"{record['step']}/{record['steps']}",
             _figure(record["first"]), _figure(record["best"]), _figure(record["best_step"]),
             in_time(record["seconds"]), record["status"]]
            for record in records
        ]  # fmt: skip
        reporter.table(["run", *keys, "step", f"{measure} at 0", "best", "at step", "time", "status"], rows)
    done = [record for record in records if record["status"] == "completed"]
    result = {"sweep": records[0]["sweep"], "runs": len(records), "completed": len(done)}
    result |= {"best_run": records[0]["run"] if done else None}
    return int(reporter.finish(replace(finished, result=result), finished.exit_code))


def control(args: argparse.Namespace, reporter: Any) -> int:
    from studio.events import Finished
    from studio.requests import promote
    from studio.runs import JobFolder, state_of

    workspace = open_workspace(args.workspace)
    if args.request == "promote":
        name = promote(workspace, args.run_name)
        done = Finished("completed", result={"run": name, "request": "promote"})
        return int(reporter.finish(done, 0, f"{name} now stands for its run."))
    folder = JobFolder(workspace.run(args.run_name))
    if state_of(folder.path).status == "completed":
        raise UsageError(f"{folder.path.name} has completed all its steps, so nobody works on it.")
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
    from studio.taking_back import take_back, take_back_workspace

    session, signalled = _session(job.workspace)
    is_new = not job.folder.journal_path.is_file()
    finished = session.execute(job, reporter.event, lambda: signalled() is not None)
    if is_new and _came_to_nothing(job, finished):
        take_back(job)
        if args.makes_workspace:
            take_back_workspace(job.workspace)
    told = text(finished.result) if finished.outcome == "completed" else ""
    return int(reporter.finish(finished, _exit_code(finished, signalled()), told))


def _came_to_nothing(job: Any, finished: Any) -> bool:
    """Whether a job may be taken back: its settings cannot be used, or it is a batch whose log has nothing to tell."""
    from studio.taking_back import BATCHES

    if finished.exit_code == UsageError.exit_code:
        return True
    return finished.outcome == "failed" and job.kind in BATCHES and not job.folder.log_path.is_file()


def _session(workspace: Workspace) -> tuple[Any, Callable[[], int | None]]:
    from studio.session import Session, stop_on_signals

    session = Session(workspace)
    return session, stop_on_signals(session.stop_all)


def _exit_code(finished: Any, signalled: int | None) -> int:
    from studio.launch import is_one_of_several

    if finished.outcome == "stopped" and is_one_of_several():
        return 0  # a launcher takes any other code for a crash, and says so at length
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
    args.makes_workspace = not workspace.root.exists()
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

    return check_device(args.device) if args.device else _own_device(args)


def _own_device(args: argparse.Namespace) -> str:
    """The device that the workspace's settings name; raises as `_device`."""
    from studio.devices import check_device

    path = Workspace(args.workspace).settings_path
    return check_device(config.load(path, config.WorkspaceSettings).device if path.is_file() else "auto")


def _size(text: str) -> tuple[int | None, int | None]:
    """Width and height of '64' or '96x64'; neither for nothing."""
    if not text:
        return None, None
    width, by, height = text.lower().replace("×", "x").partition("x")
    if not width.isdecimal() or (by and not height.isdecimal()):
        raise UsageError(f"{text} is not a size.", "Write 512 or 512x768.")
    return int(width), int(height or width)
