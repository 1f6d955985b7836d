"""One target for each kind of file that seqres reads: what is damaged, and what is called on it."""

from __future__ import annotations

from tests.fuzz import annotation_files, single_files
from tests.fuzz.artifacts import Artifacts, Shards, damage_bytes
from tests.fuzz.mutations import odd_tree
from tests.fuzz.runner import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Artifacts("artifacts-bytes", damage_bytes),
        Artifacts("artifacts-structure", odd_tree),
        Shards(),
        *annotation_files.targets(),
        *single_files.targets(),
    )
}
