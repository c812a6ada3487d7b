"""What a layer that computes may look like: each function adds one, with any of its legal parameters, to a Maker."""

import math
from typing import Any

from caffe2tf.caffe.caffe_pb2 import EltwiseParameter, LRNParameter, PoolingParameter
from tests.random_nets.legal import need
from tests.random_nets.making import Blob, Maker

POINTWISE = "ReLU PReLU ELU Sigmoid TanH Swish BNLL AbsVal Clip Threshold Dropout Power Exp Log Log Power"


def _four(blob: Blob) -> bool:
    return len(blob.shape) == 4


def _ranked(blob: Blob) -> bool:
    return len(blob.shape) >= 1


def pointwise(m: Maker) -> None:
    x = m.pick()
    kind = m.one(*POINTWISE.split(), "ReLU", *(["ReLU6"] if "forks" in m.features else []))
    params: dict[str, Any] = {}
    low, bound = (0.0 if x.low is not None else None), x.bound
    if kind == "ReLU" and m.chance(0.5):
        low, slope = None, m.number(0, 1)
        params = {"negative_slope": -slope if "relu_slope" in m.features and m.chance(0.3) else slope}
    elif kind in ("ReLU", "ReLU6", "AbsVal", "BNLL", "Threshold", "Sigmoid"):
        low = 0.0
        bound = {"Sigmoid": 1.0, "Threshold": 1.0, "ReLU6": min(6.0, bound), "BNLL": bound + 1}.get(kind, bound)
        params = {"threshold": m.one(0.0, 0.5, m.number(-1, 1))} if kind == "Threshold" else {}
    elif kind == "PReLU":
        params = {"channel_shared": m.chance(0.3)} if m.chance(0.7) else {}
    elif kind == "ELU":
        params, low = ({"alpha": m.number(-1, 2)} if m.chance(0.6) else {}), None
    elif kind == "Clip":
        params, low = {"min": m.number(-2, 0), "max": m.number(0, 2)}, None
    elif kind == "Swish":
        params, low = ({"beta": m.number(-1, 2)} if m.chance(0.6) else {}), None
    elif kind == "Dropout":
        params = {"dropout_ratio": 0.3} if m.chance(0.5) else {}
    elif kind in ("Power", "Exp", "Log"):
        params, low, bound = _curve(m, kind, x)
    name = {"AbsVal": None, "BNLL": None, "ReLU6": None, "Sigmoid": None, "TanH": None}.get(
        kind, f"{kind.lower()}_param"
    )
    given = {name: params} if name and params else {}
    in_place = m.chance(0.4) and kind not in ("AbsVal", "ReLU6") and kind != "Clip"
    m.add(kind, [x], in_place=in_place, low=low, bound=bound, **given)


def _curve(m: Maker, kind: str, x: Blob) -> tuple[dict[str, Any], float | None, float]:
    """Parameters of Power, Exp or Log whose values stay finite and moderate; (parameters, low, bound)."""
    if kind == "Exp":
        params = {"scale": m.number(-1, 1), "shift": m.number(-1, 1)} if m.chance(0.6) else {}
        if m.chance(0.4):
            params["base"] = m.number(0.5, 3)
        rate = abs(params.get("scale", 1.0)) * abs(math.log(params.get("base", math.e))) * x.bound
        need(rate < 6, "too large")
        return params, 0.0, 3 * math.exp(rate)
    if kind == "Log":
        need(x.low is not None or "nan" in m.features, "Log of negative values")
        params = {"scale": m.number(0.1, 2), "shift": m.number(0.1, 2)}
        if m.chance(0.4):
            params["base"] = m.one(0.5, 2.0, 10.0)
        return params, None, 10.0
    power = m.one(0.0, 1.0, 1.0, 2.0, 3.0, 0.5, -1.0, 1.5)
    params = {"power": power, "scale": m.number(-2, 2), "shift": m.number(-1, 1)}
    if power not in (0.0, 1.0, 2.0, 3.0):
        need(x.low is not None or "nan" in m.features, "a root of negative values")
        params.update(scale=m.number(0.1, 2), shift=m.number(0.3, 2))
    elif m.chance(0.3):
        del params[m.one("power", "scale", "shift")]
    power = params.get("power", 1.0)
    high = (2 * x.bound + 1) ** max(power, 0) * (4 if power < 0 else 1)
    return params, (0.0 if power in (0.0, 2.0, 0.5, -1.0, 1.5) and x.low is not None else None), high


def softmax(m: Maker) -> None:
    x = m.pick(lambda blob: _ranked(blob) and (len(blob.shape) < 6 or "softmax_rank6" in m.features))
    param = {"softmax_param": {"axis": m.axis(len(x.shape))}} if m.chance(0.6) else {}
    m.add("Softmax", [x], in_place=m.chance(0.3), low=0.0, bound=1.0, **param)


def batch_norm(m: Maker) -> None:
    x, params = m.pick(lambda blob: len(blob.shape) >= 2), {}
    if m.chance(0.4):
        params["eps"] = m.one(1e-5, 1e-3, 0.1)
    if m.chance(0.3):
        count = x.shape[0] * math.prod(x.shape[2:])
        params["use_global_stats"] = m.chance(0.5) or count < 3
    maker = next((layer.type for layer in reversed(m.net.layer) if x.name in layer.top), "")
    need(maker != "Im2col" or "norm_of_im2col" in m.features, "BatchNorm on Im2col")
    given = {"batch_norm_param": params} if params else {}
    m.add("BatchNorm", [x], in_place=m.chance(0.4), bound=3 * x.bound, **given)
    if m.chance(0.5):
        m.add(
            "Scale", [m.blobs[-1]], in_place=m.chance(0.5), bound=6 * x.bound, scale_param={"bias_term": m.chance(0.8)}
        )


def normalization(m: Maker) -> None:
    kind = m.one("LRN", "LRN", "MVN")
    if kind == "MVN":
        x = m.pick(lambda blob: len(blob.shape) == 4 or ("mvn_rank" in m.features and 1 <= len(blob.shape) < 4))
        params: dict[str, Any] = {
            name: m.chance(0.5) for name in ("across_channels", "normalize_variance") if m.chance(0.6)
        }
        if m.chance(0.6):
            params["eps"] = m.one(1e-9, 1e-3, 0.1)
        m.add("MVN", [x], bound=4.0, **({"mvn_param": params} if params else {}))
        return
    x = m.pick(_four)
    params = {"local_size": m.one(1, 3, 5, 7), "alpha": m.number(0.01, 2), "beta": m.number(0.2, 1.5)}
    if m.chance(0.5):
        params["norm_region"] = LRNParameter.WITHIN_CHANNEL
    if m.chance(0.4):
        params["k"] = m.number(0.5, 3)
    m.add("LRN", [x], lrn_param=params)


def _sized(m: Maker, count: int, extents: tuple[int, ...]) -> tuple[dict[str, Any], list[int]]:
    """kernel, stride, pad and dilation in any of their forms; and the kernels."""
    params: dict[str, Any] = {}
    kernel = [m.some(1, min(3, n + 1)) for n in extents]
    kernel = kernel if m.chance(0.6) or not kernel else [kernel[0]] * count
    if not count:
        return {"kernel_size": [1]}, []
    for field, pair, values, default in (
        ("kernel_size", "kernel", kernel, None),
        ("stride", "stride", [m.some(1, 3) for _ in kernel], 1),
        ("pad", "pad", [m.some(0, 2) for _ in kernel], 0),
        ("dilation", None, [m.some(1, 2) if m.chance(0.3) else 1 for _ in kernel], 1),
    ):
        if default is not None and m.chance(0.4):
            continue
        if len(set(values)) == 1 and m.chance(0.6):
            params[field] = values[:1]
        elif pair and count == 2 and m.chance(0.4):
            params.update({f"{pair}_h": values[0], f"{pair}_w": values[1]})
        else:
            params[field] = values
    return params, kernel


def _fits(m: Maker, params: dict[str, Any], extents: tuple[int, ...]) -> None:
    """A kernel beyond its padded bottom is legal where the division rounds to 0."""
    if "kernel_overhang" in m.features:
        return
    reach = [params.get("kernel_size", [params.get("kernel_h", 1), params.get("kernel_w", 1)])]
    pads, dilation = params.get("pad", [params.get("pad_h", 0), params.get("pad_w", 0)]), params.get("dilation", [1])
    for place, n in enumerate(extents):
        kernel, pad, step = (values[min(place, len(values) - 1)] for values in (reach[0], pads, dilation))
        need(n + 2 * pad >= step * (kernel - 1) + 1, "kernel beyond its bottom")


def convolution(m: Maker) -> None:
    x = m.pick(_ranked)
    rank = len(x.shape)
    axis = 1 if m.chance(0.75) and rank > 1 else m.some(0, rank - 1)
    need(rank - 1 - axis <= 3, "spatial axes")
    need(rank - 1 - axis > 0 or "conv_no_spatial" in m.features, "no spatial axes")
    kind = m.one("Convolution", "Convolution", "Convolution", "Deconvolution", "Im2col")
    if "forks" in m.features and m.chance(0.1):
        kind = m.one("ConvolutionDepthwise", "DepthwiseConvolution")
    params, kernel = _sized(m, rank - 1 - axis, x.shape[axis + 1 :])
    if kind != "Deconvolution":
        _fits(m, params, x.shape[axis + 1 :])
    if axis != 1 or m.chance(0.2):
        params["axis"] = axis - rank if m.chance(0.4) else axis
    if m.chance(0.1) and kernel:
        params["force_nd_im2col"] = True
    if kind == "Im2col":
        need((rank == 4 and axis == 1) or "im2col_any" in m.features, "other axes of Im2col")
        m.add(kind, [x], convolution_param=params)
        return
    channels = x.shape[axis]
    group = channels if kind.endswith(("wise", "DepthwiseConvolution")) else m.one(*_divisors(channels))
    stride = params.get("stride", [params.get("stride_h", 1), params.get("stride_w", 1)])
    thin = channels == group and stride[0] == 1 and max(stride) > 1
    need("conv_thin" in m.features or not thin, "one channel, strides that differ")
    params.update(group=group, num_output=group * m.some(1, max(1, 6 // group)))
    if group == 1 and m.chance(0.5):
        del params["group"]
    if m.chance(0.3):
        params["bias_term"] = m.chance(0.5)
    bottoms = [x]
    if m.chance(0.1):
        bottoms += [b for b in m.blobs if b.shape == x.shape and b is not x][:2]
    m.add(kind, bottoms, len(bottoms), bound=1.5 * x.bound + 1, convolution_param=params)


def _divisors(n: int) -> list[int]:
    return [1, *[d for d in range(1, n + 1) if n % d == 0]]


def pooling(m: Maker) -> None:
    x = m.pick(_four)
    pool = m.one(PoolingParameter.MAX, PoolingParameter.AVE)
    mask = pool == PoolingParameter.MAX and m.chance(0.25)
    if m.chance(0.12):
        m.add("Pooling", [x], 2 if mask else 1, pooling_param={"pool": pool, "global_pooling": True}, low=x.low)
        return
    params: dict[str, Any] = {"pool": pool}
    kernel = [m.some(1, min(4, n + 1)) for n in x.shape[2:]]
    stride, pad = [m.some(1, 3), m.some(1, 3)], [m.some(0, k - 1) if m.chance(0.4) else 0 for k in kernel]
    if (
        "nan" not in m.features
    ):  # a window outside is -FLT_MAX or 0 / 0, with which float32 goes on otherwise than float64
        need(all(s <= k for k, s in zip(kernel, stride, strict=True)), "windows outside")
    if "pool_edges" not in m.features:
        need(all(s <= k for k, s in zip(kernel, stride, strict=True)), "windows outside")
        need(len({bool(p) for p in pad}) == 1, "pad on one axis")
    for name, values in (("kernel", kernel), ("stride", stride), ("pad", pad)):
        if values[0] == values[1] and m.chance(0.6):
            params["kernel_size" if name == "kernel" else name] = values[0]
        else:
            params.update({f"{name}_h": values[0], f"{name}_w": values[1]})
    if m.chance(0.3):
        params["round_mode"] = m.one(PoolingParameter.CEIL, PoolingParameter.FLOOR)
    m.add("Pooling", [x], 2 if mask else 1, pooling_param=params, low=x.low)


def spp(m: Maker) -> None:
    x = m.pick(_four)
    params = {"pyramid_height": m.some(1, 3)}
    if m.chance(0.6):
        params["pool"] = m.one(PoolingParameter.MAX, PoolingParameter.AVE)
    m.add("SPP", [x], spp_param=params, low=x.low)


def inner_product(m: Maker) -> None:
    x = m.pick(_ranked)
    params: dict[str, Any] = {"num_output": m.some(1, 6)}
    if m.chance(0.5) or len(x.shape) < 2:
        params["axis"] = m.axis(len(x.shape))
    if m.chance(0.3):
        params["transpose"] = m.chance(0.7)
    if m.chance(0.3):
        params["bias_term"] = m.chance(0.4)
    m.add("InnerProduct", [x], bound=1.5 * x.bound + 1, inner_product_param=params)


def eltwise(m: Maker) -> None:
    x = m.pick(lambda blob: bool(blob.shape) or "eltwise_scalars" in m.features)
    same = [blob for blob in m.blobs if blob.shape == x.shape and blob.real == x.real]
    bottoms = [x, *(m.one(*same) for _ in range(m.some(1, 2)))]
    if m.chance(0.3):
        bottoms[1] = m.input(x.real)
    operation = m.one(EltwiseParameter.PROD, EltwiseParameter.SUM, EltwiseParameter.SUM, EltwiseParameter.MAX)
    params: dict[str, Any] = {"operation": operation}
    if operation == EltwiseParameter.SUM and m.chance(0.5):
        params["coeff"] = [m.one(1.0, -1.0, m.number(-2, 2)) for _ in bottoms]
    elif operation == EltwiseParameter.MAX and "max_coeff" in m.features and m.chance(0.3):
        params["coeff"] = [m.number(-2, 2) for _ in bottoms]
    if operation == EltwiseParameter.SUM and m.chance(0.3):
        del params["operation"]
    bounds = [blob.bound for blob in bottoms]
    bound = math.prod(bounds) if operation == EltwiseParameter.PROD else 2 * sum(bounds)
    in_place = "alias" in m.features and m.chance(0.15) and all(b is not bottoms[0] for b in bottoms[1:])
    m.add("Eltwise", bottoms, in_place=in_place, bound=bound, **({"eltwise_param": params} if params else {}))


def scale(m: Maker) -> None:
    """Scale or Bias, learned or by a second bottom."""
    kind, x = m.one("Scale", "Bias"), m.pick(_ranked)
    name, params, bottoms = f"{kind.lower()}_param", {}, [x]
    first = m.some(0, len(x.shape) - 1)
    if m.chance(0.4):
        count = m.some(0, len(x.shape) - first)
        shape = x.shape[first : first + count]
        need(bool(shape) or "no_axes" in m.features, "no axes")
        same = [blob for blob in m.blobs if blob.shape == shape and blob.real == shape and blob is not x]
        bottoms.append(m.one(*same) if same and m.chance(0.7) else m.input(x.real[first : first + count]))
        params["axis"] = first - len(x.shape) if m.chance(0.3) else first
    elif m.chance(0.6):
        params = {"axis": first - len(x.shape) if m.chance(0.3) else first}
        params["num_axes"] = m.one(-1, m.some(0, len(x.shape) - first))
    if kind == "Scale" and m.chance(0.5):
        params["bias_term"] = m.chance(0.7)
    bound = bottoms[-1].bound * x.bound + 1 if len(bottoms) > 1 else x.bound + 1
    m.add(kind, bottoms, in_place=m.chance(0.3), bound=bound, **({name: params} if params else {}))
