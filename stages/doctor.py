"""doctor: what this installation is and can do, for a person who wonders and for a bug report.

In: nothing. Out: versions, devices, threads, which optional parts are there, which files it reads. Why: most reports of
"it does not work" are answered by these lines. It is no stage: it reads and writes no artifact.
"""

import importlib.metadata as metadata
import os
import platform
import re
from typing import Any

import stages
from stages.world import usable_cores


def library_versions() -> dict[str, str | None]:
    """Required library -> installed version, None where it is missing; nothing is imported."""
    return {name: _version(name) for name, extra, _ in _requirements() if extra is None}


def diagnose() -> dict[str, Any]:
    """Everything `seqres doctor` tells, as plain data. Importing torch, to ask for its devices, takes most of the time."""
    from stages.artifacts.schema import KINDS

    libraries = library_versions()
    missing = sorted(name for name, version in libraries.items() if version is None)
    return {
        "ok": not missing,
        "seqres": stages.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": libraries,
        "missing": missing,
        "devices": _devices(),
        "threads": _threads(),
        "extras": _extras(),
        "reads": dict(KINDS),
    }


def _devices() -> list[dict[str, Any]]:
    """The processor, and every accelerator that torch can use."""
    devices: list[dict[str, Any]] = [{"device": "cpu", "name": platform.processor() or platform.machine()}]
    try:
        import torch
    except ImportError:
        return devices
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(i).total_memory
            name = torch.cuda.get_device_name(i)
            devices.append({"device": f"cuda:{i}", "name": name, "memory_gib": round(memory / 2**30, 1)})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU"})
    return devices


def _threads() -> dict[str, int | None]:
    """Processors of the machine, those that this process may use, and what the libraries take."""
    found: dict[str, int | None] = {
        "processors": os.cpu_count(),
        "usable": usable_cores(),
        "torch": None,
        "opencv": None,
    }
    try:
        import cv2
        import torch
    except ImportError:
        return found
    return {**found, "torch": torch.get_num_threads(), "opencv": cv2.getNumThreads()}


def _extras() -> dict[str, dict[str, Any]]:
    """Optional part -> whether all of it is installed, versions, and the line that installs what is missing."""
    extras: dict[str, dict[str, Any]] = {}
    for name, extra, requirement in _requirements():
        if extra is None:
            continue
        part = extras.setdefault(extra, {"present": True, "versions": {}, "install": None})
        part["versions"][name] = version = _version(name)
        if version is None:
            part["present"] = False
            part["install"] = f"{part['install'] or 'pip install'} '{requirement}'"
    return extras


def _requirements() -> list[tuple[str, str | None, str]]:
    """(name, extra or None, "name>=version") of what this package declares to need."""
    try:
        lines = metadata.requires("seqres") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
        if name is not None:
            found.append((name[0], extra[1] if extra else None, requirement))
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
