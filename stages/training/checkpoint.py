"""Resume state of a training run: a private file beside the output, replaced atomically, deleted at the end."""

import os
from pathlib import Path
from typing import Any

import torch

from stages.artifacts.temporary import private_file, replace_file, temporary_file
from stages.errors import ArtifactError


def resume_path(out: Path) -> Path:
    return private_file(out, "resume")


def bytes_of_training(model: torch.nn.Module) -> int:
    """Disk space that a run takes: weights, average and best in the result; those and two moments in the resume state."""
    return 8 * sum(v.numel() * v.element_size() for v in model.state_dict().values())


def save_resume(path: Path, state: dict[str, Any]) -> None:
    with temporary_file(path) as (descriptor, temporary):
        with open(descriptor, "wb", closefd=False) as f:
            torch.save(state, f)
        os.fsync(descriptor)
        replace_file(temporary, path)


def belongs(path: Path, fingerprint: str) -> bool:
    """Whether a state of this configuration and these inputs is there."""
    try:
        return load_resume(path, fingerprint) is not None
    except ArtifactError:
        return False


def load_resume(path: Path, fingerprint: str) -> dict[str, Any]:
    """State of an interrupted run of the SAME configuration and inputs; ArtifactError otherwise."""
    if not path.exists():
        raise ArtifactError(
            f"nothing to resume: {path} does not exist",
            hint="leave --resume out to start from the beginning (a finished run leaves no resume state)",
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        known = state["fingerprint"]
    except Exception as error:
        raise ArtifactError(
            f"the resume state {path} is damaged: {error.__class__.__name__}",
            hint=f"delete {path} and start again without --resume",
        ) from error
    if known != fingerprint:
        raise ArtifactError(
            f"the resume state {path} belongs to another configuration or other inputs",
            facts=[f"its fingerprint: {known}", f"this run's: {fingerprint}"],
            hint="repeat the options of the interrupted run, or leave --resume out to start from the beginning",
        )
    return state
