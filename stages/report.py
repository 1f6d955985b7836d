"""report: one folder with a page that shows what a run did, lets a person judge its pseudo masks, and takes no network.

In: any set of artifacts of one dataset. Out: a folder with `index.html`, its pictures and its data; nothing is loaded from
elsewhere, and opening the file in a browser is enough. Why: label efficiency ends with a person who looks. What that
person decides is downloaded as decisions.json, which resample-points and split-masks obey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.config import StageConfig, option
from stages.errors import ArtifactError, UsageError
from stages.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from stages.artifacts import Artifact

STAGE = "report"


@dataclass(frozen=True)
class Config(StageConfig):
    """What the page shows."""

    show_hidden: bool = option(
        False, "show true masks and their IoU also where the split hides them; for eyes only"
    )
    cards: int = option(5000, "cards of the gallery at most, spread evenly over what there is", min=0)
    picture_pixels: int = option(
        480, "longer side of the gallery's pictures at most, pixels", min=32, max=4096
    )


def run(
    config: Config, *, files: Sequence[Path], out: Path, reporter: Reporter = SilentReporter()
) -> dict[str, Any]:
    """Write the folder `out`, replacing a page that is there; returns what it shows, in numbers.

    Raises:
        UsageError: no file.
        ArtifactError: a file cannot be read, files belong to different datasets, or `out` is no page of ours.
    """
    from stages.artifacts import open_artifact
    from stages.figures.report import fresh_folder, require_replaceable
    from stages.figures.report_page import write_page

    if not files:
        raise UsageError("nothing to report on", hint="seqres report runs/demo/*.h5 --out runs/demo/report")
    require_replaceable(out)
    found: dict[str, Artifact] = {}
    for path in files:
        artifact = open_artifact(path)
        if artifact.digest not in {a.digest for a in found.values()}:
            found[str(path)] = artifact
    artifacts = list(found.values())
    require_one_dataset(artifacts)
    with fresh_folder(out) as folder:
        return write_page(
            folder, artifacts,
            show_hidden=config.show_hidden, most_cards=config.cards, pixels=config.picture_pixels, reporter=reporter,
        )  # fmt: skip


def require_one_dataset(artifacts: Sequence[Artifact]) -> None:
    """ArtifactError unless everything is, or was made from, the same dataset."""
    digests = {a.path: a.digest if a.kind == "dataset" else str(a.attrs["dataset_digest"]) for a in artifacts}
    first = artifacts[0].path
    for path, digest in digests.items():
        if digest != digests[first]:
            raise ArtifactError(
                f"{path} and {first} belong to different datasets",
                facts=[f"{p}: dataset {digests[p][:12]}" for p in (first, path)],
                hint="make one report for each dataset",
            )
    for dataset in (a for a in artifacts if a.kind == "dataset"):
        for artifact in artifacts:
            artifact.require_rows_of(dataset)
