"""The HDF5 contract between the stages; SCHEMA.md beside this file tells the format in words.

Names are resolved on first use, because a stage module is also read for its `--help`, which has no
need of HDF5.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.artifacts.job import RunOptions as RunOptions
    from stages.artifacts.job import StageJob as StageJob
    from stages.artifacts.job import StageResult as StageResult
    from stages.artifacts.ragged import Ragged as Ragged
    from stages.artifacts.reader import Artifact as Artifact
    from stages.artifacts.reader import open_artifact as open_artifact
    from stages.artifacts.schema import COORDINATES as COORDINATES
    from stages.artifacts.schema import KINDS as KINDS
    from stages.artifacts.schema import PRODUCERS as PRODUCERS
    from stages.artifacts.verify import recompute_digest as recompute_digest
    from stages.artifacts.verify import verify_artifact as verify_artifact
    from stages.artifacts.writer import ArtifactWriter as ArtifactWriter
    from stages.artifacts.writer import write_artifact as write_artifact

_NAMES = {
    "job": ("RunOptions", "StageJob", "StageResult"),
    "ragged": ("Ragged",),
    "reader": ("Artifact", "open_artifact"),
    "schema": ("COORDINATES", "KINDS", "PRODUCERS"),
    "verify": ("recompute_digest", "verify_artifact"),
    "writer": ("ArtifactWriter", "write_artifact"),
}


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _NAMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
