"""export: masks and boxes with their expressions, in the formats of annotation tools and training programs.

In: a dataset artifact (its true masks), with pseudo, refined or resampled labels or an evaluation of it, or the document
that predict wrote. Out: a file or a folder in the format of choice. It exists so that masks go on where people work:
review in Label Studio or LabelMe, training on COCO or YOLO data, a spreadsheet.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts.job import RunOptions, StageResult
from stages.artifacts.target import (
    refuse_inputs,
    require_file_target,
    require_folder_target,
    require_writable,
)
from stages.artifacts.whole_file import write_whole
from stages.artifacts.whole_folder import Content, holds_exactly, write_whole_folder
from stages.config import StageConfig, option
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.data.exports.items import Labels

STAGE = "export"
STAGE_VERSION = 1
MARK = "seqres-export.json"  # in every folder that this stage wrote: what may be replaced
_FILES = {"coco": ".json", "coco-results": ".json", "labelstudio": ".json", "csv": ".csv"}
_FOLDERS = ("labelme", "yolo", "png")
_POLYGONS = ("coco", "labelme", "yolo")


@dataclass(frozen=True)
class Config(StageConfig):
    """What is written, and of what."""

    to: Literal["coco", "coco-results", "labelstudio", "labelme", "yolo", "png", "csv"] = option(
        "coco",
        "coco: instances with expressions; coco-results: list for COCO.loadRes; labelstudio, labelme: for these tools; "
        "yolo: segmentation labels; png: a PNG a mask and a table; csv: a table with run-length masks",
    )
    split_names: tuple[str, ...] = option((), "only these splits of the dataset", flag="split-name")
    tolerance_px: float = option(
        0.0, "polygons may leave the pixel edge by so much, to have fewer points; 0 = exact", min=0
    )
    copy_images: bool = option(False, "also copy the pictures into the folder (labelme, yolo, png)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.copy_images and self.to not in _FOLDERS:
            raise UsageError(f"--copy-images is for {', '.join(_FOLDERS)}, not for --to {self.to}")
        if self.tolerance_px and self.to not in _POLYGONS:
            raise UsageError(f"--tolerance-px is for {', '.join(_POLYGONS)}, not for --to {self.to}")


def run(
    config: Config,
    *,
    out: Path,
    dataset: Path | None = None,
    labels: Path | None = None,
    split: Path | None = None,
    predictions: Path | None = None,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Write `out`, complete or not at all. What is there already, byte for byte, is up to date.

    Args:
        labels: pseudo_points, resampled_points or evaluation made from `dataset`, instead of its true masks.
        split: of its training referents, only those that may show their mask show it; of the others, the box.
        predictions: the JSON document of predict, instead of a dataset.

    Raises:
        UsageError: inputs that do not go together, an unknown split.
        ArtifactError: an input cannot be used.
        StaleOutputError: `out` exists and holds something else; a folder that is not from here is never replaced.
    """
    started = time.monotonic()
    out = Path(out)
    _check_inputs(dataset, labels, split, predictions)
    is_folder = config.to in _FOLDERS
    _check_out(config, out, [p for p in (dataset, labels, split, predictions) if p is not None])

    from stages.data.exports.formats import WRITERS
    from stages.data.exports.items import json_bytes, labels_of, labels_of_predictions

    if predictions is not None:
        if config.split_names:
            raise UsageError("--split-name is for --dataset: predictions have no splits")
        found = labels_of_predictions(predictions)
    else:
        assert dataset is not None
        found = labels_of(dataset, labels, split, config.split_names)
    if not found.items:
        raise ArtifactError(
            "there is nothing to export", facts=[f"{n} {what}" for what, n in found.notices.items()]
        )
    files: dict[str, Content] = dict(WRITERS[config.to](found, config.tolerance_px, out, config.copy_images))
    if is_folder and config.copy_images:
        files |= _pictures(found, config)
    summary = _summary(found, config, files)
    if is_folder:
        files[MARK] = json_bytes({"format": "seqres-export", **summary}, indent=1)
    for what, n in found.notices.items():
        reporter.warn(f"{n} {what}")
    status, reasons = _standing(out, files, is_folder, options)
    if status == "written" and is_folder:
        with reporter.progress("write", len(files), unit="file") as bar:
            write_whole_folder(out, files, bar.advance)
    elif status == "written":
        write_whole(out, _bytes(files[""]))
    return StageResult(STAGE, status, out, None, summary, time.monotonic() - started, reasons)


def _check_inputs(
    dataset: Path | None, labels: Path | None, split: Path | None, predictions: Path | None
) -> None:
    if (dataset is None) == (predictions is None):
        raise UsageError(
            "give a --dataset or --predictions" + (", not both" if dataset else ""),
            hint="seqres export --dataset data.h5 --to coco --out masks.json",
        )
    for flag, value in (("labels", labels), ("split", split)):
        if value is not None and dataset is None:
            raise UsageError(f"--{flag} goes with --dataset")
    if labels is not None and split is not None:
        raise UsageError("--split hides true masks, and --labels exports others", hint="give one of the two")


def _check_out(config: Config, out: Path, sources: list[Path]) -> None:
    if config.to in _FOLDERS:
        require_folder_target(out, "--out")
        require_writable(out)
        return
    ending = _FILES[config.to]
    require_file_target(out, example=f"masks{ending}")
    if out.suffix.lower() != ending:
        raise UsageError(
            f"--to {config.to} writes a {ending} file, got {out.name}", hint=f"--out {out}{ending}"
        )
    refuse_inputs(out, sources)
    require_writable(out)


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content()


def _standing(
    out: Path, files: Mapping[str, Content], is_folder: bool, options: RunOptions
) -> tuple[Literal["written", "up-to-date", "would-run"], tuple[str, ...]]:
    """What is to be done; StaleOutputError when something else is in the way."""
    present = any(out.iterdir()) if is_folder and out.exists() else not is_folder and out.exists()
    if not present:
        return ("would-run", (f"{out} does not exist",)) if options.dry_run else ("written", ())
    try:
        same = holds_exactly(out, files) if is_folder else out.read_bytes() == _bytes(files[""])
    except OSError as error:
        raise ArtifactError(f"cannot read {out}: {(error.strerror or 'error').lower()}") from error
    if is_folder and not (out / MARK).is_file():
        raise StaleOutputError(
            f"{out} is not empty and holds no export",
            facts=["it is left alone, even with --force"],
            hint="choose another --out",
        )
    if same and not options.force:
        return "up-to-date", ("it holds just that",)
    if not options.force:
        raise StaleOutputError(
            f"{out} exists and holds something else", hint="replace it with --force, or choose another --out"
        )
    return ("would-run", ("--force was given",)) if options.dry_run else ("written", ())


def _summary(found: Labels, config: Config, files: Mapping[str, Content]) -> dict[str, Any]:
    items = found.items
    return {
        "to": config.to,
        "of": found.origin,
        "pictures": len({item.picture for item in items}),
        "objects": len(items),
        "with_mask": sum(item.rle is not None for item in items),
        "expressions": sum(len(item.expressions) for item in items),
        "splits": dict(Counter(item.split for item in items)),
        "files": len(files),
        **({"notices": dict(found.notices)} if found.notices else {}),
    }


def _pictures(found: Labels, config: Config) -> dict[str, Content]:
    """The pictures where the format looks for them; YOLO has a folder a split."""
    files: dict[str, Content] = {}
    for item in found.items:
        folder = f"images/{item.split}" if config.to == "yolo" else "images"
        row = item.picture
        files[f"{folder}/{found.pictures[row].name}"] = lambda row=row: found.bytes_of(row)  # type: ignore[misc]
    return files
