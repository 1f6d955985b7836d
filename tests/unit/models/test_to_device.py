"""Copies that nobody waits for, but where the device reads the source too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from stages.models.to_device import to_device


class Source:
    """Tells how it is copied, as no MPS device is at hand."""

    def to(self, device: torch.device, **how: Any) -> tuple[str, Any]:
        return device.type, how


@pytest.mark.parametrize(("name", "waits"), [("cuda", False), ("cpu", False), ("mps", True)])
def test_mps_alone_is_waited_for(name: str, waits: bool) -> None:
    assert to_device(cast(torch.Tensor, Source()), torch.device(name)) == (name, {"non_blocking": not waits})


def test_nothing_else_copies_without_waiting(project_root: Path) -> None:
    found = [
        path.name for path in (project_root / "stages").rglob("*.py") if "non_blocking" in path.read_text()
    ]
    assert found == ["to_device.py"]
