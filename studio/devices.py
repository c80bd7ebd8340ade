"""The machine's devices and their load, without torch."""

import os
import platform
import re
from dataclasses import dataclass

import psutil

from studio.errors import unknown

# Where one of these is, there may be a GPU that NVML does not know: AMD's, a Jetson's, or Windows' under WSL.
_OTHER_GPUS = ("/dev/kfd", "/dev/nvmap", "/dev/dxg")


@dataclass(frozen=True)
class DeviceLoad:
    """One device now; memory in bytes, load in percent, None where it is not known."""

    name: str
    label: str
    load_percent: float | None
    memory_used_bytes: int
    memory_total_bytes: int
    power_watts: float | None = None
    temperature_celsius: float | None = None


def cpu_load() -> DeviceLoad:
    memory = psutil.virtual_memory()
    label = f"{os.cpu_count() or 1} cores"
    return DeviceLoad("cpu", label, psutil.cpu_percent(), memory.total - memory.available, memory.total)


def cpu_name() -> str:
    """The processor's make and model, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            models = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
            return next(models, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def gpu_loads() -> list[DeviceLoad]:
    """Every NVIDIA GPU that the driver shows; empty where there is no driver."""
    import pynvml  # only machines with a driver get past the next line

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    return [_gpu_load(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]


def default_device(wanted: str = "auto") -> str:
    """The device that `auto` means: the first GPU, else the CPU."""
    if wanted != "auto":
        return wanted
    return "cuda:0" if gpu_loads() else "cpu"


def check_device(wanted: str) -> str:
    """The device that a word means, `cuda` being the first GPU.

    Raises:
        UsageError: there is no such device on this machine.
    """
    name = {"cuda": "cuda:0"}.get(wanted, wanted)
    if name in ("auto", "cpu") or (name == "mps" and platform.system() == "Darwin"):
        return default_device(name)
    known = ["cpu", *(gpu.name for gpu in gpu_loads())]
    if name not in known and not (re.fullmatch(r"cuda:\d+", name) and any(map(os.path.exists, _OTHER_GPUS))):
        raise unknown("device", wanted, known)
    return name


def cpu_threads(wanted: int = 0) -> int:
    """Threads that a CPU job computes with: as wanted, else as the environment allows, else all cores but one."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    allowed = int(given) if given.isdecimal() else 0
    return wanted or allowed or max((os.cpu_count() or 2) - 1, 1)


def _gpu_load(pynvml: object, index: int) -> DeviceLoad:
    nvml: object = pynvml
    handle = nvml.nvmlDeviceGetHandleByIndex(index)  # type: ignore[attr-defined]
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    return DeviceLoad(
        f"cuda:{index}",
        str(nvml.nvmlDeviceGetName(handle)),  # type: ignore[attr-defined]
        float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),  # type: ignore[attr-defined]
        int(memory.used),
        int(memory.total),
        nvml.nvmlDeviceGetPowerUsage(handle) / 1000,  # type: ignore[attr-defined]
        float(nvml.nvmlDeviceGetTemperature(handle, 0)),  # type: ignore[attr-defined]
    )
