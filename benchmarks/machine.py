"""The machine and the versions that a measurement was taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import psutil

from trainers.versions.naming import library_versions

PACKAGES = ("faust-streaming", "aiokafka", "torch", "numpy", "rocksdict", "pydantic")


def machine() -> dict[str, str]:
    """Return processor, cores, memory, system and the versions of what is installed, in words."""
    versions = library_versions(*PACKAGES)
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": versions.pop("python"),
        **versions,
    }


def in_words(told: Mapping[str, str]) -> str:
    """Return what `machine` told in one line, each figure with its name."""
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _processor() -> str:
    fields = (line.partition(":") for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines())
    names = (value.strip() for name, _, value in fields if name.strip() == "model name")
    return next(names, platform.processor() or platform.machine())
