"""One job in several processes: starting them, steering them, telling what they tell, and knowing to be one of them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from studio.control import Control
from studio.devices import cpu_threads, gpu_loads
from studio.errors import UsageError
from studio.events import Event, Finished, Started
from studio.files import write_text
from studio.journal import Journal, JournalReader, being_worked_on
from studio.runs import JobFolder

MOST_PROCESSES = 1024
_STARTED_BY_US = "RS_STUDIO_STARTED"
_SECONDS_BETWEEN_LOOKS = 0.2


def is_one_of_several() -> bool:
    """Whether this process was started as one of several, by us, `accelerate launch` or torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def follows() -> bool:
    """Whether another process leads the work of this one: makes the job, journals it and speaks for all."""
    return is_one_of_several() and os.environ["RANK"] != "0"


def check_processes(processes: int, device: str) -> None:
    """See that a job can be done in so many processes of this machine.

    Raises:
        UsageError: it cannot.
    """
    if not 1 <= processes <= MOST_PROCESSES:
        raise UsageError(f"{processes} processes are not possible.", f"Give --processes 1 to {MOST_PROCESSES}.")
    if processes == 1 or device == "cpu":
        return
    if device != "cuda:0":
        raise UsageError(
            f"{device} is one device and cannot be shared by {processes} processes.",
            "Give --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES, or --device cpu.",
        )
    chosen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    there = len(chosen or gpu_loads())
    if there and processes > there:
        raise UsageError(f"{processes} processes need as many GPUs, and {there} can be used.")


def execute_in_processes(
    root: Path,
    folder: JobFolder,
    device: str,
    processes: int,
    control: Control,
    watch: Callable[[Event], None],
    threads: int = 0,
) -> Finished:
    """Do a run in several processes of this machine, whose first journals it; what it tells is watched here.

    Args:
        threads: of the CPU, in all; 0 takes what one process would.

    Raises:
        UsageError: someone else works on it.
    """
    if folder.is_active():
        raise being_worked_on(folder.path)
    reader = JournalReader(folder.journal_path)
    reader.read()
    env = _environment(device, max(cpu_threads(threads) // processes, 1))
    begun, ended = False, None
    with folder.log_path.open("ab") as log, _started(root, folder, processes, env, log) as launched:
        while True:
            over = launched.poll() is not None  # before the last look, which then misses nothing
            for _, event in reader.read():
                begun = begun or isinstance(event, Started)
                ended = event if isinstance(event, Finished) else ended
                watch(event)
            if over:
                break
            if begun:  # words left earlier are for a process that is gone, so the first would not obey them
                _hand_on(control, folder)
            control.wait(_SECONDS_BETWEEN_LOOKS)
    return ended or _died(folder, watch)


def _started(
    root: Path, folder: JobFolder, processes: int, env: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """torchrun, which ends all processes where one dies. They hold the other end of its input, and stop when we die."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost"]
    command += ["--nproc-per-node", str(processes), "--max-restarts", "0", "-m", "studio"]
    command += [str(root.resolve()), "resume", folder.path.name]
    # A session of its own, so that Ctrl-C reaches us alone, and we ask them to stop.
    return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)


def _environment(device: str, threads: int) -> dict[str, str]:
    # The same code as here, wherever we were started.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    added = {_STARTED_BY_US: "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    return os.environ | added | ({"ACCELERATE_USE_CPU": "true"} if device == "cpu" else {})


def _hand_on(control: Control, folder: JobFolder) -> None:
    """Leave what was asked here in the folder, once what was left there before is taken."""
    if not folder.control_path.exists() and (words := control.hand_on()):
        write_text(folder.control_path, "\n".join(words) + "\n")


def _died(folder: JobFolder, watch: Callable[[Event], None]) -> Finished:
    """Journal the end of a run whose first process could not."""
    finished = Finished(
        "failed",
        "A process of this run died, and the others were ended.",
        f"The whole story is in {folder.log_path}. Resuming goes on from the newest checkpoint.",
        1,
    )
    journal = Journal(folder.journal_path)
    try:
        journal.write(finished)
        journal.sync()
    finally:
        journal.close()
    watch(finished)
    return finished


def stop_with_the_starter(control: Control) -> None:
    """In a process that we started: ask for a stop when the one that started it is gone, however it went."""
    if os.environ.get(_STARTED_BY_US) != "1":
        return

    def wait() -> None:
        while os.read(0, 1):
            pass
        control.ask("stop")

    threading.Thread(target=wait, name="starter", daemon=True).start()
