"""Rows of a pack's field as a batch."""

import numpy as np
import pytest
import torch
from trainyard.data.pack import Pack, PackWriter
from trainyard.models.gather import gather


@pytest.fixture
def pack(tmp_path):
    rng = np.random.default_rng(0)
    with PackWriter(tmp_path / "a.safetensors", {}) as writer:
        for i in range(50):
            mel = rng.standard_normal((7, 5)).astype(np.float16)
            writer.add({"mel": mel, "video": rng.integers(0, 256, (2, 3), np.uint8), "label": np.int64(i), "at": np.float32(i)})
    return Pack(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["mel", "video", "label", "at"])
def test_rows_are_those_of_the_field_whatever_the_threads(pack, name):
    rows = np.random.default_rng(1).integers(0, 50, 33)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            batch = gather(pack.fixed(name), rows)
            assert np.array_equal(batch.numpy(), pack.fixed(name)[rows])
            assert batch.numpy().dtype == pack.fixed(name).dtype
    finally:
        torch.set_num_threads(before)


def test_rows_in_any_order_and_as_a_view(pack):
    rows = np.arange(20)[::-2]
    assert np.array_equal(gather(pack.fixed("mel"), rows).numpy(), pack.fixed("mel")[rows])


def test_a_batch_is_a_copy_that_models_may_write_into(pack):
    batch = gather(pack.fixed("mel"), np.arange(3))
    batch += 1
    assert np.array_equal(pack.fixed("mel")[:3] + np.float16(1), batch.numpy())


def test_no_rows_and_rows_beyond_the_end(pack):
    assert gather(pack.fixed("mel"), np.zeros(0, np.int64)).shape == (0, 7, 5)
    with pytest.raises(IndexError):
        gather(pack.fixed("mel"), np.array([50]))
