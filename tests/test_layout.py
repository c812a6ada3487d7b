"""Axis orders, and the fast copy between them, against NumPy's own."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from caffe2tf.arrays import layout

SHAPES = [(7,), (40, 50), (1, 9), (33, 1, 17), (5, 16, 47), (18, 3, 5, 7), (4, 1, 33, 20), (2, 3, 4, 5, 6)]
ORDERS = [(shape, order) for shape in SHAPES for order in itertools.permutations(range(len(shape)))]


@pytest.mark.parametrize("rank", range(7))
def test_axis_orders_are_each_others_inverse(rank):
    """Channels, axis 1, go last at rank 4 and 5; nothing else moves past another."""
    there, back = layout.keras_order(rank), layout.caffe_order(rank)
    assert tuple(there[axis] for axis in back) == tuple(range(rank))
    assert [layout.to_keras(axis, rank) for axis in range(rank)] == [there.index(axis) for axis in range(rank)]
    assert [axis for axis in there if axis != 1 or rank not in (4, 5)] == sorted(
        axis for axis in range(rank) if axis != 1 or rank not in (4, 5)
    )
    assert rank not in (4, 5) or there[-1] == 1


@pytest.fixture(params=[(1 << 15, 8 << 20), (1, 256), (64, 4096)], ids=["as it is", "tiny", "small"])
def tiles(request, monkeypatch):
    """The sizes of tiles and stripes: small ones make small arrays go every way that large ones go."""
    tile, slab = request.param
    monkeypatch.setattr(layout, "_TILE", tile)
    monkeypatch.setattr(layout, "_SLAB", slab)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_copy_is_numpys(tiles, dtype):
    for shape, order in ORDERS:
        source = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
        view = source.transpose(order)
        found = layout.contiguous(view)
        assert found.flags.c_contiguous
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, view, err_msg=f"{shape} {order}")
        assert layout.contiguous(source) is source


def test_what_is_written_is_the_copy(tiles, tmp_path):
    with ThreadPoolExecutor(2) as pool, open(tmp_path / "x", "w+b") as file:
        for shape, order in ORDERS:
            source = np.random.RandomState(0).random_sample(shape).astype(np.float32)
            moved = layout.Moved(source.transpose(order), (-1,))
            file.truncate(0)
            for future in moved.write(pool, file.fileno(), 12):
                future.result()
            expected = bytes(12) + np.ascontiguousarray(source.transpose(order)).tobytes()
            assert os.pread(file.fileno(), 1 << 20, 0) == expected, (shape, order)
            assert moved.nbytes == len(expected) - 12


def test_a_write_in_pieces_is_whole(tiles, tmp_path, monkeypatch):
    """The system may take fewer bytes than it is given."""
    taken = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: taken(fd, data[:100], offset))
    source = np.random.RandomState(0).random_sample((20, 30)).astype(np.float32)
    with ThreadPoolExecutor(2) as pool, open(tmp_path / "x", "w+b") as file:
        for future in layout.Moved(source.T).write(pool, file.fileno(), 0):
            future.result()
    assert (tmp_path / "x").read_bytes() == source.T.tobytes()


def test_a_stripe_is_as_large_as_a_slab(monkeypatch):
    """As many rows as fit, of an axis along which neither the source nor the copy is contiguous."""
    monkeypatch.setattr(layout, "_SLAB", 41_000)
    view = np.zeros((30, 40, 50), np.float32).transpose(2, 0, 1)
    assert layout._stripes(view) == (1, 41_000 // (50 * 40 * 4))
    assert layout._stripes(np.zeros((30, 40), np.float32).T) == (0, 40)
