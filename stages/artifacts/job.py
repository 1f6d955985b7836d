"""Caching and bookkeeping of one run of a stage: make-like by path, decided by content.

`out` absent: run. Present and made by the same stage version from the same semantic configuration,
inputs and external files: up to date. Present and made from anything else: refuse, name what changed,
and ask for `--force`. This module stays free of HDF5 at import, because stages import it at their top.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from stages.artifacts.target import nearest_folder, refuse_inputs, require_file_target, require_writable
from stages.artifacts.temporary import remove_leftovers
from stages.config import config_dict, in_current_words, semantic_dict
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.nearest import cannot_read, missing_hint
from stages.world import ALONE, World

if TYPE_CHECKING:
    from stages.artifacts.reader import Artifact
    from stages.artifacts.writer import ArtifactWriter

Status = Literal["written", "up-to-date", "would-run"]
Decision = TypeVar("Decision")
Options = TypeVar("Options")


@dataclass(frozen=True)
class RunOptions:
    """How a stage is run, as against what it computes."""

    force: bool = False
    dry_run: bool = False
    argv: tuple[str, ...] = ()
    world: World = ALONE  # the processes that share the work
    # config field -> "default", "flag", "recipe …", "file …"
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageResult:
    """What `run` returns. `summary` is also stored in the artifact as the JSON `summary`."""

    stage: str
    status: Status
    path: Path
    digest: str | None
    summary: dict[str, Any]
    seconds: float
    reasons: tuple[str, ...] = ()


_DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "xla")  # whether one is there, torch tells

# attribute that names another artifact by digest -> the kinds that it may name
_DIGEST_OF = {
    "dataset_digest": ("dataset",),
    "split_digest": ("split",),
    "rec_digest": ("rec_model",),
    "res_digest": ("res_model",),
    "model_digest": ("rec_model", "res_model"),
    "pseudo_digest": ("pseudo_points",),
    "points_digest": ("resampled_points",),
}


def fingerprint(
    stage: str,
    version: int,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    external: Mapping[str, str],
) -> str:
    """The cache key: sha256 over the canonical JSON of everything that decides the output's content."""
    from stages.artifacts.digest import canonical_json
    from stages.artifacts.provenance import plain_json

    key = {"stage": stage, "version": version, "config": config, "inputs": inputs, "external": external}
    return hashlib.sha256(canonical_json(plain_json(key)).encode("utf-8")).hexdigest()


class StageJob:
    """One run of a stage: opens the inputs, knows the fingerprint, writes the output with its provenance.

    Of several processes (`world`) the first decides whether there is anything to do, and writes; `result` and `wait` bring
    the others along.

    Args:
        inputs: role -> (path, kind or kinds); an entry whose path is None is an input not given.
        external: role -> file, folder or files outside the contract whose content decides the result.

    Raises:
        ArtifactError: an input is missing, damaged or of the wrong kind.
        UsageError: `out` cannot be written to, or is one of the inputs.
    """

    def __init__(
        self,
        stage: str,
        version: int,
        config: Any,
        kind: str,
        out: Path | str,
        *,
        inputs: Mapping[str, tuple[Path | str | None, str | Sequence[str]]] | None = None,
        external: Mapping[str, Path | str | Sequence[Path] | None] | None = None,
        options: RunOptions | None = None,
    ) -> None:
        self.stage, self.version, self.config, self.kind = stage, version, config, kind
        self.out = Path(out)
        self.options = options or RunOptions()
        self.world = self.options.world
        self.device: str | None = getattr(config, "device", None)
        self.digest: str | None = None
        self._started = time.monotonic()
        self._reasons: tuple[str, ...] = ()
        given = {
            role: (Path(path), kinds) for role, (path, kinds) in (inputs or {}).items() if path is not None
        }
        files = {
            role: [Path(path)] if isinstance(path, str | Path) else list(path)
            for role, path in (external or {}).items()
            if path
        }
        _check_device(self.device, self.world)
        if self.world.first:
            _check_out(
                self.out, [path for path, _ in given.values()] + [p for ps in files.values() for p in ps]
            )
        from stages.artifacts.reader import open_artifact

        self.inputs = {role: open_artifact(path, kinds) for role, (path, kinds) in given.items()}
        self._external = [
            _external_record(role, paths[0]) if len(paths) == 1 else _external_records(role, paths)
            for role, paths in files.items()
        ]
        self.fingerprint = self.fingerprint_with()

    def fingerprint_with(self, **options: Any) -> str:
        """The fingerprint that this run would have with other values of some options."""
        config = dataclasses.replace(self.config, **options) if options else self.config
        return fingerprint(
            self.stage,
            self.version,
            semantic_dict(config),
            {role: artifact.digest for role, artifact in self.inputs.items()},
            {record["role"]: record["sha256"] for record in self._external},
        )

    def complete(self, config: Options) -> Options:
        """The configuration with what only torch can tell about this machine, when the inputs have been found good."""
        self.config = config
        self.fingerprint = self.fingerprint_with()
        return config

    def artifact(self, role: str) -> Artifact:
        """An input, opened; KeyError when it was not given."""
        return self.inputs[role]

    def require_same(self, attribute: str, first: Artifact | str, second: Artifact | str) -> None:
        """ArtifactError unless both name the same: `require_same("dataset_digest", "split", "dataset")`.

        For the artifact that *is* the thing (a dataset asked for `dataset_digest`) its own digest counts.
        """
        a, b = (self.inputs[x] if isinstance(x, str) else x for x in (first, second))
        if _named_digest(a, attribute) == _named_digest(b, attribute):
            if attribute == "dataset_digest" and b.kind == "dataset":
                a.require_rows_of(b)
            return
        from stages.artifacts.schema import PRODUCERS

        kinds = _DIGEST_OF.get(attribute, ())
        derived, source = (b, a) if a.kind in kinds else (a, b)
        what = attribute.removesuffix("_digest")
        made_from = (
            f"was not made from {source.path}"
            if source.kind in kinds
            else f"and {source.path} differ in {what}"
        )
        raise ArtifactError(
            f"{derived.path} {made_from}",
            facts=[f"{x.path}: {what} {_named_digest(x, attribute)[:12]}" for x in (derived, source)],
            hint=f"make it again: seqres {PRODUCERS[derived.kind]} … --out {derived.path} --force",
        )

    def require_dataset(self, *roles: str) -> None:
        """ArtifactError unless those of these inputs that were given were made from the input `dataset`."""
        for role in roles:
            if role in self.inputs:
                self.require_same("dataset_digest", role, "dataset")

    def settled(self) -> StageResult | None:
        """The result when nothing is to be done (up to date, or a dry run), else None.

        Raises:
            StaleOutputError: `out` was made from something else, and `force` is not set.
        """
        return self.decided(self._settled)

    def decided(self, decide: Callable[[], Decision]) -> Decision:
        """What the first process decides, for all; ArtifactError when another was given other inputs or options."""
        fingerprints = self.world.gather(self.fingerprint)

        def checked() -> Decision:
            other = next((rank for rank, one in enumerate(fingerprints) if one != self.fingerprint), None)
            if other is not None:
                raise ArtifactError(
                    f"process {other} of {self.world.size} was given other inputs or options than the first",
                    hint="start all with the same command, and with files that are the same on every machine",
                )
            return decide()

        return self.world.of_first(checked)

    def _settled(self) -> StageResult | None:
        if self.options.force:
            self._reasons = ("--force was given",) if self.out.exists() else (f"{self.out} does not exist",)
            self._check_replaceable()
        elif not self.out.exists():
            self._reasons = (f"{self.out} does not exist",)
        else:
            return self._compare_with_existing()
        self.require_writable()
        if self.options.dry_run:
            return self._result("would-run", {})
        return None

    def require_writable(self, least_free: int = 0) -> None:
        """Find out before an hour of training, not after it, that the result cannot be stored.

        Raises:
            UsageError: no permission, a read-only disk, a name that is too long.
            SeqresError: less than `least_free` bytes of space.
        """
        if not self.world.first:
            return
        require_writable(self.out, **({"least_free": least_free} if least_free else {}))
        self.provenance()

    @contextlib.contextmanager
    def writer(self) -> Iterator[ArtifactWriter]:
        """`write_artifact` to `out`, with the fingerprint and the whole provenance."""
        from stages.artifacts.writer import write_artifact

        record = self.provenance()
        with write_artifact(self.out, self.kind, fingerprint=self.fingerprint, provenance=record) as writer:
            yield writer
            try:
                # now with the end, the device in use and all loaded libraries
                record.update(self.provenance())
            except Exception as error:  # the result is worth more than the record of how it was made
                record["incomplete"] = f"{type(error).__name__}: {error}"
        self.digest = writer.digest

    def result(self, summary: Mapping[str, Any]) -> StageResult:
        """The result after `writer()` has ended, which the other processes `wait` for."""
        from stages.artifacts.provenance import plain_json

        return self.world.broadcast(self._result("written", plain_json(summary)))

    def wait(self) -> StageResult:
        """In a process that is not the first: the result that the first comes to."""
        nothing = self._result("written", {})
        return self.world.broadcast(nothing)

    def provenance(self) -> dict[str, Any]:
        """See provenance.py for the layout."""
        from stages.artifacts.provenance import utc_now, versions

        semantic = in_current_words(type(self.config), semantic_dict(self.config))
        if not hasattr(self, "_started_utc"):
            self._started_utc = utc_now()
        return {
            "stage": self.stage,
            "stage_version": self.version,
            "seed": getattr(self.config, "seed", None),
            "argv": list(self.options.argv),
            "device": self.device,
            "config": {
                name: {
                    "value": value,
                    "origin": self.options.origins.get(name, "call"),
                    "semantic": name in semantic,
                }
                for name, value in config_dict(self.config).items()
            },
            "inputs": [
                {"role": role, "path": str(a.path), "kind": a.kind, "digest": a.digest}
                for role, a in self.inputs.items()
            ],
            "external": self._external,
            "versions": versions(),
            "started_utc": self._started_utc,
            "ended_utc": utc_now(),
            "seconds": round(time.monotonic() - self._started, 3),
        }

    def _compare_with_existing(self) -> StageResult:
        from stages.artifacts.reader import open_artifact

        self._check_replaceable()
        if self.out.stat().st_size == 0:
            raise StaleOutputError(
                f"{self.out} exists and is empty",
                facts=["a file is not replaced unless that is asked for, not even one that mktemp made"],
                hint="replace it with --force, or choose another --out",
            )
        try:
            existing = open_artifact(self.out, self.kind)
        except ArtifactError as error:
            raise StaleOutputError(
                f"{self.out} exists and is no {self.kind} artifact that can be read",
                facts=[error.message, *error.facts],
                hint="replace it with --force, or choose another --out",
            ) from error
        with existing:
            if existing.fingerprint != self.fingerprint:
                raise StaleOutputError(
                    f"{self.out} exists and was made from something else",
                    facts=self._changes(existing.provenance) or ["its record does not say from what"],
                    hint="make it again with --force, or choose another --out",
                )
            self.digest = existing.digest
            summary = existing.json("summary") if "summary" in existing else {}
        if not self.options.dry_run:
            remove_leftovers(self.out)
            self._touch()
        self._reasons = ("same stage version, configuration and inputs",)
        return self._result("up-to-date", summary)

    def _check_replaceable(self) -> None:
        """Never write over a file that is not HDF5: it is somebody's and not ours."""
        from stages.artifacts.hdf5 import SIGNATURE

        if not self.out.exists():
            return
        try:
            with open(self.out, "rb") as stream:
                head = stream.read(len(SIGNATURE))
        except OSError as error:
            raise ArtifactError(f"cannot read {self.out}: {(error.strerror or 'error').lower()}") from error
        if head and head != SIGNATURE:
            raise StaleOutputError(
                f"{self.out} exists and is not an artifact",
                facts=["it is not an HDF5 file, so it is left alone even with --force"],
                hint="choose another --out, or remove the file",
            )

    def _changes(self, old: Mapping[str, Any]) -> list[str]:
        """What differs between the record in the existing file and this run: "ratio: 0.1 -> 0.05"."""
        changes = []
        new = self.provenance()
        if old.get("stage") != new["stage"]:
            changes.append(f"stage: {old.get('stage')} -> {new['stage']}")
        elif old.get("stage_version") != new["stage_version"]:
            changes.append(f"stage version: {old.get('stage_version')} -> {new['stage_version']}")
        changes += _differences(*(self._semantic_values(record) for record in (old, new)))
        for section, key in (("inputs", "digest"), ("external", "sha256")):
            was, now = (
                {one.get("role"): str(one.get(key))[:12] for one in record.get(section, [])}
                for record in (old, new)
            )
            changes += _differences(was, now)
        return changes

    def _semantic_values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        values = {k: v.get("value") for k, v in record.get("config", {}).items() if v.get("semantic", True)}
        return in_current_words(type(self.config), values)

    def _touch(self) -> None:
        """Content did not change although an input is newer: tell `make` by the time stamp."""
        sources = [a.path for a in self.inputs.values()] + [Path(r["path"]) for r in self._external]
        with contextlib.suppress(OSError):
            if any(s.stat().st_mtime > self.out.stat().st_mtime for s in sources):
                os.utime(self.out)

    def _result(self, status: Status, summary: dict[str, Any]) -> StageResult:
        seconds = time.monotonic() - self._started
        return StageResult(self.stage, status, self.out, self.digest, summary, seconds, self._reasons)


def _check_device(device: str | None, world: World) -> None:
    if device and device.partition(":")[0] not in _DEVICES:
        raise UsageError(f"unknown device {device!r}", hint="use auto, cpu, cuda, cuda:1 or mps")
    if world.size > 1 and device and ":" in device:
        raise UsageError(
            f"--device {device} is one GPU, and there are {world.size} processes",
            hint="give --device cuda: each process takes the next GPU of its machine",
        )


def _check_out(out: Path, sources: Sequence[Path]) -> None:
    """Refuse what can never be replaced, before anything is read."""
    require_file_target(out)
    if not (above := nearest_folder(out)).is_dir():
        raise UsageError(f"cannot write {out}: {above} is not a folder", hint="choose another --out")
    refuse_inputs(out, sources)


def _external_record(role: str, path: Path) -> dict[str, Any]:
    from stages.artifacts.digest import file_sha256

    try:
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in files)
        return {"role": role, "path": str(path), "size": size, "sha256": file_sha256(path)}
    except FileNotFoundError as error:
        raise ArtifactError(
            f"no such file: {path}", facts=[f"needed as {role}"], hint=missing_hint(path)
        ) from error
    except OSError as error:
        raise cannot_read(path, error) from error


def _named_digest(artifact: Artifact, attribute: str) -> str:
    if artifact.kind in _DIGEST_OF.get(attribute, ()):
        return artifact.digest
    return str(artifact.attrs.get(attribute, "none"))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    absent = "absent"
    keys = [*now, *(k for k in before if k not in now)]
    pairs = [(k, before.get(k, absent), now.get(k, absent)) for k in keys]
    return [f"{k.replace('_', '-')}: {a} -> {b}" for k, a, b in pairs if a != b]


def _external_records(role: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Many files as one record: the digest covers their relative names and contents, in sorted order."""
    from stages.artifacts.digest import canonical_json

    records = [_external_record(role, path) for path in sorted(paths)]
    folder = os.path.commonpath([path.absolute().parent for path in paths])
    content = [[os.path.relpath(r["path"], folder), r["sha256"]] for r in records]
    whole = hashlib.sha256(canonical_json(content).encode("utf-8")).hexdigest()
    return {"role": role, "path": folder, "size": sum(r["size"] for r in records), "sha256": whole}
