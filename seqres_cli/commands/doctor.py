"""Tell versions, devices, threads, optional parts and readable files: what a bug report needs.

An optional part that is not installed comes with the line that installs it. Exit code 1 when a library that seqres needs
is missing.
"""

from collections.abc import Mapping
from typing import Any

from seqres_cli.options import Json
from seqres_cli.output import Answer, number_text
from seqres_cli.stage_command import PlainCommand


def doctor(json: Json = False) -> Answer:
    from stages.doctor import diagnose

    found = diagnose()
    return Answer(found, _lines(found), 0 if found["ok"] else 1)


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [f"seqres {found['seqres']}, Python {found['python']}, {found['platform']}", "", "devices"]
    for device in found["devices"]:
        memory = f", {device['memory_gib']} GiB" if "memory_gib" in device else ""
        lines.append(f"  {device['device']}  {device['name']}{memory}")
    threads = [f"{name} {number_text(count)}" for name, count in found["threads"].items()]
    lines += ["", f"threads: {', '.join(threads)}", "", "libraries"]
    width = max((len(name) for name in found["libraries"]), default=0)
    lines += [
        f"  {name.ljust(width)}  {version or 'MISSING'}" for name, version in found["libraries"].items()
    ]
    if found["extras"]:
        lines += ["", "optional parts"]
    for name, part in found["extras"].items():
        lines.append(f"  {name}: {'present' if part['present'] else part['install']}")
    kinds = ", ".join(f"{kind} {version}" for kind, version in found["reads"].items())
    return [*lines, "", f"reads artifacts up to schema version: {kinds}"]


COMMAND = PlainCommand(
    name="doctor", help=__doc__, function=doctor, examples=("seqres doctor --json > doctor.json",)
)
