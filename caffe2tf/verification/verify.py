"""Is it still the same network? Every layer against Caffe's own results, in numbers, then the predictions."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.errors import Caffe2TFError, NetError
from caffe2tf.files import digests
from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model import model
from caffe2tf.net.net import Net, rebuild
from caffe2tf.net.wiring import Node
from caffe2tf.verification import exported, judges
from caffe2tf.verification import golden as goldens
from caffe2tf.verification.compare import LayerCheck, Prediction, Report, compare
from caffe2tf.verification.hearing import Hearing, disputes
from caffe2tf.verification.predictions import generated, photographs
from caffe2tf.verification.sets import Golden, GoldenError, Path

_Blob = tuple[str, int]  # name and version
_Arrays = Mapping[str, NDArray[np.float32]]


def verify(
    net: Net,
    golden: Golden | Path | None = None,
    images: Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    *,
    against: Golden | Path | None = None,
    original: Path | Sequence[Path] | None = None,
    yes: bool = False,
) -> Report:
    """Runs `net` on inputs for which others' results are known, and compares everything that they hold; returns a Report.

    `against`: "golden", a golden set that comes with caffe2tf, chosen by the weights; a golden set's folder or a
    sets.Golden (as `golden`, its older name); "opencv" or "reference", which compute it here and now; None: a golden set
    where one fits, else OpenCV, else the reference. `images`: the folder with the photographs of published predictions, or
    for a judge a picture or a folder of them; without, it is fed noise. `original`: the .caffemodel that the net was
    converted from, with its text where it needs one, in either order, for a judge to read; without it a judge reads the
    net itself. `yes` lets the reference take its time. `device`: auto, cpu, gpu, gpu:N; `precision`: float32, tf32 or
    mixed_float16, each with the tolerance it deserves (device.TOLERANCES).

    A `net` that was read from a whole model (.keras, SavedModel, .tflite, .onnx) is that file: it is the file that runs, and of it every
    blob is compared that it gives.

    Raises GoldenError for a set that is broken or of another network, JudgeError for a judge that cannot judge,
    DeviceError, NetError; a difference is no error but a Report that did not pass.
    """
    if golden is not None and against is not None:
        raise GoldenError("`golden` and `against` are both given; takes one")
    return hearing(net, [against if golden is None else golden], images, device, precision, original, yes).reports[0]


def hearing(
    net: Net,
    against: Sequence[Golden | Path | None],
    images: Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    original: Path | Sequence[Path] | None = None,
    yes: bool = False,
) -> Hearing:
    """As `verify`, against several in turn; judges get the same inputs, and where two of them answer, who differs from whom."""
    own = exported.opened(net)
    chosen = [judges.resolve(net, one, own.digests if own else None) for one in against]
    if not net.arrays and any(node.layer.blobs() for node in net.nodes) and not own:
        raise GoldenError(f"the network '{net.name}' has no weights to verify; give its .caffemodel")
    asked = [one for one in chosen if not isinstance(one, Golden)]
    if images is not None and not asked and not os.path.isdir(images):
        raise GoldenError(f"{images}: is no folder; `images` takes the folder with the photographs")
    _refuse_not_finite(net)
    if asked and own and not net.arrays and original is None:
        raise GoldenError(f"{own.file}: does not give its weights to a judge; name the .caffemodel as `original`")
    panel = judges.Panel(net, asked, images, original, yes, own.run if own else None) if asked else None
    tested = tuple((file, digests.digest(file)) for file in net.files)
    with devices.running(device, precision) as running:
        heard = panel.ask() if panel else {}
        reports = []
        for one in dict.fromkeys(chosen):
            golden, notes = (one, ()) if isinstance(one, Golden) else heard[one]
            known = panel.found if panel and golden.judge else None
            report = _report(net, golden, images, precision, running, known, own)
            reports.append(replace(report, notes=notes, files=tested))
        return Hearing(tuple(reports), disputes(net, panel.found, panel.sets) if panel else ())


def _report(
    net: Net,
    golden: Golden,
    images: Path | None,
    precision: str,
    running: Mapping[str, str],
    found: _Arrays | None = None,
    own: exported.Exported | None = None,
) -> Report:
    """Of one set, on the device that is chosen; `found`: our blobs for its inputs, where they are known; `own`: the whole model that
    the net was read from, which runs instead of it."""
    tolerance = devices.TOLERANCES.get(precision, 0)
    if golden.tolerances and precision == "float32":
        tolerance = 0  # the judge's own counts
    layers, predictions = list[LayerCheck](), list[Prediction]()
    run = own.run if own else None
    if golden.blobs:
        inputs = _inputs(net, golden)
        if found is None:
            run = run or model.forwarding(net, inputs)
            found = run(inputs)
        for blob in set(golden.blobs) & set(found):
            if not golden.blobs[blob].fits(found[blob]):
                raise GoldenError(f"golden set '{golden.name}' is of another network: its values are none of '{blob}'")
        layers = _check_layers(net, golden, inputs, found, tolerance, own is None)
        predictions += generated(golden, found)
    held = goldens.weight_digests(net) or (own.digests if own else {})
    mine = held if net.chosen else golden.weights  # of a network that was cut, only what is left is judged
    changed = tuple(name for name, known in golden.weights.items() if name in mine and held.get(name) != list(known))
    whole = hashlib.sha256("".join(d for layer in held.values() for d in layer).encode()).hexdigest()
    seen, missing = ([], ()) if golden.judge else photographs(net, golden, images, run)
    report = Report(
        net.name,
        golden.name,
        tuple(layers),
        (*predictions, *seen),
        changed,
        missing,
        max([tolerance, *(check.tolerance for check in layers)]),
        whole,
        running=running,
        left_out=tuple(sorted(set(golden.blobs) - set(net.blobs))),
        judge=golden.judge,
        unjudged=golden.unjudged,
        total=sum(node.layer.type != "Input" and bool(node.tops) for node in net.nodes),
    )
    wrong = _first_wrong(net, report)
    if wrong is None:
        return report
    hint = _hint(net, golden, report, wrong) if layers and not own else None
    return replace(report, first_wrong=wrong, hint=hint)


def _refuse_not_finite(net: Net) -> None:
    for name in net.arrays:
        for weight, array in net.weights[name].items():
            if not np.isfinite(array).all():
                raise GoldenError(f"layer '{name}': its {weight} holds NaN or infinity")


def _inputs(net: Net, golden: Golden) -> dict[str, NDArray[np.float32]]:
    if None in golden.inputs and len(net.inputs) != 1:
        raise GoldenError(f"golden set '{golden.name}' is of one input; the network has {sorted(net.inputs)}")
    given = {}
    for name, array in golden.inputs.items():
        blob = next(iter(net.inputs)) if name is None else name
        if blob in net.inputs:
            given[blob] = array
    lacking = sorted(set(net.inputs) - set(given)) + sorted(set(golden.blobs) - set(net.blobs) - net.dropped)
    if lacking:
        raise GoldenError(f"golden set '{golden.name}' is of another network: {', '.join(lacking[:5])} are not in both")
    try:
        net.reshape({name: array.shape for name, array in given.items()})
    except NetError as error:
        raise GoldenError(f"golden set '{golden.name}' is of another network: {error}") from None
    return given


# ------------------------------------------------------------------------------------------------ layers


def _units(net: Net) -> dict[str, list[Node]]:
    """The nodes that make each blob: the first, and those that change it, in place or through a blob in the same memory."""
    units: dict[str, list[Node]] = {}
    for node in net.nodes:
        for (blob, _), _ in node.made():
            units.setdefault(blob, []).append(node)
    return units


def _check_layers(
    net: Net, golden: Golden, inputs: _Arrays, found: _Arrays, tolerance: float, apart: bool
) -> list[LayerCheck]:
    """Of the blobs `found`, and with `apart` of each blob's layers alone."""
    last = net.last_versions
    whole = {
        (blob, last[blob]): expected.values.reshape(found[blob].shape)
        for blob, expected in golden.blobs.items()
        if blob in found and blob in last and expected.index is None and expected.values.size == found[blob].size
    } | {(blob, 0): array for blob, array in inputs.items()}
    whole.update((blob, array) for blob, array in golden.given.items() if blob not in whole)
    checks = []
    for blob, nodes in _units(net).items():
        if blob not in golden.blobs or blob not in found or nodes[-1].layer.type == "Input":
            continue
        alone = _alone(net, (blob, last[blob]), whole, last) if apart else None
        makers = [node.layer for node in nodes if node.layer.type != "Input"]
        checks.append(
            LayerCheck(
                tuple(layer.name for layer in makers),
                makers[0].type,
                blob,
                found[blob].shape,
                None if alone is None else compare(alone, golden.blobs[blob]),
                compare(found[blob], golden.blobs[blob]),
                max(tolerance, golden.tolerances.get(blob, 0)),
            )
        )
    return checks


def _alone(
    net: Net, target: _Blob, whole: Mapping[_Blob, NDArray[np.float32]], last: Mapping[str, int]
) -> NDArray[np.float32] | None:
    """The blob `target`, a (name, version), as its layers compute it from Caffe's own bottoms: from the values that they
    really read, which a later layer may have overwritten. A bottom that was overwritten is computed from what is known
    before it. None where the golden set does not hold a bottom whole."""
    needed, nodes, given = {target}, list[Node](), dict[_Blob, NDArray[np.float32]]()
    for node in reversed(net.nodes):
        made = {blob for blob, _ in node.made()} & needed
        if not made:
            continue
        if node.layer.type == "Input":
            given.update((blob, whole[blob]) for blob in made)
            continue
        nodes.append(node)
        for bottom in node.bottoms:
            if bottom in whole and bottom != target:
                given[bottom] = whole[bottom]
            elif last[bottom[0]] == bottom[1]:
                return None
            else:
                needed.add(bottom)
    if not given:
        return None
    return model.part(net, nodes[::-1], given, target)


def _first_wrong(net: Net, report: Report) -> str | None:
    """The first layer that is wrong: by its weights, or on Caffe's own bottoms where they are known, else by the chain."""
    culprits, drifted = set(report.changed_weights), False
    for check in report.layers:
        known = check.alone or check.chained
        if not known.within(check.tolerance) and (check.alone is not None or not drifted):
            culprits.add(check.layers[0])
        drifted = drifted or not check.chained.within(check.tolerance)
    if not culprits and drifted:
        culprits = {next(check.layers[0] for check in report.layers if not check.passed)}
    return next((node.layer.name for node in net.nodes if node.layer.name in culprits), None)


def _hint(net: Net, golden: Golden, report: Report, wrong: str) -> str | None:
    """What would make the layer `wrong` right, of the mistakes that its class knows; None where none does."""
    check = next((check for check in report.layers if wrong in check.layers), None)
    if check is None or check.passed:
        return None
    inputs = _inputs(net, golden)
    for words, change in net.layer(wrong).mistakes():
        param = NetParameter.FromString(net.param.SerializeToString())
        proto = next(layer for layer in param.layer if layer.name == wrong)
        weights = dict(net.weights[wrong]) if wrong in net.arrays else {}
        change(proto, weights)
        arrays = dict(net.arrays)
        if weights:
            arrays[wrong] = tuple(net.layer(wrong).arrays(weights))
        try:
            found = model.forward(rebuild(net, param, arrays), inputs)[check.blob]
        except Caffe2TFError:
            continue
        if compare(found, golden.blobs[check.blob]).within(10 * check.tolerance):
            return words
    return None
