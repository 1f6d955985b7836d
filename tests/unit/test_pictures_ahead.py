"""Pictures that threads decode before they are asked for: the same ones, each once, none left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages import prepare_data
from stages.data.dataset import ReferringDataset
from stages.errors import ArtifactError
from stages.inference import encoding
from stages.inference.pictures_ahead import decoding_threads, pictures_ahead
from stages.inference.predictions import predict_sentences
from stages.training.loader import MOST_WORKERS, used_workers
from stages.weights.model_file import load_model
from stages.world import usable_cores
from tests.oracles.random_models import write_random_model


class Source:
    """Pictures that hold their own number, and who asked for which."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.threads: set[str] = set()
        self.many = threading.Event()

    def load(self, index: int) -> NDArray[np.uint8]:
        self.asked.append(index)
        self.threads.add(threading.current_thread().name)
        if len(self.asked) == 5:
            self.many.set()
        return np.full((1, 1, 3), index, np.uint8)


def test_the_next_pictures_are_begun_before_they_are_asked_for() -> None:
    source = Source()
    with pictures_ahead(source.load, range(20), kept=4, threads=2) as load:
        assert load(0)[0, 0, 0] == 0
        assert source.many.wait(10), "two for each thread after the first"
        assert len(source.threads) > 1 and threading.current_thread().name in source.threads
        assert [int(load(i)[0, 0, 0]) for i in range(20)] == list(range(20))
    assert sorted(source.asked) == list(range(20)), "each once"
    assert not [t for t in threading.enumerate() if t.name.startswith("picture")]


def test_pictures_out_of_turn_and_no_threads() -> None:
    for threads in (0, 2):
        source = Source()
        with pictures_ahead(source.load, [3, 1, 2, 3], kept=2, threads=threads) as load:
            assert [int(load(i)[0, 0, 0]) for i in (2, 3, 1, 9, 3)] == [2, 3, 1, 9, 3]
        assert set(source.asked) == {1, 2, 3, 9}


def test_a_picture_that_cannot_be_read_is_told_where_it_is_asked_for() -> None:
    def load(index: int) -> NDArray[np.uint8]:
        if index == 2:
            raise ArtifactError("picture 2")
        return np.zeros((1, 1, 3), np.uint8)

    with pictures_ahead(load, range(4), kept=4, threads=1) as picture:
        assert len(picture(0)) == len(picture(1)) == 1
        with pytest.raises(ArtifactError, match="picture 2"):
            picture(2)


@pytest.mark.parametrize("name", ["box-contour", "second look, box-contour"])
def test_threads_change_no_answer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.h5"
    prepare_data.run(prepare_data.Config(scale="tiny"), out=path)
    data, loaded = ReferringDataset.open(path), load_model(write_random_model(tmp_path / "m.h5", name))
    sentences = np.arange(len(data.texts))[::-1][:30].copy()
    alone = predict_sentences(loaded, data, sentences, batch_images=4)
    monkeypatch.setattr(encoding, "decoding_threads", lambda _: 3)
    beside = predict_sentences(loaded, ReferringDataset.open(path), sentences, batch_images=4)
    np.testing.assert_array_equal(alone.tokens, beside.tokens)
    np.testing.assert_array_equal(alone.boxes_xyxy, beside.boxes_xyxy)


def test_a_gpu_gets_helpers_and_a_cpu_none() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert decoding_threads(cpu) == 0 and 1 <= decoding_threads(gpu) <= usable_cores()
    assert used_workers(None, cpu, 1) == 0 and used_workers(2, cpu, 1) == 2
    assert used_workers(0, gpu, 1) == 0 and used_workers(3, gpu, 1) == 3
    assert used_workers(None, gpu, 1) == min(MOST_WORKERS, usable_cores())
    assert used_workers(None, gpu, 1000) == 1
