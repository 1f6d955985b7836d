"""Show what an artifact is, how it was made, what it holds, and its key numbers.

Reads no columns, so it is quick on large files. Exits with code 3 if the structure is not what this kind of
artifact must have. `seqres verify` reads the data as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqres_cli.options import Json
from seqres_cli.output import Answer, number_text, seconds_text, size_text, summary_lines
from seqres_cli.stage_command import PlainCommand

if TYPE_CHECKING:
    from stages.artifacts import Artifact


_TYPE_NAMES = {"|b1": "bool", "|u1": "uint8", "|i1": "int8"} | {
    f"<{letter}{size}": f"{name}{8 * size}"
    for letter, name in (("i", "int"), ("u", "uint"), ("f", "float"))
    for size in (2, 4, 8)
}


def inspect_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="artifact", show_default=False)],
    json: Json = False,
) -> Answer:
    from stages.artifacts import open_artifact

    with open_artifact(file, check=False) as artifact:
        record = describe(artifact)
    return Answer(record, description_lines(record), 3 if record["problems"] else 0)


def describe(artifact: Artifact) -> dict[str, Any]:
    """Everything that can be told without reading a column."""
    from stages.artifacts import schema

    columns = schema.SCHEMAS[artifact.kind].columns
    tree = []
    for name, entry in artifact.entries.items():
        column = columns.get(name) or columns.get(name.removesuffix("/values"))
        unit = column.unit if column else ""
        tree.append({"path": name, "dtype": entry.dtype, "shape": list(entry.shape), "unit": unit})
    provenance = artifact.provenance
    return {
        "path": str(artifact.path),
        "bytes": artifact.path.stat().st_size,
        "kind": artifact.kind,
        "schema_version": artifact.schema_version,
        "digest": artifact.digest,
        "fingerprint": artifact.fingerprint,
        "created_by": artifact.created_by,
        "attributes": artifact.semantic_attrs,
        "notes": artifact.notes,
        "provenance": provenance,
        "tree": tree,
        "summary": artifact.json("summary") if "summary" in artifact else {},
        "problems": list(schema.problems(artifact.kind, artifact.entries, artifact.semantic_attrs)),
    }


def description_lines(record: Mapping[str, Any]) -> list[str]:
    size = size_text(record["bytes"])
    lines = [f"{record['path']}: {record['kind']} (schema {record['schema_version']}, {size})"]
    lines += [f"problem: {problem}" for problem in record["problems"]]
    lines += [*_origin_lines(record), "", "holds"]
    width = max((len(row["path"]) for row in record["tree"]), default=0)
    for row in record["tree"]:
        shape = " × ".join(map(str, row["shape"])) or "one"
        type_name = _TYPE_NAMES.get(row["dtype"], row["dtype"]).ljust(7)
        lines.append(f"  {row['path'].ljust(width)}  {type_name}  {shape}  {row['unit']}".rstrip())
    attributes = {**record["attributes"], **record["notes"]}
    if attributes:
        lines += ["", "attributes", *summary_lines(attributes)]
    if record["summary"]:
        lines += ["", "key numbers", *summary_lines(record["summary"])]
    return lines


def _origin_lines(record: Mapping[str, Any]) -> list[str]:
    made: Mapping[str, Any] = record["provenance"]
    rows = {"digest": record["digest"], "written by": record["created_by"]}
    if made.get("stage"):
        rows["stage"] = f"{made['stage']} (version {made.get('stage_version')})"
    if made.get("ended_utc"):
        rows["made"] = f"{made['ended_utc']} in {seconds_text(float(made.get('seconds') or 0))}"
    rows |= {key: number_text(made[key]) for key in ("device", "seed") if made.get(key) is not None}
    if made.get("argv"):
        rows["command"] = " ".join(map(str, made["argv"]))
    for i in made.get("inputs", []):
        rows[f"input {i['role']}"] = f"{i['path']} ({i['kind']}, {str(i['digest'])[:12]})"
    for i in made.get("external", []):
        rows[f"from {i['role']}"] = (
            f"{i['path']} ({size_text(int(i['size']))}, sha256 {str(i['sha256'])[:12]})"
        )
    width = max(map(len, rows))
    lines = [f"  {key.ljust(width)}  {value}" for key, value in rows.items()]
    config: Mapping[str, Any] = made.get("config", {})
    if config:
        width = max(map(len, config))
        lines += ["", "configuration"]
        for name, item in config.items():
            lines.append(f"  {name.ljust(width)}  {number_text(item['value'])}  ({item['origin']})")
    return lines


COMMAND = PlainCommand(
    name="inspect",
    help=__doc__,
    function=inspect_file,
    examples=("seqres inspect data.h5", "seqres inspect res.h5 --json"),
)
