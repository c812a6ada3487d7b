"""What `caffe2tf demo` showed, as one self-contained HTML page."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

from caffe2tf import pages
from caffe2tf.classification.seen import Seen
from caffe2tf.images import decode as imaging
from caffe2tf.verification.compare import Prediction, Report
from caffe2tf.verification.page import section
from caffe2tf.verification.report import as_data, conclusion

_COMMANDS = """\
caffe2tf sample
caffe2tf convert bvlc_alexnet.caffemodel -o alexnet.keras
caffe2tf sample squeezenet
caffe2tf sample photographs
caffe2tf verify squeezenet_v1.0.caffemodel
caffe2tf classify squeezenet_v1.0.caffemodel photographs/ --plot seen.png
caffe2tf visualize all squeezenet_v1.0.caffemodel photographs/china.jpg -o china.html
caffe2tf sample digits
caffe2tf finetune squeezenet_v1.0.caffemodel --layers conv_final --data digits --resize 96 --crop none \\
  --input-shape 1,3,96,96 --out digits-head"""


@dataclass(frozen=True)
class Head:
    """A new head: its accuracy on pictures kept back, and what finetune drew, as PNG."""

    accuracy: float
    examples: bytes
    curves: bytes
    confusion: bytes


def demonstration(seeded: Report, trained: Report, seen: Sequence[Seen], head: Head, seconds: float) -> str:
    """The page: `seeded` and `trained` are the verifications of AlexNet and SqueezeNet, `seen` what the converted SqueezeNet
    sees in photographs, `seconds` how long all of it took."""
    data = as_data([seeded, trained])
    word = "PASS" if data["pass"] else "FAIL"
    facts = [f"{seconds:.0f} seconds", data["device"], data["precision"]]
    facts += [f"{name} {version}" for name, version in data["versions"].items()]
    expected = {prediction.image: prediction for prediction in trained.predictions}
    cards = "".join(_seen(one, expected.get(os.path.basename(one.file))) for one in seen)
    return pages.page(
        f"caffe2tf demo: {word}",
        f"<h1>caffe2tf demo: <span class={word}>{word}</span></h1><p class=soft>{html.escape(' · '.join(facts))}</p>"
        + pages.table(
            f"<tr><th>network<th>against Caffe 1.0's own results{_row('AlexNet, full size, seeded weights', seeded)}"
            f"{_row('SqueezeNet v1.0, trained on ImageNet', trained)}"
        )
        + "<h2>What the trained SqueezeNet sees, as a Keras model of stock layers</h2>"
        f"<div class=photos>{cards}</div>"
        "<h2>A new head for handwritten digits</h2>"
        f"<p>Trained on four fifths of 1,797 digits of 8 x 8; of the other fifth <b>{head.accuracy:.1%}</b> are recognised. "
        "All layers below the head are SqueezeNet's as they were, and ran once for each picture.</p>"
        f"{_drawn(head.examples, 'digits with the classes found')}{_drawn(head.curves, 'loss and accuracy')}"
        f"{_drawn(head.confusion, 'confusion matrix', 'min(100%, 30rem)')}"
        f"{section(seeded)}{section(trained)}"
        f"<h2>The same by hand</h2><pre style='overflow-x: auto'>{html.escape(_COMMANDS)}</pre>",
    )


def _row(name: str, report: Report) -> str:
    verdict, _, why = conclusion(report).partition("  ")
    return f"<tr><td>{name}<td><span class='verdict {verdict}'>{verdict}</span> {html.escape(why)}"


def _seen(seen: Seen, expected: Prediction | None) -> str:
    beside = ""
    if expected:
        found = {number: share for number, _, share in seen.top}
        largest = max(abs(found.get(number, 0.0) - share) for number, share in expected.expected)
        same = "the same" if seen.top[0][0] == expected.expected[0][0] else "another class"
        beside = f"<p class=soft>Caffe 1.0 says {same}; largest difference {largest:.1e}</p>"
    return (
        f"<div class=photo><img alt='' src='{_thumbnail(seen.file)}'><div><b>{html.escape(os.path.basename(seen.file))}</b>"
        f"{pages.meters((name, share) for _, name, share in seen.top)}{beside}</div></div>"
    )


def _drawn(picture: bytes, words: str, width: str = "100%") -> str:
    data = base64.b64encode(picture).decode()
    return f"<p><img class=drawn style='max-width:{width}' alt='{words}' src='data:image/png;base64,{data}'></p>"


def _thumbnail(path: str) -> str:
    with imaging.opened(path) as image:
        small = image.convert("RGB")
        small.thumbnail((240, 240))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
