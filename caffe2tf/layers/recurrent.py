"""Recurrent layers, unrolled over their known number of steps (recurrent_layer.cpp)."""

import math
from collections.abc import Sequence

from caffe2tf.arrays.layout import Shape
from caffe2tf.caffe.caffe_pb2 import LayerParameter
from caffe2tf.layers.base import Layer, Weight
from caffe2tf.layers.types import Context, KerasLayer, Tensor


class _Recurrent(Layer, type=""):
    """Bottoms: x (T, N, ...), cont (T, N), 0 where a sequence starts; then a static input (N, ...), and with
    expose_hidden the hidden state(s) (1, N, num_output) before the first step. Tops: the output (T, N, num_output),
    and with expose_hidden the state(s) after the last."""

    states: tuple[str, ...] = ()

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        hidden = len(self.states) if self.p.expose_hidden else 0
        self.has_static = len(bottoms) - 2 - hidden == 1
        if len(bottoms) - 2 - hidden not in (0, 1) or len(proto.top) != 1 + hidden:
            self.fail(
                f"{len(bottoms)} bottoms and {len(proto.top)} tops; takes x, cont, an optional static input and {hidden} states, and gives 1 + {hidden}"
            )
        if len(bottoms[0]) < 3 or tuple(bottoms[1]) != tuple(bottoms[0][:2]):
            self.fail(f"bottoms of shapes {bottoms[0]} and {bottoms[1]}; takes x (T, N, ...) and cont (T, N)")
        self.steps, self.items = bottoms[0][:2]
        self.size = self.p.num_output
        self.inputs = math.prod(bottoms[0][2:])
        for state in bottoms[len(bottoms) - hidden :]:
            if tuple(state) != (1, self.items, self.size):
                self.fail(f"state of shape {state}; takes {(1, self.items, self.size)}")
        if self.has_static and (len(bottoms[2]) < 2 or bottoms[2][0] != self.items):
            self.fail(f"static input of shape {bottoms[2]}; takes ({self.items}, ...)")

    def tops(self) -> list[Shape]:
        return [(self.steps, self.items, self.size), *[(1, self.items, self.size)] * (len(self.proto.top) - 1)]

    def fixes_batch(self) -> bool:
        return True

    def multiply_adds(self) -> int:
        return self.steps * sum(math.prod(weight.shape) for weight in self.blobs() if len(weight.shape) == 2)

    def _dense(self, ctx: Context, name: str, units: int, bias: str | None = None) -> KerasLayer:
        layer = ctx.layers.Dense(units, use_bias=bias is not None, kernel_initializer="zeros", name=ctx.part(name))
        return ctx.bind(layer, kernel=name, **({"bias": bias} if bias else {}))

    def _inputs(
        self, ctx: Context, xs: Sequence[Tensor], units: int
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Per step: what the input gives before the recurrent part, cont as (N, 1), and the initial states."""
        ops, rest = ctx.ops, list(xs[2:])
        x = ops.reshape(self.to_caffe_order(ctx, xs[0]), (self.steps, self.items, self.inputs))
        given = self._dense(ctx, "kernel", units, "bias")(x)
        if self.has_static:
            static = ops.reshape(self.to_caffe_order(ctx, rest.pop(0)), (self.items, -1))
            given = given + ops.expand_dims(self._dense(ctx, "static_kernel", units)(static), 0)
        states = [ops.reshape(s, (self.items, self.size)) for s in rest]
        if not states:
            states = [ops.zeros_like(given[0, :, : self.size]) for _ in self.states]
        cont = ops.reshape(xs[1], (self.steps, self.items, 1))
        return [given[t] for t in range(self.steps)], [cont[t] for t in range(self.steps)], states


def _matrix(name: str, inputs: int, size: int) -> Weight:
    """Four gates' matrices, one below the other in Caffe, side by side in Keras."""
    shape, split, merged = (4 * size, inputs), (4, size, inputs), (inputs, 4 * size)
    return Weight(name, shape, split, (2, 0, 1), merged, (0, 1, 3, 2), "weight_filler")


class LSTM(
    _Recurrent, type="LSTM", param="recurrent_param", fields="num_output expose_hidden", bottoms=(2, 5), tops=(1, 3)
):
    """g = W x + b + R (cont * h); c = cont * f * c + i * g; h = o * tanh c, gates in Caffe's order i, f, o, g (lstm_layer.cpp).

    Blobs: kernel (4 H, inputs), bias (4 H), static_kernel (4 H, static inputs) where there is one, recurrent_kernel
    (4 H, H). In Keras's layout (inputs, 4 H), gates in the order of `ctx.layers.LSTM`: i, f, g, o.
    """

    states = ("h", "c")

    @classmethod
    def may_share(cls, proto: LayerParameter) -> dict[int, str]:
        # The output joins the hidden states of all steps, and Concat of one is that one (lstm_layer.cpp).
        return {1: proto.top[0]} if len(proto.top) > 1 else {}

    def shares_memory(self) -> dict[int, str]:
        return self.may_share(self.proto) if self.steps == 1 else {}

    def blobs(self) -> list[Weight]:
        size = self.size
        static = [_matrix("static_kernel", math.prod(self.bottoms[2][1:]), size)] if self.has_static else []
        shape = (4 * size,)
        bias = Weight("bias", shape, (4, size), None, shape, (0, 1, 3, 2), "bias_filler", 0.0)
        return [_matrix("kernel", self.inputs, size), bias, *static, _matrix("recurrent_kernel", size, size)]

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        given, cont, (h, c) = self._inputs(ctx, xs, 4 * self.size)
        recurrent, outputs = self._dense(ctx, "recurrent_kernel", 4 * self.size), []
        for x, keep in zip(given, cont, strict=True):
            i, f, g, o = ctx.ops.split(x + recurrent(h * keep), 4, axis=-1)
            h, c = _lstm_unit(ctx, i, f, o, g, c, keep)
            outputs.append(h)
        top = ctx.ops.stack(outputs, axis=0)
        if len(self.proto.top) == 1:
            return top
        return [top, ctx.ops.expand_dims(h, 0), ctx.ops.expand_dims(c, 0)]


def _lstm_unit(
    ctx: Context, i: Tensor, f: Tensor, o: Tensor, g: Tensor, c: Tensor, keep: Tensor | float
) -> tuple[Tensor, Tensor]:
    sigmoid, tanh = ctx.ops.sigmoid, ctx.ops.tanh
    c = keep * sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


class Lstm(Layer, type="Lstm", param="lstm_param", fields="num_output batch_size", bottoms=(1, 2)):
    """An LSTM of x (T, N, inputs), gates i, f, o, g as in LSTM's formula: g = W x + R h + b (Junhyuk Oh's
    lstm_layer.cu, and that of the OCR forks after it). Its .cpp adds the first item's R h to every item, and is not
    followed.

    x of other than three axes is (T * N, ...) with N = batch_size, and so is the top: (T * N, num_output). A second
    bottom (T * N) is 0 where a sequence starts; without it one starts at the first step alone. The fork then goes on
    from the state of its run before, the model from 0.

    Blobs: kernel (4 H, inputs), recurrent_kernel (4 H, H), bias (4 H). In Keras's layout as LSTM's.
    """

    def __init__(self, proto: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__(proto, bottoms)
        x, self.size = bottoms[0], int(self.p.num_output)
        count = math.prod(x[:2]) if len(x) == 3 else x[0]
        self.items = x[1] if len(x) == 3 else int(self.p.batch_size)
        if self.size < 1 or self.items < 1 or count % self.items:
            self.fail(
                f"num_output {self.size}, batch_size {self.p.batch_size}, bottom {x}; takes whole steps of a batch"
            )
        self.steps, self.inputs = count // self.items, math.prod(x[2:] if len(x) == 3 else x[1:])
        if len(bottoms) > 1 and (self.items != 1 or math.prod(bottoms[1]) != self.steps):
            self.fail(
                f"starts of shape {bottoms[1]} for {self.steps} steps of {self.items} items; takes one for each step of one "
                "item: for more the fork mixes items up"
            )

    def note(self) -> str | None:
        told = "starts at 0, where its fork goes on from the state of its run before"
        return told if len(self.bottoms) > 1 else None

    def tops(self) -> list[Shape]:
        if len(self.bottoms[0]) == 3:
            return [(self.steps, self.items, self.size)]
        return [(self.steps * self.items, self.size)]

    def fixes_batch(self) -> bool:
        return True

    def multiply_adds(self) -> int:
        return self.steps * self.items * 4 * self.size * (self.inputs + self.size)

    def blobs(self) -> list[Weight]:
        shape = (4 * self.size,)
        bias = Weight("bias", shape, (4, self.size), None, shape, (0, 1, 3, 2), "bias_filler", 0.0)
        return [_matrix("kernel", self.inputs, self.size), _matrix("recurrent_kernel", self.size, self.size), bias]

    def build(self, ctx: Context, x: Tensor, *cont: Tensor) -> Tensor | list[Tensor]:
        ops, units = ctx.ops, 4 * self.size
        x = ops.reshape(self.to_caffe_order(ctx, x), (self.steps, self.items, self.inputs))
        whole = ctx.layers.Dense(units, kernel_initializer="zeros", name=ctx.part("kernel"))
        given = ctx.bind(whole, kernel="kernel", bias="bias")(x)
        after = ctx.layers.Dense(units, use_bias=False, kernel_initializer="zeros", name=ctx.part("recurrent_kernel"))
        ctx.bind(after, kernel="recurrent_kernel")
        keep = ops.reshape(cont[0], (self.steps, 1, 1)) if cont else None
        h = c = ops.zeros_like(given[0, :, : self.size])
        outputs = []
        for step in range(self.steps):
            on = keep[step] if keep is not None else float(step > 0)
            i, f, g, o = ops.split(given[step] + on * after(h), 4, axis=-1)
            h, c = _lstm_unit(ctx, i, f, o, g, c, on)
            outputs.append(h)
        return ops.reshape(ops.stack(outputs, axis=0), self.tops()[0])


class LSTMUnit(Layer, type="LSTMUnit", bottoms=3, tops=2):
    """One step of an LSTM from (1, N, D) cells, (1, N, 4 D) gates i, f, o, g and (1, N) cont (lstm_unit_layer.cpp)."""

    def tops(self) -> list[Shape]:
        cell, gates, cont = self.bottoms
        if len(cell) != 3 or tuple(gates) != (*cell[:2], 4 * cell[2]) or tuple(cont) != tuple(cell[:2]):
            self.fail(f"bottoms of shapes {cell}, {gates}, {cont}; takes (1, N, D), (1, N, 4 D), (1, N)")
        return [cell, cell]

    def fixes_batch(self) -> bool:
        return True

    def build(self, ctx: Context, c: Tensor, gates: Tensor, cont: Tensor) -> Tensor | list[Tensor]:
        i, f, o, g = ctx.ops.split(gates, 4, axis=-1)
        h, c = _lstm_unit(ctx, i, f, o, g, c, ctx.ops.expand_dims(cont, -1))
        return [c, h]


class RNN(
    _Recurrent, type="RNN", param="recurrent_param", fields="num_output expose_hidden", bottoms=(2, 4), tops=(1, 2)
):
    """h = tanh(W x + b + R (cont * h)); y = tanh(V h + d) (rnn_layer.cpp).

    Blobs: kernel (H, inputs), bias (H), static_kernel (H, static inputs) where there is one, recurrent_kernel (H, H),
    output_kernel (H, H), output_bias (H); in Keras's layout each matrix transposed.
    """

    states = ("h",)

    def _matrix(self, name: str, inputs: int) -> Weight:
        return Weight(name, (self.size, inputs), axes=(1, 0), filler="weight_filler")

    def blobs(self) -> list[Weight]:
        static = [self._matrix("static_kernel", math.prod(self.bottoms[2][1:]))] if self.has_static else []
        bias, last = (Weight(name, (self.size,), filler="bias_filler", start=0.0) for name in ("bias", "output_bias"))
        out = [self._matrix("output_kernel", self.size), last]
        return [self._matrix("kernel", self.inputs), bias, *static, self._matrix("recurrent_kernel", self.size), *out]

    def build(self, ctx: Context, *xs: Tensor) -> Tensor | list[Tensor]:
        given, cont, (h,) = self._inputs(ctx, xs, self.size)
        recurrent, outputs = self._dense(ctx, "recurrent_kernel", self.size), []
        for x, keep in zip(given, cont, strict=True):
            h = ctx.ops.tanh(x + recurrent(h * keep))
            outputs.append(h)
        output = self._dense(ctx, "output_kernel", self.size, "output_bias")
        top = ctx.ops.tanh(output(ctx.ops.stack(outputs, axis=0)))
        return [top, ctx.ops.expand_dims(h, 0)] if len(self.proto.top) > 1 else top
