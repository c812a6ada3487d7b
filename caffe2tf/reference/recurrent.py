"""Recurrent layers, step by step."""

import numpy as np

from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.reference.activation import sigmoid
from caffe2tf.reference.table import Array, Shared, rule


def _lstm_step(c: Array, gates: Array, cont: Array) -> tuple[Array, Array]:
    """(c, h) of one step; gates i, f, o, g along the last axis; f is 0 where cont is (lstm_unit_layer.cpp)."""
    i, f, o, g = np.split(gates, 4, axis=-1)
    forget = np.where(cont == 0, 0.0, cont * sigmoid(f))
    c = forget * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


@rule("LSTMUnit")
def lstm_unit(layer: LayerParameter, weights: list[Array], c: Array, gates: Array, cont: Array) -> list[Array]:
    """One step of an LSTM on cells (1, N, D), gates (1, N, 4 D) and cont (1, N) (lstm_unit_layer.cpp)."""
    return list(_lstm_step(c, gates, cont[..., None]))


def _read(
    layer: LayerParameter, weights: list[Array], bottoms: tuple[Array, ...], states: int
) -> tuple[Array, list[Array], list[Array]]:
    """What each step adds from x and the static input (T, N, gates), the states before the first step (N, D), and the
    weights that are left. Bottoms: x, cont, [static], and with expose_hidden the states (recurrent_layer.cpp)."""
    p, rest = layer.recurrent_param, list(weights)
    steps, items = bottoms[0].shape[:2]
    given = bottoms[0].reshape(steps, items, -1) @ rest.pop(0).T + rest.pop(0)
    hidden = states if p.expose_hidden else 0
    if len(bottoms) - hidden > 2:
        given = given + bottoms[2].reshape(items, -1) @ rest.pop(0).T
    first = [state.reshape(items, -1) for state in bottoms[len(bottoms) - hidden :]]
    return given, first or [np.zeros((items, p.num_output))] * states, rest


@rule("LSTM")
def lstm(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array | Shared]:
    """gates = W x + b + S static + R (cont h), then a step of LSTMUnit (lstm_layer.cpp).

    Blobs: W (4 D, inputs), b (4 D), S where there is a static input, R (4 D, D). Tops: h of all steps, and with
    expose_hidden the last h and c. All steps are a Concat of the h of each: of one step, they share its storage.
    """
    given, (h, c), (recurrent,) = _read(layer, weights, bottoms, 2)
    outputs = []
    for gates, cont in zip(given, bottoms[1][..., None], strict=True):
        c, h = _lstm_step(c, gates + (cont * h) @ recurrent.T, cont)
        outputs.append(h)
    last = h[None] if len(outputs) > 1 else Shared(h[None].shape, top=0)
    return [np.stack(outputs), last, c[None]][: len(layer.top)]


@rule("RNN")
def rnn(layer: LayerParameter, weights: list[Array], *bottoms: Array) -> list[Array]:
    """h = tanh(W x + b + S static + R (cont h)); y = tanh(V h + d) (rnn_layer.cpp).

    Blobs: W, b, S where there is a static input, R, V, d. Tops: y of all steps, and with expose_hidden the last h.
    """
    given, (h,), (recurrent, output, bias) = _read(layer, weights, bottoms, 1)
    outputs = []
    for step, cont in zip(given, bottoms[1][..., None], strict=True):
        h = np.tanh(step + (cont * h) @ recurrent.T)
        outputs.append(np.tanh(h @ output.T + bias))
    return [np.stack(outputs), h[None]][: len(layer.top)]


@rule("Lstm")
def junhyuk_lstm(layer: LayerParameter, weights: list[Array], x: Array, *starts: Array) -> Array:
    """gates = W x + b + clip R h, then a step of LSTMUnit; clip is the second bottom, without it 0 at the first step
    and 1 after (lstm_layer.cu of junhyukoh/caffe-lstm).

    Blobs: W (4 D, inputs), R (4 D, D), b (4 D). x (T, N, inputs), or (T N, ...) in steps of batch_size items.
    """
    p, (matrix, recurrent, bias) = layer.lstm_param, weights
    items = x.shape[1] if x.ndim == 3 else p.batch_size
    steps = x.reshape(-1, items, matrix.shape[1])
    h, c = np.zeros((2, items, p.num_output))
    outputs = []
    for step, rows in enumerate(steps):
        clip = np.float64(starts[0].ravel()[step] if starts else step > 0)
        c, h = _lstm_step(c, rows @ matrix.T + bias + clip * (h @ recurrent.T), np.full((items, 1), clip))
        outputs.append(h)
    top = np.stack(outputs)
    return top if x.ndim == 3 else top.reshape(-1, p.num_output)
