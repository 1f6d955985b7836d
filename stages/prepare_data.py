"""prepare-data: put photographs, sentences, boxes and the masks there are into one dataset artifact.

In: a folder in REFER layout, the lists of SeqTR, MDETR or gRefCOCO, what annotation tools save, a table of one's own, or
nothing (RefShapes is generated in REFER layout first). Out: a dataset artifact with a count report. Why: every later
stage reads one checked format instead of guessing at pickles and folders.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import StageConfig, in_panel, option
from stages.data.error_list import ErrorList
from stages.errors import ArtifactError, StaleOutputError, UsageError
from stages.reporter import Reporter, SilentReporter
from stages.world import usable_cores

if TYPE_CHECKING:
    from stages.artifacts import ArtifactWriter
    from stages.data.readers.sources import Source
    from stages.data.readers.tables import ReferringTables

STAGE = "prepare-data"
STAGE_VERSION = 2

_PARALLEL_FROM = 400  # pictures; below, starting processes costs more than it saves
# data set -> author of the splits -> split -> images, referents, sentences, as far as papers and releases say
PUBLISHED = Path(__file__).with_name("data") / "published_counts.toml"
_MISSING = "missing_images"  # JSON list of names, written when pictures were left out
_SHOWN = 20  # missing pictures that are listed by name
_SHOWN_OF_NOTICE = 3

_ROOT_HINTS = {
    "refer": "--root FOLDER holds refs(<by>).p and instances.json",
    "seqtr": "--root FOLDER holds the release's instances.json",
    "mdetr": "--root FOLDER holds finetune_<name>_<split>.json",
    "grefcoco": "--root FOLDER holds grefs(<by>).json and instances.json",
    "coco": "--root FILE.json has images, annotations with expressions, and categories",
    "labelstudio": '--root FILE.json is the export "JSON" of Label Studio',
    "labelme": "--root FOLDER holds the JSON files that LabelMe saves",
    "masks": "--root FOLDER holds the folders images and masks, masks/<picture>/<phrase>.png",
    "table": "--root FILE is your table, for example photos.csv",
}

_generated = in_panel("Generated data (RefShapes)")
_inputs = in_panel("Inputs and output")


@dataclass(frozen=True)
class Config(StageConfig):
    """Where the data comes from and how strictly it is taken."""

    source: Literal[
        "refshapes", "refer", "seqtr", "mdetr", "grefcoco", "coco", "labelstudio", "labelme", "masks", "table"
    ] = _inputs(
        "refshapes",
        "format of the annotations; refshapes: generated data; masks: a PNG a referent; table: CSV, TSV or JSON lines",
    )
    root: str | None = _inputs(
        None, "folder of the annotation files, or its parent with --name; or the file itself"
    )
    name: str | None = _inputs(
        None, "data set: refcoco, refcoco+, refcocog …; default: the name of folder or file"
    )
    by: str | None = _inputs(None, "author of the splits: unc, umd, google …; default: the only one")
    images: str | None = _inputs(
        None, "folder of the pictures; default: images/train2014 and the like near --root"
    )
    embed_images: bool | None = option(
        None, "copy the pictures into the artifact; default: only for refshapes"
    )
    scale: Literal[
        "tiny", "smoke", "standard", "objects-demo", "objects-tiny", "objects-smoke", "objects"
    ] = _generated(
        "smoke",
        "60, 1,850 or 11,400 pictures of shapes; 60, 1,850 or 4,400 of objects of 317 kinds; objects-demo: 1,650 of 12 kinds",
    )
    seed: int = _generated(0, "seed of the generated data", min=0)
    textures: str | None = _generated(
        None, "folder of photographs whose parts fill shapes and ground", semantic=False
    )
    expressions: Literal["given", "category", "category-position"] = option(
        "given",
        "expressions of annotations without one: none (left out), the category's name, or with its place among "
        "those of its kind (coco)",
        added=True,
    )
    skip_missing: bool = option(
        False, "leave out pictures that are missing or unreadable, and their referents"
    )
    skip_invalid: bool = option(False, "leave out referents with an invalid box, mask or expression")
    errors_to: str | None = option(
        None, "text file for all invalid entries and pictures, one a line", semantic=False
    )
    keep_layout: str | None = _generated(None, "keep the generated files in this folder", semantic=False)
    workers: int = _generated(0, "processes that generate; 0 = one a core", min=0, semantic=False)


def run(
    config: Config, *, out: Path, reporter: Reporter = SilentReporter(), options: RunOptions = RunOptions()
) -> StageResult:
    """Read or generate, check, and write the dataset.

    Raises:
        UsageError: options that do not fit the source, an unknown name or split in `root`.
        ArtifactError: the source is damaged, has invalid referents, or lacks pictures.
    """
    errors = ErrorList(config.errors_to)
    source = _locate(config)
    external: dict[str, Any] = {} if source is None else dict(source.external)
    if config.textures is not None:
        from stages.data.refshapes.textures import texture_files

        external["textures"] = texture_files(Path(config.textures))
    job = StageJob(STAGE, STAGE_VERSION, config, "dataset", out, external=external, options=options)
    if settled := job.settled():
        _refuse_if_pictures_came_back(settled, options)
        return settled

    embed = config.embed_images if config.embed_images is not None else config.source == "refshapes"
    with _layout(config, source, reporter, external.get("textures", ())) as (source, report):
        tables, missing = _read(config, source, reporter, embed, errors)
        errors.write(reporter)
        summary = summarise(tables, embed, report)
        with job.writer() as w:
            write_tables(w, tables, embed, reporter)
            if config.source != "refshapes" or config.keep_layout is not None:  # else the folder goes away
                w.note_attr("image_root", str(tables.image_root))
            if "images left out" in tables.notices:
                w.json(_MISSING, missing)
            w.json("summary", summary)
    return job.result(summary)


def _locate(config: Config) -> Source | None:
    if config.source == "refshapes":
        given = [key for key in ("root", "name", "by", "images") if getattr(config, key) is not None]
        if given:
            raise UsageError(
                f"--{given[0]} is for --source refer, coco and all others whose data are there",
                hint="say which with --source, or leave it out",
            )
        if config.embed_images is False and config.keep_layout is None:
            raise UsageError(
                "generated pictures that are not embedded need a folder", hint="add --keep-layout FOLDER"
            )
        return None
    if config.root is None:
        raise UsageError(f"--source {config.source} needs --root", hint=_ROOT_HINTS[config.source])
    for flag, value in (("keep-layout", config.keep_layout), ("textures", config.textures)):
        if value is not None:
            raise UsageError(f"--{flag} is for --source refshapes")
    if config.expressions != "given" and config.source != "coco":
        raise UsageError("--expressions is for --source coco")
    from stages.data.readers.sources import open_source

    return open_source(config.source, Path(config.root), config.name, config.by, config.expressions)


@contextmanager
def _layout(
    config: Config, source: Source | None, reporter: Reporter, textures: tuple[Path, ...]
) -> Iterator[tuple[Source, dict[str, Any] | None]]:
    """The files to read: the given ones, or a generated REFER folder that goes away unless it is to be kept."""
    if source is not None:
        yield source, None
        return
    from stages.artifacts.temporary import temporary_folder
    from stages.data.readers.sources import open_source
    from stages.data.refshapes.folder import SCALES, write_refer_layout

    parallel = sum(SCALES[config.scale].values()) >= _PARALLEL_FROM
    workers = (config.workers or usable_cores()) if parallel else 1
    with temporary_folder(Path(tempfile.gettempdir(), "seqres-refshapes")) as temporary:
        folder = Path(config.keep_layout or temporary)
        report = write_refer_layout(
            folder, config.scale, config.seed, reporter, workers=workers, textures=textures
        ).as_dict()
        del report["seconds"]  # the summary is content: the same data must give the same bytes
        yield open_source("refer", folder, "refshapes", "unc"), report


def _read(
    config: Config, source: Source, reporter: Reporter, embed: bool, errors: ErrorList
) -> tuple[ReferringTables, list[str]]:
    """The checked tables, and the names of the pictures that were left out because they are missing."""
    import dataclasses

    from stages.data.agreement import check_agreement, check_copies
    from stages.data.images import NO_SUCH_FILE, check_images, find_image_root

    reporter.info(f"reading {source.describe()}")
    chosen = Path(config.images) if config.images else None
    with errors.told_in_full():
        tables = source.read(config.skip_invalid, chosen)
    errors.lines += tables.problems
    root = tables.image_root or find_image_root(source.near, tables.image_files, chosen)
    for doubt in [*check_agreement(tables), *filter(None, [check_copies(tables, root)])]:
        tables.notices[doubt.what], tables.examples[doubt.what] = doubt.n, doubt.examples
    for notice, n in tables.notices.items():
        reporter.warn("\n  ".join([f"{n} {notice}", *tables.examples.get(notice, [])]))
    with reporter.progress("checking pictures", len(tables.image_files), "image") as bar:
        check = check_images(
            root, tables.image_files, tables.image_sizes_hw, decode=embed, advance=bar.advance
        )
    wrong = check.wrong
    for notice, pictures in check.told.items():
        tables.notices[notice] = len(pictures)
        reporter.warn("\n  ".join([f"{len(pictures)} {notice}", *pictures[:_SHOWN_OF_NOTICE]]))
    missing = [tables.image_files[row] for row, problem in wrong.items() if problem.endswith(NO_SUCH_FILE)]
    if wrong:
        errors.lines += wrong.values()
        with errors.told_in_full():
            tables = _without_wrong_images(tables, wrong, root, config.skip_missing, reporter)
    return dataclasses.replace(tables, image_root=root), missing


def _without_wrong_images(
    tables: ReferringTables, wrong: dict[int, str], root: Path, skip: bool, reporter: Reporter
) -> ReferringTables:
    listed = _with_nearest(list(wrong.values())[:_SHOWN], root)
    more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
    message = f"{len(wrong)} of {len(tables.image_files)} images are missing or unreadable in {root}"
    if not skip or len(wrong) == len(tables.image_files):
        raise ArtifactError(
            message,
            facts=listed + more,
            hint="leave them out with --skip-missing"
            if not skip
            else "say where they are with --images FOLDER",
        )
    reporter.warn("\n  ".join([f"{message}: left out", *listed, *more]))
    kept = tables.without_images(list(wrong))
    kept.notices["images left out"] = len(wrong)
    kept.notices["referents left out with their image"] = len(tables.ref_ids) - len(kept.ref_ids)
    return kept


def _with_nearest(problems: list[str], root: Path) -> list[str]:
    """Each line about a missing picture with the file that may be meant by it, where there is one."""
    from stages.data.images import NO_SUCH_FILE
    from stages.nearest import Neighbours

    neighbours, lines, ending = Neighbours(), [], f": {NO_SUCH_FILE}"
    for line in problems:
        hint = neighbours.hint(root, line.removesuffix(ending)) if line.endswith(ending) else None
        lines.append(line if hint is None else f"{line}, {hint}")
    return lines


def summarise(tables: ReferringTables, embed: bool, report: dict[str, Any] | None) -> dict[str, Any]:
    """Counts of each split beside the published ones ("44 of 42404"), and what was left out."""
    counts = tables.counts()
    keys = [key for key in next(iter(counts.values())) if key != "images"]
    total = {key: sum(split[key] for split in counts.values()) for key in keys}
    rows = {**counts, "total": {"images": len(tables.image_ids), **total}}
    summary: dict[str, Any] = {"name": tables.name, "by": tables.by, "images_embedded": embed, "splits": rows}
    published = tomllib.loads(PUBLISHED.read_text("utf-8"))
    public = published.get(tables.name, {}).get(tables.by)
    if public is not None:
        summary["published"] = {
            split: {key: f"{_comparable(rows.get(split, {}), key)} of {n}" for key, n in numbers.items()}
            for split, numbers in public.items()
        }
    if tables.notices:
        summary["notices"] = dict(tables.notices)
    if report is not None:
        summary["refshapes"] = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in report.items()
            if key not in ("images", "referents", "sentences")
        }
    return summary


def _comparable(row: dict[str, int], key: str) -> int:
    """A count as it is published: there, sentences without target count as sentences."""
    return row.get(key, 0) + (row.get("no_target_sentences", 0) if key == "sentences" else 0)


def write_tables(w: ArtifactWriter, tables: ReferringTables, embed: bool, reporter: Reporter) -> None:
    """All columns of a dataset artifact (SCHEMA.md)."""
    from stages.data.images import path_below

    w.attr("name", tables.name)
    w.attr("by", tables.by)
    w.attr("split_names", tables.split_names)
    w.column("images/id", tables.image_ids)
    w.strings("images/file_name", tables.image_files)
    w.column("images/height", tables.image_sizes_hw[:, 0])
    w.column("images/width", tables.image_sizes_hw[:, 1])
    w.column("categories/id", tables.category_ids)
    w.strings("categories/name", tables.category_names)
    w.column("referents/ref_id", tables.ref_ids)
    w.column("referents/ann_id", tables.ann_ids)
    w.column("referents/image_index", tables.image_index)
    w.column("referents/category_index", tables.category_index)
    w.column("referents/split", tables.split)
    w.column("referents/box_xyxy", tables.boxes_xyxy)
    w.column("referents/has_mask", tables.has_mask)
    w.column("referents/is_crowd", tables.is_crowd)
    w.column("referents/sentence_offsets", tables.sentence_offsets)
    w.column("sentences/referent_index", tables.sentence_referent)
    w.column("sentences/sent_id", tables.sentence_ids)
    w.strings("sentences/text", tables.texts)
    w.ragged_stream("masks/rle", tables.rles, np.uint8)
    if tables.n_targets is not None:
        w.column("referents/n_targets", tables.n_targets)
        _write_no_target(w, tables)
    w.json("counts", tables.counts())
    root = tables.image_root
    assert root is not None
    if not embed:
        return
    with reporter.progress("embedding pictures", len(tables.image_files), "image") as bar:

        def encoded() -> Iterator[bytes]:
            for name in tables.image_files:
                yield path_below(root, name).read_bytes()
                bar.advance()

        w.ragged_stream("images/encoded", encoded(), np.uint8)


def _write_no_target(w: ArtifactWriter, tables: ReferringTables) -> None:
    """Sentences that refer to nothing, beside the referents: one row a sentence."""
    rows = [(n, sent_id, text) for n in tables.no_target for sent_id, text in n.sentences]
    w.column("no_target/ref_id", np.array([n.ref_id for n, _, _ in rows], np.int64))
    w.column("no_target/image_id", np.array([n.image_id for n, _, _ in rows], np.int64))
    w.strings("no_target/file_name", [n.file_name for n, _, _ in rows])
    w.column("no_target/split", np.array([tables.split_names.index(n.split) for n, _, _ in rows], np.int8))
    w.column("no_target/sent_id", np.array([sent_id for _, sent_id, _ in rows], np.int64))
    w.strings("no_target/text", [text for _, _, text in rows])


def _refuse_if_pictures_came_back(settled: StageResult, options: RunOptions) -> None:
    """Pictures are not part of the fingerprint: look whether those that were missing are there by now."""
    if settled.status != "up-to-date" or "images left out" not in settled.summary.get("notices", {}):
        return
    from stages.artifacts import open_artifact
    from stages.artifacts.provenance import stored_path
    from stages.data.images import path_below

    with open_artifact(settled.path, kind="dataset") as artifact:
        root, missing = stored_path(artifact.attrs["image_root"]), artifact.json(_MISSING)
    back = [name for name in missing if path_below(root, name).exists()]
    if back and not options.dry_run:
        raise StaleOutputError(
            f"{settled.path} was made when {len(missing)} images were missing, {len(back)} of them are there now",
            facts=[f"for instance {path_below(root, back[0])}"],
            hint="make it again with --force",
        )
