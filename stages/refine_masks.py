"""refine-masks: redraw pseudo labels along the picture's edges; keep what agrees with the box and with the old outline.

In: a dataset (pictures and boxes, never a mask) and its pseudo points; perhaps a SAM checkpoint from a local folder or
hub. Out: pseudo points again, so that resample-points takes either. It is a step of its own, because it is optional and
can be repeated without drawing again. Why: a contour of a dozen points finds the object, but not its edge; colours
(GrabCut) or a promptable segmenter (SAM) find edges, but not the object that the sentence means.

Both are given the known box and the outline that resample-points would choose; SAM takes a few points deep inside it. A
refined outline belongs to the referent: it replaces that of all its sentences, whose tokens and confidences stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts.job import RunOptions, StageJob, StageResult
from stages.config import check_ranges, option
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from stages.artifacts import Artifact, ArtifactWriter
    from stages.data.dataset import ReferringDataset
    from stages.metrics.refinement import Verdict
    from stages.metrics.selection import Candidates
    from stages.models.sam import MaskPredictor

STAGE = "refine-masks"
STAGE_VERSION = 1


@dataclass(frozen=True)
class Config:
    """Which segmenter, how it is asked, and when it is believed."""

    sam: str | None = option(
        None,
        "SAM checkpoint: a local folder with safetensors, or a hub id; without one colours decide (GrabCut)",
    )
    prompt_points: int = option(3, "points inside the outline that SAM is given with the box", min=0, max=16)
    min_box_iou: float = option(
        0.8, "keep a mask whose extent overlaps the known box by at least this IoU", min=0, max=1
    )
    min_outline_iou: float = option(
        0.5, "and which overlaps the outline it replaces by at least this IoU", min=0, max=1
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1 or mps", semantic=False)

    def __post_init__(self) -> None:
        check_ranges(self)


def run(
    config: Config,
    *,
    dataset: Path,
    pseudo: Path,
    out: Path,
    reporter: Reporter = SilentReporter(),
    options: RunOptions = RunOptions(),
) -> StageResult:
    """Redraw one outline a referent; write all rows of `pseudo`, in its order.

    Raises:
        ArtifactError: an input or the checkpoint cannot be used, or `pseudo` was not made from `dataset`.
        StaleOutputError: `out` exists and was made from something else.
    """
    job = StageJob(
        stage=STAGE,
        version=STAGE_VERSION,
        config=config,
        kind="pseudo_points",
        out=out,
        inputs={"dataset": (dataset, "dataset"), "pseudo": (pseudo, "pseudo_points")},
        external={"sam": config.sam} if config.sam and Path(config.sam).exists() else {},
        options=options,
    )
    job.require_same("dataset_digest", "pseudo", "dataset")
    settled = job.settled()
    if settled is not None:
        return settled

    import numpy as np

    from stages.data.dataset import ReferringDataset
    from stages.inference.devices import choose_device
    from stages.metrics.selection import best_sentences, read_candidates

    source = job.artifact("pseudo")
    view = ReferringDataset.open(dataset, masks="none")
    candidates = read_candidates(job.artifact("dataset"), source, reporter)
    rows = best_sentences(candidates)
    device = choose_device(config.device)
    job.device = str(device)
    predictor = load_predictor(config, device)
    verdicts = refine(view, candidates, rows, predictor, config, reporter)
    scores = _scores_after(candidates, rows, verdicts)
    summary = summarise(candidates, rows, verdicts, scores, config)

    with job.writer() as w:
        w.attr("dataset_digest", view.digest)
        w.attr("model_digest", source.attrs["model_digest"])
        w.attr("pseudo_digest", source.digest)
        if "prompt" in source.attrs:
            w.attr("prompt", source.attrs["prompt"])
        w.attr("n_points", candidates.n_points)
        if config.sam:
            w.note_attr("sam", config.sam)
        for name in (
            "referent_index",
            "sentence_index",
            "tokens",
            "token_probability",
            "box_xyxy",
            "confidence",
        ):
            w.column(name, source[name])
        _write_outlines(w, source, candidates, rows, verdicts, scores)
        w.column("decisions/referent_index", candidates.referent[rows])
        w.column("decisions/sentence_index", candidates.sentence[rows])
        w.strings("decisions/reason", [v.reason for v in verdicts])
        w.column("decisions/box_iou", np.array([v.box_iou for v in verdicts], np.float32))
        w.column("decisions/outline_iou", np.array([v.outline_iou for v in verdicts], np.float32))
        if config.sam:
            w.column("decisions/sam_score", np.array([v.score for v in verdicts], np.float32))
        w.json("summary", summary)
    return job.result(summary)


def load_predictor(config: Config, device: torch.device) -> MaskPredictor:
    """SAM from its checkpoint; GrabCut where none is given."""
    if config.sam is None:
        import torch

        from stages.models.grabcut import GrabCut

        return GrabCut(torch.get_num_threads())
    from stages.models.sam import load_sam

    return load_sam(config.sam, device, config.prompt_points)


def refine(
    view: ReferringDataset,
    candidates: Candidates,
    rows: NDArray[np.int64],
    predictor: MaskPredictor,
    config: Config,
    reporter: Reporter,
) -> list[Verdict]:
    """What became of each of the chosen rows; every picture is encoded once."""
    import numpy as np

    from stages.geometry.rasterise import rle_area, rle_to_mask
    from stages.metrics.refinement import NO_OUTLINE, judge, nothing

    verdicts = [nothing(NO_OUTLINE) for _ in rows]
    images = view.referent_image[candidates.referent[rows]]
    order = np.argsort(images, kind="stable")
    starts = np.flatnonzero(np.diff(images[order], prepend=-1))
    with reporter.progress("refine", len(rows), unit="referent") as task:
        for here in np.split(order, starts[1:]) if len(order) else []:
            old = {int(i): _old_mask(candidates, int(rows[i])) for i in here}
            asked = [i for i, rle in old.items() if rle_area(rle) > 0]
            if asked:
                encoded = predictor.encode(view.image(int(images[asked[0]])))
                boxes = candidates.boxes_xyxy[rows[asked]]
                drawn = np.stack([rle_to_mask(old[i]) for i in asked])
                redrawn = predictor.draw(encoded, boxes, drawn)
                for i, box, masks, scores in zip(asked, boxes, *redrawn, strict=True):
                    verdicts[i] = judge(
                        masks, scores, box, old[i],
                        least_box_iou=config.min_box_iou, least_outline_iou=config.min_outline_iou,
                    )  # fmt: skip
            task.advance(len(here))
    return verdicts


def _old_mask(c: Candidates, row: int) -> dict[str, Any]:
    """What a row draws: its ring filled, or its mask where it has no ring."""
    from stages.geometry.rasterise import checked_rle, empty_rle, polygon_to_rle

    size = [int(v) for v in c.sizes_hw[row]]
    ring = c.points[row]
    if len(ring) >= 2:
        return polygon_to_rle(ring, size)
    if c.masks is not None and c.masks.lengths[row]:
        return checked_rle({"size": size, "counts": c.masks[row].tobytes()}, size)
    return empty_rle(size)


def _scores_after(c: Candidates, rows: NDArray[np.int64], verdicts: list[Verdict]) -> NDArray[np.float64]:
    """(K,) projection scores of what the referents have now."""
    import numpy as np

    from stages.geometry.projection import projection_scores
    from stages.metrics.refinement import REFINED

    scores = c.score[rows].copy()
    new = np.array([i for i, v in enumerate(verdicts) if v.reason == REFINED], np.int64)
    rles = [rle for i in new if (rle := verdicts[i].rle) is not None]
    scores[new] = projection_scores(rles, c.boxes_xyxy[rows[new]])
    return scores


def _write_outlines(
    w: ArtifactWriter,
    source: Artifact,
    c: Candidates,
    rows: NDArray[np.int64],
    verdicts: list[Verdict],
    scores: NDArray[np.float64],
) -> None:
    """Rings, masks (if the rows had some) and projection scores, the refined ones in place of the old."""
    import numpy as np

    from stages.geometry.runs import pack_rles
    from stages.metrics.refinement import REFINED

    # `rows` are in the order of their referents, each once
    of_row = np.searchsorted(c.referent[rows], c.referent)
    refined = np.array([v.reason == REFINED for v in verdicts], np.bool_)[of_row]
    old, score = c.points.load(), source["projection_score"].astype(np.float32)
    rings = [verdicts[of_row[s]].outline_xy if refined[s] else old[s] for s in range(len(c.referent))]
    lengths = np.array([len(ring) for ring in rings], np.int64)
    w.ragged(
        "points_xy",
        np.concatenate(rings).astype(np.float32) if rings else np.zeros((0, 2), np.float32),
        np.concatenate(([0], lengths.cumsum())),
    )
    if c.masks is not None:
        masks: list[dict[str, Any]] = []
        for s in range(len(c.referent)):
            rle = verdicts[of_row[s]].rle if refined[s] else None
            masks.append(rle if rle is not None else {"counts": c.masks[s].tobytes()})
        w.ragged("masks/rle", *pack_rles(masks))
    score[refined] = scores[of_row[refined]]
    w.column("projection_score", score)
    w.column("refined", refined)


def summarise(
    c: Candidates,
    rows: NDArray[np.int64],
    verdicts: list[Verdict],
    scores: NDArray[np.float64],
    config: Config,
) -> dict[str, Any]:
    """Counts by reason, and how well what was refined fits."""
    import numpy as np

    from stages.metrics.refinement import REASONS, REFINED

    reasons = np.array([v.reason for v in verdicts], dtype=object)
    kept = reasons == REFINED

    def mean(values: Any) -> float | None:
        return float(np.mean(values)) if len(values) else None

    return {
        "referents": len(rows),
        "sentences": len(c.referent),
        "refined": int(kept.sum()),
        "refined_share": float(kept.mean()) if len(rows) else 0.0,
        "left_as_they_were": {r: int((reasons == r).sum()) for r in REASONS if r != REFINED},
        "min_box_iou": config.min_box_iou,
        "min_outline_iou": config.min_outline_iou,
        "of_the_refined": {
            "box_iou_mean": mean([v.box_iou for v in verdicts if v.reason == REFINED]),
            "outline_iou_mean": mean([v.outline_iou for v in verdicts if v.reason == REFINED]),
            "projection_score_before": mean(c.score[rows][kept]),
            "projection_score_after": mean(scores[kept]),
        },
    }
