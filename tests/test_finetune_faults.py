"""What may fail while a network is trained: memory, the disk, pictures."""

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")

from caffe2tf.finetuning import tensorboard as board


def written(folder, tag):
    """The rows of the histogram `tag` in the log in `folder`."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == tag:
                    assert value.metadata.plugin_data.plugin_name == "histograms"
                    return tf.make_ndarray(value.tensor)
    raise AssertionError(f"no {tag} in {folder}")


@pytest.mark.parametrize("kind", ["spread", "one value", "none"])
def test_histograms_are_tensorflows_own(kind, tmp_path):
    import tensorflow as tf

    random = np.random.RandomState(0)
    values = {"spread": random.standard_normal((400, 500)), "one value": np.full((3, 4), 2.5), "none": np.zeros((0, 3))}
    array = values[kind].astype(np.float32)
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default(step=1):
        tf.summary.histogram("theirs", array)
        board._write_histogram("ours", array, 1)
    writer.close()
    ours, theirs = written(tmp_path, "ours"), written(tmp_path, "theirs")
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2], rtol=1e-5, atol=1e-5)  # the edges are of float32
    assert np.abs(ours[:, 2] - theirs[:, 2]).sum() <= 4  # values on an edge
    assert ours[:, 2].sum() == array.size


def test_a_histogram_takes_little_memory():
    """TensorFlow's own takes 240 bytes a value."""
    array = np.random.RandomState(0).standard_normal(4_000_000).astype(np.float32)
    tracemalloc.start()
    board._write_histogram("x", array, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes
