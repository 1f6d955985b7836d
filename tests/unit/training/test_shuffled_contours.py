"""SeqTR writes the points of some contours in random order (docs/SEMANTICS.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stages.data.dataset import ReferringDataset
from stages.data.text import WordCodec
from stages.data.transforms import Augmentation
from stages.geometry.contours import largest_outer_contour
from stages.models.presets import preset
from stages.training.loader import ContourTable, StepDataset
from stages.training.targets import SlotWeights


def test_shuffled_contours(tiny_dataset: Path) -> None:
    """The same points at 0 and at 1: in ring order, and in another one."""
    data = ReferringDataset.open(tiny_dataset, masks="all")
    sentence = int(data.sentence_offsets[data.referents_in("train")[0]])
    referent = int(data.sentence_referent[sentence])
    ring = largest_outer_contour(data.mask(referent))
    contours = ContourTable.of_contours(len(data.boxes_xyxy), {referent: ring}, {})
    config = preset("refshapes-small").replace(sequence="contour")
    step = (0, 0, [(int(data.referent_image[referent]), np.array([sentence]))])
    found = []
    for share in (0.0, 1.0):
        augmentation = Augmentation(shuffle_points=share, colour=0.0)
        codec = WordCodec.from_sentences(data.texts, 12)
        batch = StepDataset(data, codec, config, contours, augmentation, SlotWeights(), 0)[step]
        found.append(batch.targets[0, :-1].view(-1, 2))
    assert not torch.equal(*found)
    assert sorted(map(tuple, found[0].tolist())) == sorted(map(tuple, found[1].tolist()))
