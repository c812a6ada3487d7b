"""One layer run every way that the project has, for tests that hold it against a formula of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caffe2tf import formats, loading, reference
from tests.helpers import Array, inputs, layer, make


def run_layer(
    folder: Path,
    kind: str,
    params: str,
    given: Mapping[str, Any],
    blobs: Sequence[Any] = (),
    tops: Sequence[str] = ("top",),
) -> list[Array]:
    """The tops of one layer by `forward`. `given` maps input blobs to arrays, in the order of the bottoms.

    The rule in caffe2tf.reference gives the same, and the model reads back from its file as it was.
    """
    from caffe2tf.keras_model import model

    arrays = {name: np.asarray(value, np.float32) for name, value in given.items()}
    text = inputs(**{name: array.shape for name, array in arrays.items()})
    text += layer(kind, params, bottoms=list(given), tops=tops)
    net = loading.load(*make(folder, text, {"x": list(blobs)} if blobs else None))
    found = model.forward(net, arrays)
    judged = reference.compute(net, arrays)
    for name in tops:
        close(found[name], judged[name])
        assert net.blobs[name] == found[name].shape or net.layer("x").counts_items
    assert formats.save(net, str(folder / "x.keras"), force=True) == 0
    return [found[name] for name in tops]


def close(found: Array, expected: Array) -> None:
    """Equal in float32, NaN where NaN is wanted."""
    assert found.shape == expected.shape
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * largest)
