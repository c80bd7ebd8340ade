"""The machine's devices and their load, without torch."""

import os
from dataclasses import dataclass

import psutil


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
