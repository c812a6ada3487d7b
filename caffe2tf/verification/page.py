"""What `verify` found as one self-contained HTML page."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from caffe2tf import pages
from caffe2tf.images import decode as imaging
from caffe2tf.verification.compare import Prediction, Report
from caffe2tf.verification.hearing import Dispute
from caffe2tf.verification.report import against, as_data, conclusion, settled

_LOWEST, _HIGHEST = -9, 0  # of the log scale of relative errors


def as_html(reports: Sequence[Report], disputes: Sequence[Dispute] = ()) -> str:
    """The page of `verify`, with nothing outside itself: no script, no font, no picture from elsewhere."""
    data = as_data(reports, disputes)
    facts = [data["device"], data["precision"], *(f"{name} {version}" for name, version in data["versions"].items())]
    body = [
        f"<h1>caffe2tf verify: <span class='{_word(data['pass'])}'>{_word(data['pass'])}</span></h1>",
        f"<p class=soft>{html.escape(' · '.join(facts))}</p>",
    ]
    body += map(section, reports)
    if disputes:
        body.append(f"<h2>Who differs from whom</h2><p>{html.escape(settled(disputes))}</p>{_disputes(disputes)}")
    return pages.page(f"caffe2tf verify: {_word(data['pass'])}", "".join(body))


def section(report: Report) -> str:
    """What one Report has on the page: its verdict, its layers, its predictions."""
    (net,) = as_data([report])["nets"]
    verdict, _, why = conclusion(report).partition("  ")
    body = [
        f"<h2>{html.escape(net['name'] or 'network')} against {html.escape(against(report))}</h2>",
        f"<p><span class='verdict {verdict}'>{verdict}</span> {html.escape(why)}</p>",
        *(f"<p class='soft digest'>{html.escape(f['file'])} SHA-256 {f['sha256']}</p>" for f in net["files"]),
        f"<p class='soft digest'>weights SHA-256 {net['weights_sha256']}</p>",
    ]
    if net["judge"]:
        read, fed = (html.escape(net["judge"][key]) for key in ("read", "fed"))
        body.append(f"<p class=soft>read: {read}<br>fed: {fed}</p>")
    body += [f"<p class=soft>note: {html.escape(note)}</p>" for note in net["notes"]]
    if net["layers"]:
        body.append(_layers(net))
    if net["unjudged"]:
        rows = (f"<tr><td>{html.escape(one['layer'])}<td>{html.escape(one['reason'])}" for one in net["unjudged"])
        body.append(f"<h3>Not judged</h3>{pages.table('<tr><th>layer<th>why' + ''.join(rows))}")
    if net["predictions"]:
        cards = (_card(p, shown) for p, shown in zip(report.predictions, net["predictions"], strict=True))
        body.append("<h2>Predictions</h2><div class=photos>" + "".join(cards) + "</div>")
    return "".join(body)


def _disputes(disputes: Sequence[Dispute]) -> str:
    pairs = list(disputes[0].apart)
    heads = "".join(f"<th class=n>{html.escape(one)} - {html.escape(other)}" for one, other in pairs)
    rows = [f"<tr><th>layer<th>blob{heads}<th>alone"]
    for one in disputes:
        numbers = "".join(f"<td class=n>{one.apart[pair]:.2g}" for pair in pairs)
        alone = one.alone or ("-" if one.agreed else "?")
        rows.append(
            f"<tr><td>{html.escape(' + '.join(one.layers))}<td>{html.escape(one.blob)}{numbers}<td>{html.escape(alone)}"
        )
    return pages.table("".join(rows))


def _word(passed: bool) -> str:
    return "PASS" if passed else "FAIL"


def _place(value: float | None) -> float:
    """Per cent along the log scale."""
    if value is None:
        return 100.0
    exponent = math.log10(value) if value > 0 else _LOWEST
    return 100 * (min(max(exponent, _LOWEST), _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)


def _layers(net: Mapping[str, Any]) -> str:
    rows = [
        "<tr><th>layer<th>type<th>shape<th class=n>alone<th class=n>chained<th class=n>largest<th>"
        f"1e{_LOWEST} to 1, log scale; line: tolerance"
    ]
    behind = False
    for layer in net["layers"]:
        first = net["first_wrong"] in layer["layers"]
        follows = not layer["pass"] and not first and (behind if layer["alone"] is None else _within(layer))
        behind = behind or first
        verdict = "dragged" if follows else _word(layer["pass"])
        told = " <span class=FAIL>first wrong</span>" if first else " <span class=dragged>follows</span>"
        alone, chained = layer["alone"], layer["chained"]
        others = (
            f" <span class=soft>+ {html.escape(', '.join(layer['layers'][1:]))}</span>" if layer["layers"][1:] else ""
        )
        rows.append(
            f"<tr{' class=first' if first else ''}><td>{html.escape(layer['layer'])}{others}{told if first or follows else ''}<td>{html.escape(layer['type'])}"
            f"<td>{' x '.join(map(str, layer['shape']))}<td class=n>{_number(alone) if alone else '-'}"
            f"<td class=n>{_number(chained)}<td class=n>{_number(chained, 'largest')}<td class=scale><div class=track>"
            f"<i class={verdict} style='width:{_place(chained['l2']):.1f}%'></i>"
            f"<b style='left:{_place(layer['tolerance']):.1f}%'></b></div>"
        )
    told = "follows: wrong, as far as it can be told, by what came before alone"
    return pages.table("".join(rows)) + (f"<p class=soft>{told}</p>" if net["first_wrong"] else "")


def _within(layer: Mapping[str, Any]) -> bool:
    """Whether a layer is right on what Caffe itself gave it."""
    return layer["alone"]["l2"] is not None and bool(layer["alone"]["l2"] <= layer["tolerance"])


def _number(difference: Mapping[str, Any], key: str = "l2") -> str:
    return "∞" if difference[key] is None else f"{difference[key]:.2g}"


def _card(prediction: Prediction, shown: Mapping[str, Any]) -> str:
    picture = f"<img alt='' src='{_thumbnail(prediction.file)}'>" if prediction.file else ""
    word = _word(prediction.passed)
    parts = [f"<div class=photo>{picture}<div><b>{html.escape(prediction.image)}</b> <span class={word}>{word}</span>"]
    for title in ("expected", "found"):
        parts.append(f"<h3>{title}</h3>")
        parts.append(pages.meters((best["name"], best["probability"]) for best in shown[title]))
    return "".join([*parts, "</div></div>"])


def _thumbnail(path: str) -> str:
    from PIL import ImageOps

    with imaging.opened(path) as image:
        small = ImageOps.exif_transpose(image).convert("RGB")
        small.thumbnail((192, 192))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
