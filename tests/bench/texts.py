"""Networks of keras.applications as Caffe texts: each convolution without a bias, BatchNorm and Scale behind it."""

import os
from collections.abc import Callable, Sequence

import caffe2tf
from caffe2tf.net.net import Net


class _Text:
    """A network text, a layer a line; each method adds layers and returns the blob that they make."""

    def __init__(self, name: str, extent: int) -> None:
        self.lines = [f'name: "{name}"', f"input: 'data' input_shape {{ dim: 1 dim: 3 dim: {extent} dim: {extent} }}"]

    def add(self, kind: str, name: str, bottoms: Sequence[str], params: str = "", top: str | None = None) -> str:
        top = name if top is None else top
        wires = " ".join([*(f'bottom: "{bottom}"' for bottom in bottoms), f'top: "{top}"'])
        self.lines.append(f'layer {{ name: "{name}" type: "{kind}" {wires} {params} }}')
        return top

    def normalized(self, name: str, bottom: str, eps: float, relu: bool = True, top: str | None = None) -> str:
        """BatchNorm, Scale and ReLU, in place unless a `top` is named."""
        top = self.add("BatchNorm", f"{name}_bn", [bottom], f"batch_norm_param {{ eps: {eps:g} }}", top or bottom)
        self.add("Scale", f"{name}_scale", [top], "scale_param { bias_term: true }", top)
        return self.add("ReLU", f"{name}_relu", [top], top=top) if relu else top

    def convolved(
        self,
        name: str,
        bottom: str,
        count: int,
        size: int | tuple[int, int],
        stride: int = 1,
        pad: bool = True,
        bias: bool = False,
    ) -> str:
        """A Convolution alone; `size` is a square's, or (height, width)."""
        height, width = size if isinstance(size, tuple) else (size, size)
        params = (
            f"num_output: {count} kernel_h: {height} kernel_w: {width} stride: {stride} bias_term: {str(bias).lower()}"
        )
        params += f" pad_h: {height // 2} pad_w: {width // 2}" if pad else ""
        return self.add("Convolution", name, [bottom], f"convolution_param {{ {params} }}")

    def pooled(self, name: str, bottom: str, kind: str, params: str) -> str:
        return self.add("Pooling", name, [bottom], f"pooling_param {{ pool: {kind} {params} }}")

    def classified(self, bottom: str) -> str:
        """The whole text, with an average over all places, 1000 classes and their probabilities."""
        last = self.pooled("pool_last", bottom, "AVE", "global_pooling: true")
        last = self.add("InnerProduct", "fc", [last], "inner_product_param { num_output: 1000 }")
        self.add("Softmax", "prob", [last])
        return "\n".join(self.lines) + "\n"


def _resnet50() -> str:
    """He et al. 2015; a stride stands in the first convolution of a block."""
    text = _Text("ResNet-50", 224)

    def convolution(name: str, bottom: str, count: int, size: int, stride: int = 1, relu: bool = True) -> str:
        return text.normalized(name, text.convolved(name, bottom, count, size, stride), 1e-5, relu)

    last = convolution("conv1", "data", 64, 7, 2)
    last = text.pooled("pool1", last, "MAX", "kernel_size: 3 stride: 2")
    for stage, (wide, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 2):
        for block in range(blocks):
            name, stride = f"res{stage}_{block + 1}", 2 if block == 0 and stage > 2 else 1
            past = last if block else convolution(f"{name}_past", last, 4 * wide, 1, stride, relu=False)
            inner = convolution(f"{name}_in", last, wide, 1, stride)
            inner = convolution(f"{name}_mid", inner, wide, 3)
            inner = convolution(f"{name}_out", inner, 4 * wide, 1, relu=False)
            last = text.add("Eltwise", name, [past, inner])
            text.add("ReLU", f"{name}_relu", [name], top=name)
    return text.classified(last)


def _densenet121() -> str:
    """Huang et al. 2016."""
    text, eps = _Text("DenseNet-121", 224), 1.001e-5
    last = text.normalized("conv1", text.convolved("conv1", "data", 64, 7, 2), eps)
    last, wide = text.pooled("pool1", last, "MAX", "kernel_size: 3 stride: 2"), 64
    for stage, blocks in enumerate((6, 12, 24, 16), 2):
        for block in range(blocks):
            name = f"conv{stage}_{block + 1}"
            inner = text.normalized(f"{name}_0", last, eps, top=f"{name}_0")
            inner = text.normalized(f"{name}_1", text.convolved(f"{name}_1", inner, 128, 1), eps)
            last = text.add("Concat", name, [last, text.convolved(f"{name}_2", inner, 32, 3)])
            wide += 32
        last = text.normalized(f"end{stage}", last, eps, top=f"end{stage}")
        if stage < 5:
            wide //= 2
            last = text.convolved(f"through{stage}", last, wide, 1)
            last = text.pooled(f"pool{stage}", last, "AVE", "kernel_size: 2 stride: 2")
    return text.classified(last)


def _inception_resnet_v2() -> str:
    """Szegedy et al. 2016, as keras.applications has it."""
    text = _Text("Inception-ResNet v2", 299)

    def path(name: str, bottom: str, *steps: tuple[int, int | tuple[int, int]], stride: int = 1) -> str:
        """Convolutions one after the other, (channels, size); the last with `stride`, then without a pad."""
        for number, (count, size) in enumerate(steps, 1):
            step = stride if number == len(steps) else 1
            made = text.convolved(f"{name}_{number}", bottom, count, size, step, pad=step == 1)
            bottom = text.normalized(f"{name}_{number}", made, 1e-3)
        return bottom

    def residual(name: str, bottom: str, wide: int, scale: float, paths: Sequence[str], relu: bool = True) -> str:
        mixed = text.convolved(f"{name}_up", text.add("Concat", f"{name}_mixed", paths), wide, 1, bias=True)
        last = text.add("Eltwise", name, [bottom, mixed], f"eltwise_param {{ coeff: 1 coeff: {scale:g} }}")
        return text.add("ReLU", f"{name}_relu", [last], top=last) if relu else last

    last = path("stem1", "data", (32, 3), stride=2)
    last = text.normalized("stem2", text.convolved("stem2", last, 32, 3, pad=False), 1e-3)
    last = path("stem3", last, (64, 3))
    last = text.pooled("stem_pool1", last, "MAX", "kernel_size: 3 stride: 2")
    last = path("stem4", last, (80, 1))
    last = text.normalized("stem5", text.convolved("stem5", last, 192, 3, pad=False), 1e-3)
    last = text.pooled("stem_pool2", last, "MAX", "kernel_size: 3 stride: 2")
    average = text.pooled("mixed5_pool", last, "AVE", "kernel_size: 3 stride: 1 pad: 1")
    paths = [path("mixed5_a", last, (96, 1)), path("mixed5_b", last, (48, 1), (64, 5))]
    paths += [path("mixed5_c", last, (64, 1), (96, 3), (96, 3)), path("mixed5_d", average, (64, 1))]
    last = text.add("Concat", "mixed5", paths)
    for number in range(1, 11):
        name = f"block35_{number}"
        paths = [path(f"{name}_a", last, (32, 1)), path(f"{name}_b", last, (32, 1), (32, 3))]
        last = residual(name, last, 320, 0.17, [*paths, path(f"{name}_c", last, (32, 1), (48, 3), (64, 3))])
    paths = [path("mixed6_a", last, (384, 3), stride=2), path("mixed6_b", last, (256, 1), (256, 3), (384, 3), stride=2)]
    last = text.add("Concat", "mixed6", [*paths, text.pooled("mixed6_pool", last, "MAX", "kernel_size: 3 stride: 2")])
    for number in range(1, 21):
        name = f"block17_{number}"
        paths = [path(f"{name}_a", last, (192, 1)), path(f"{name}_b", last, (128, 1), (160, (1, 7)), (192, (7, 1)))]
        last = residual(name, last, 1088, 0.1, paths)
    paths = [path("mixed7_a", last, (256, 1), (384, 3), stride=2), path("mixed7_b", last, (256, 1), (288, 3), stride=2)]
    paths += [path("mixed7_c", last, (256, 1), (288, 3), (320, 3), stride=2)]
    last = text.add("Concat", "mixed7", [*paths, text.pooled("mixed7_pool", last, "MAX", "kernel_size: 3 stride: 2")])
    for number in range(1, 11):
        name = f"block8_{number}"
        paths = [path(f"{name}_a", last, (192, 1)), path(f"{name}_b", last, (192, 1), (224, (1, 3)), (256, (3, 1)))]
        last = residual(name, last, 2080, *((0.2, paths, True) if number < 10 else (1.0, paths, False)))
    return text.classified(path("conv7", last, (1536, 1)))


TEXTS: dict[str, Callable[[], str]] = {
    "ResNet50": _resnet50,
    "DenseNet121": _densenet121,
    "InceptionResNetV2": _inception_resnet_v2,
}


def network(name: str, folder: str) -> Net:
    """The one of TEXTS by its name in keras.applications, without weights; its text is written to `folder`."""
    path = os.path.join(folder, f"{name}.prototxt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(TEXTS[name]())
    return caffe2tf.load(path)
