"""split-masks: choose which training referents may show their mask; all others are known by their box only.

In: a dataset artifact. Out: a split artifact with one bit a referent. Why: "1 % masks" must be the same 1 % in every
stage, and a mask outside it must be impossible to read by accident.

Each candidate has a rank that follows from (seed, its id) alone, and a split shows the first ranks: so a smaller share
is contained in a larger one of the same seed, and no library version can change the choice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import check_ranges, option
from stages.errors import ArtifactError, UsageError, did_you_mean
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    import numpy as np

    from stages.artifacts import Artifact

STAGE = "split-masks"
STAGE_VERSION = 1

_SHOWN = 10


@dataclass(frozen=True)
class Config:
    """How many masks may be seen, and which."""

    ratio: float | None = option(
        None, "share of the masks that may be seen, in (0, 1]", min=0, min_open=True, max=1
    )
    count: int | None = option(
        None, "number of masks (or images, with --unit image) instead of a ratio", min=1
    )
    import_list: str | None = option(
        None,
        "show these instead: file of ref ids (one a line, or a JSON list), or instances_sample_*.json of the release",
    )
    split_name: str = option("train", "split whose masks are hidden")
    seed: int = option(0, "seed of the choice", min=0)
    unit: Literal["referent", "image"] = option(
        "referent", "what is drawn: single referents, or all of an image"
    )

    def __post_init__(self) -> None:
        check_ranges(self)


def run(
    config: Config,
    *,
    dataset: Path,
    out: Path,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Rank the candidates (referents of the split that have a mask) and show the first of them.

    Raises:
        UsageError: not exactly one of ratio, count and import_list; a count above the candidates; unknown split.
        ArtifactError: no referent of the split has a mask; the list has ids that are no candidates.
    """
    chosen = [key for key in ("ratio", "count", "import_list") if getattr(config, key) is not None]
    if len(chosen) != 1:
        flags = [f"--{key.replace('_', '-')}" for key in chosen]
        raise UsageError(
            f"{' and '.join(flags)} exclude each other" if chosen else "how many masks may be seen?",
            hint="give one of --ratio, --count and --import-list",
        )
    job = StageJob(
        stage=STAGE,
        version=STAGE_VERSION,
        config=config,
        kind="split",
        out=out,
        inputs={"dataset": (dataset, "dataset")},
        external={"list": config.import_list},
        options=options,
    )
    settled = job.settled()
    if settled is not None:
        return settled

    import numpy as np

    data = job.artifact("dataset")
    ref_ids, image = data["referents/ref_id"], data["referents/image_index"]
    in_split = data["referents/split"] == _split_index(data, config.split_name)
    candidates = np.flatnonzero(in_split & data["referents/has_mask"].astype(bool))
    if not len(candidates):
        raise ArtifactError(f"no referent of split {config.split_name!r} in {dataset} has a mask")
    listed: set[int] = set()
    if config.import_list is not None:
        wanted = _wanted(Path(config.import_list), config.split_name, data, np.flatnonzero(in_split))
        listed = _listed(Path(config.import_list), wanted, ref_ids, candidates, config.split_name)
    rank, n_visible = _choose(config, ref_ids, data["images/id"][image], candidates, listed)
    visible = (rank >= 0) & (rank < n_visible)
    summary = {
        "split": config.split_name,
        "referents": int(in_split.sum()),
        "candidates": len(candidates),
        "masks_visible": int(visible.sum()),
        "images_with_visible_mask": len(np.unique(image[visible])),
        "share": round(float(visible.sum() / len(candidates)), 6),
        "box_only": int((in_split & ~visible).sum()),
    }
    with job.writer() as w:
        w.attr("dataset_digest", data.digest)
        w.attr("split_name", config.split_name)
        w.attr("strategy", "list" if config.import_list else "nested")
        w.attr("seed", config.seed)
        w.attr("unit", config.unit)
        if config.ratio is not None:
            w.attr("ratio", config.ratio)
        if config.count is not None:
            w.attr("count", config.count)
        w.column("visible", visible)
        w.column("rank", rank)
        w.column("labelled_ref_id", ref_ids[visible])
        w.json("summary", summary)
    return job.result(summary)


def _split_index(data: Artifact, name: str) -> int:
    names = [str(s) for s in data.attrs["split_names"]]
    if name not in names:
        near = did_you_mean(name, names)
        raise UsageError(
            f"unknown split {name!r}",
            facts=[f"{data.path} has: {', '.join(names)}"],
            hint=f"did you mean {near!r}?" if near else None,
        )
    return names.index(name)


def _choose(
    config: Config, ref_ids: np.ndarray, image_ids: np.ndarray, candidates: np.ndarray, listed: set[int]
) -> tuple[np.ndarray, int]:
    """(rank (R,) int64, -1 = no candidate; how many of the first ranks are visible)."""
    import numpy as np

    rank = np.full(len(ref_ids), -1, np.int64)
    if config.import_list is not None:
        rank[candidates] = _ranks(
            [(r not in listed, *_key(config.seed, r)) for r in ref_ids[candidates].tolist()]
        )
        return rank, len(listed)
    if config.unit == "referent":
        rank[candidates] = _ranks([_key(config.seed, r) for r in ref_ids[candidates].tolist()])
        return rank, _how_many(config, len(candidates), "masks")
    keys = [
        (*_key(config.seed, i), *_key(config.seed, r))
        for i, r in zip(image_ids[candidates].tolist(), ref_ids[candidates].tolist(), strict=True)
    ]
    rank[candidates] = _ranks(keys)
    in_order = image_ids[candidates][np.argsort(rank[candidates])]
    first = np.concatenate([[True], in_order[1:] != in_order[:-1]])
    starts = np.append(np.flatnonzero(first), len(candidates))
    return rank, int(starts[_how_many(config, len(starts) - 1, "images with a mask")])


def _key(seed: int, identity: int) -> tuple[bytes, int]:
    return hashlib.sha256(f"{seed}/{identity}".encode()).digest(), identity


def _ranks(keys: Sequence[Any]) -> np.ndarray:
    """Position of each key in sorted order, (N,) int64."""
    import numpy as np

    ranks = np.empty(len(keys), np.int64)
    ranks[sorted(range(len(keys)), key=lambda i: keys[i])] = np.arange(len(keys))
    return ranks


def _how_many(config: Config, available: int, what: str) -> int:
    """Units to show; a ratio is rounded to the nearest whole number, but never below one."""
    if config.count is not None:
        if config.count > available:
            raise UsageError(
                f"count must be at most {available}, got {config.count}",
                facts=[f"split {config.split_name!r} has {available} {what}"],
            )
        return config.count
    assert config.ratio is not None
    return min(available, max(1, int(config.ratio * available + 0.5)))


def _wanted(path: Path, split_name: str, data: Artifact, rows: np.ndarray) -> set[int]:
    """The ref ids that the file names; of a list of the release, those of the referents (`rows`) that it means."""
    content = _read_list(path)
    entries = content.get(split_name) if isinstance(content, dict) else None
    if isinstance(content, dict) and "ref_ids" not in content and any(map(_is_entries, content.values())):
        if not _is_entries(entries):
            raise ArtifactError(
                f"{path} lists no entries under {split_name!r}",
                facts=[f"it has: {', '.join(map(str, content))[:200]}"],
            )
        from stages.data.release_sample import match_sample

        texts, offsets = data.strings("sentences/text"), data["referents/sentence_offsets"].tolist()
        matched = match_sample(
            entries or [],
            where=split_name,
            rows=rows,
            image_ids=data["images/id"][data["referents/image_index"][rows]],
            boxes_xyxy=data["referents/box_xyxy"][rows],
            texts=[texts[offsets[r] : offsets[r + 1]] for r in rows.tolist()],
        )
        return set(data["referents/ref_id"][matched].tolist())
    return _ref_ids(path, content)


def _is_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _listed(
    path: Path, listed: set[int], ref_ids: np.ndarray, candidates: np.ndarray, split_name: str
) -> set[int]:
    """The wanted ref ids, all of them candidates."""
    if not listed:
        raise ArtifactError(f"{path} lists no ref id")
    able, known = set(ref_ids[candidates].tolist()), set(ref_ids.tolist())
    facts = []
    for wrong, why in (
        (sorted(listed - known), "not in the dataset"),
        (sorted((listed & known) - able), f"without a mask, or not in split {split_name!r}"),
    ):
        if wrong:
            shown = ", ".join(map(str, wrong[:_SHOWN]))
            facts.append(
                f"{why}: {shown}" + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
            )
    if facts:
        raise ArtifactError(f"{path} lists {len(listed - able)} ref ids that cannot be shown", facts=facts)
    return listed


def read_ref_ids(path: Path) -> set[int]:
    """Ref ids from a text file (separated by space, comma or line; # starts a comment) or a JSON list.

    Raises:
        ArtifactError: the file cannot be read or holds anything but whole numbers.
    """
    return _ref_ids(path, _read_list(path))


def _read_list(path: Path) -> Any:
    """The JSON content of the file, or the words of a text file."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"cannot read {path}: {error}") from error
    if text.lstrip()[:1] not in ("[", "{"):
        return " ".join(line.split("#")[0] for line in text.splitlines()).replace(",", " ").split()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is no valid JSON", facts=[str(error)[:120]]) from error


def _ref_ids(path: Path, content: Any) -> set[int]:
    values = content.get("ref_ids") if isinstance(content, dict) else content
    if not isinstance(values, list):
        raise ArtifactError(
            f"{path} holds no list of ref ids", hint='write [12, 17] or {"ref_ids": [12, 17]}'
        )
    try:
        return {int(v) if isinstance(v, str) else _whole(v) for v in values}
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{path} holds something that is no ref id", facts=[str(error)]) from error


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value
