"""What every test shares: capped threads, seeds, and where the project and its optional data lie."""

from __future__ import annotations

import os

# Before numpy, cv2 or torch start their thread pools: several test workers share the same few cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach the network
os.environ["TRANSFORMERS_OFFLINE"] = "1"

import random
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# Time is the machine's business: what else runs there must not fail a property
hypothesis.settings.register_profile("seqres", deadline=None)
hypothesis.settings.load_profile("seqres")
PROJECT_ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests stand at the head of each half: two workers begin with them, and none is left alone at the end."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    half = max((len(items) + 1) // 2 - len(slow[::2]), 0)
    items[:] = [*slow[::2], *fast[:half], *slow[1::2], *fast[half:]]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same global random state, whatever ran before it in this worker."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def project_root() -> Path:
    return PROJECT_ROOT


def _optional_folder(variable: str, default: Path, what: str) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"{what} not found at {folder} (set {variable} to its folder)")
    return folder


@pytest.fixture(scope="session")
def golden_dir(project_root: Path) -> Path:
    """Reference numbers measured with the public code; a folder beside the checkout, not part of it."""
    return _optional_folder(
        "SEQRES_GOLDEN", project_root.parent / "shared" / "golden", "golden reference numbers"
    )


@pytest.fixture(scope="session")
def real_data_dir(project_root: Path) -> Path:
    """Real photographs in REFER layout; a folder beside the checkout, not part of it."""
    return _optional_folder("SEQRES_REAL_DATA", project_root.parent / "shared" / "real", "real photographs")
