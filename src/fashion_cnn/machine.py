"""Facts about the machine: cores, processor, versions of the software."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
_PACKAGES = ("fashion-cnn", "keras", "tensorflow", "tensorflow-cpu", "jax", "numpy")
# Limits of oneDNN (its "CPU dispatcher control") under which it has no bfloat16 convolutions
_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"}
_WITHOUT_BFLOAT16 |= {"AVX512_CORE", "AVX512_CORE_VNNI"}


def environment(backend: str) -> dict[str, Any]:
    """What a training runs on: versions, processor, cores, platform and the code's commit."""
    return {
        "python": platform.python_version(),
        "versions": {name: number for name in _PACKAGES if (number := version(name))},
        "backend": backend,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "commit": _commit(),
    }


def cores() -> int:
    """How many processor cores this process may use: the system's limit and `OMP_NUM_THREADS`."""
    available = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 2
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdecimal() and int(limit) else available


def version(name: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    from importlib import metadata  # 20 ms, which --help does not need

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_facts() -> dict[str, str]:
    """What Linux says of a processor core, such as `model name`; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def processor_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16, and oneDNN's environment variable allows it."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    if limit.upper() in _WITHOUT_BFLOAT16:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_facts().get("flags", "").split())


def _processor() -> str:
    facts = cpu_facts()
    return facts.get("model name", "unknown") if facts else platform.processor()


def _commit() -> str | None:
    package = Path(__file__).parent
    command = ["git", "-C", str(package), "rev-parse", "HEAD"]
    if not (package.parents[1] / ".git").exists():  # installed, not a checkout
        return None
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
