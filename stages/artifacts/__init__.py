"""The HDF5 contract between the stages; SCHEMA.md beside this file tells the format in words.

Names are resolved on first use, because a stage module is also read for its `--help`, which has no
need of HDF5.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.artifacts.job import RunOptions, StageJob, StageResult
    from stages.artifacts.ragged import Ragged
    from stages.artifacts.reader import Artifact, open_artifact
    from stages.artifacts.schema import COORDINATES, KINDS, PRODUCERS
    from stages.artifacts.verify import recompute_digest, verify_artifact
    from stages.artifacts.writer import ArtifactWriter, write_artifact

_HOMES = {
    "COORDINATES": "schema",
    "KINDS": "schema",
    "PRODUCERS": "schema",
    "Artifact": "reader",
    "ArtifactWriter": "writer",
    "Ragged": "ragged",
    "RunOptions": "job",
    "StageJob": "job",
    "StageResult": "job",
    "open_artifact": "reader",
    "recompute_digest": "verify",
    "verify_artifact": "verify",
    "write_artifact": "writer",
}

__all__ = [
    "COORDINATES",
    "KINDS",
    "PRODUCERS",
    "Artifact",
    "ArtifactWriter",
    "Ragged",
    "RunOptions",
    "StageJob",
    "StageResult",
    "open_artifact",
    "recompute_digest",
    "verify_artifact",
    "write_artifact",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
