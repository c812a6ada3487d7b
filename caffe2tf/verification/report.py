"""What `verify` found, as JSON-ready data and as one self-contained HTML page."""

import base64
import html
import io
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from caffe2tf import __version__, bundled, pages
from caffe2tf.images import decode as imaging
from caffe2tf.verification.compare import Difference, Prediction, Report

_LOWEST, _HIGHEST = -9, 0  # of the log scale of relative errors


def as_data(reports: Sequence[Report]) -> dict[str, Any]:
    """{"pass", "device", "precision", "backend", "versions", "nets": [{"name", "golden", "pass", "tolerance", "first_wrong",
    "hint", "weights_sha256", "changed_weights", "missing_photographs", "left_out", "layers": [{"layer", "layers", "type", "blob", "shape", "alone",
    "chained", "tolerance", "pass"}], "predictions": [{"image", "pass", "tolerance", "same_set", "expected", "found"}]}]}.

    A difference is {"largest", "relative", "place", "l2"}; a prediction's classes are {"class", "name", "probability"},
    best first. Infinite differences are null.
    """
    names = bundled.classes()
    first = reports[0].running
    return {
        "pass": all(report.passed for report in reports),
        **{key: first.get(key) for key in ("device", "precision", "backend")},
        "versions": versions(first.get("backend")),
        "nets": [_net(report, names) for report in reports],
    }


def versions(backend: str | None) -> dict[str, str]:
    """{library: version} of what took part."""
    import importlib.metadata

    found = {"caffe2tf": __version__, "python": platform.python_version()}
    for name in ("keras", backend, "numpy"):
        if name:
            found[name] = importlib.metadata.version(name)
    return found


def _net(report: Report, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": report.name,
        "golden": report.golden,
        "pass": report.passed,
        "tolerance": report.tolerance,
        "first_wrong": report.first_wrong,
        "hint": report.hint,
        "weights_sha256": report.digest,
        "changed_weights": list(report.changed_weights),
        "missing_photographs": list(report.missing),
        "left_out": list(report.left_out),
        "layers": [
            {
                "layer": check.layers[0],
                "layers": list(check.layers),
                "type": check.kind,
                "blob": check.blob,
                "shape": list(check.shape),
                "alone": _difference(check.alone),
                "chained": _difference(check.chained),
                "tolerance": check.tolerance,
                "pass": check.passed,
            }
            for check in report.layers
        ],
        "predictions": [
            {
                "image": prediction.image,
                "pass": prediction.passed,
                "tolerance": prediction.tolerance,
                "same_set": prediction.same_set,
                "expected": top(prediction.expected, names),
                "found": top(prediction.found, names),
            }
            for prediction in report.predictions
        ],
    }


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    numbers = {"largest": difference.largest, "relative": difference.relative, "l2": difference.l2}
    finite = {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    return {**finite, "place": list(difference.place)}


def top(best: Iterable[tuple[int, float]], names: Sequence[str]) -> list[dict[str, Any]]:
    """[{"class", "name", "probability"}] of ((class, probability), ...)."""
    return [{"class": c, "name": names[c] if c < len(names) else str(c), "probability": p} for c, p in best]


def conclusion(report: Report) -> str:
    """One line: PASS or FAIL, and the figures that say why."""
    parts = []
    if report.layers:
        good = sum(check.passed for check in report.layers)
        worst = max(check.chained.l2 for check in report.layers)
        parts.append(f"{good} of {len(report.layers)} blobs within {report.tolerance:g} (largest {worst:.2g})")
    if report.predictions:
        good = sum(prediction.passed for prediction in report.predictions)
        parts.append(f"{good} of {len(report.predictions)} predictions equal")
    known = [prediction.same_set for prediction in report.predictions if prediction.same_set is not None]
    if known:
        parts.append(f"{sum(known)} of {len(known)} top-5 sets equal")
    if report.changed_weights:
        parts.append(f"weights changed in {', '.join(report.changed_weights)}")
    if report.missing:
        parts.append(f"{len(report.missing)} photographs not there (`images`)")
    if report.left_out:
        parts.append(f"{', '.join(report.left_out)} left out (no part in inference)")
    if report.first_wrong:
        parts.append(f"first wrong layer: {report.first_wrong}" + (f" ({report.hint})" if report.hint else ""))
    return ("PASS" if report.passed else "FAIL") + "  " + ", ".join(parts or ["nothing was compared"])


# ------------------------------------------------------------------------------------------------ HTML


def as_html(reports: Sequence[Report]) -> str:
    """The page of `verify`, with nothing outside itself: no script, no font, no picture from elsewhere."""
    data = as_data(reports)
    facts = [data["device"], data["precision"], *(f"{name} {version}" for name, version in data["versions"].items())]
    body = [
        f"<h1>caffe2tf verify: <span class='{_word(data['pass'])}'>{_word(data['pass'])}</span></h1>",
        f"<p class=soft>{html.escape(' · '.join(facts))}</p>",
    ]
    for report, net in zip(reports, data["nets"], strict=True):
        verdict, _, why = conclusion(report).partition("  ")
        body.append(
            f"<h2>{html.escape(net['name'] or 'network')} against golden set “{html.escape(net['golden'])}”</h2>"
        )
        body.append(f"<p><span class='verdict {verdict}'>{verdict}</span> {html.escape(why)}</p>")
        body.append(f"<p class='soft digest'>weights SHA-256 {net['weights_sha256']}</p>")
        if net["layers"]:
            body.append(_layers(net))
        if net["predictions"]:
            cards = (_card(p, shown) for p, shown in zip(report.predictions, net["predictions"], strict=True))
            body.append("<h2>Predictions</h2><div class=photos>" + "".join(cards) + "</div>")
    return pages.page(f"caffe2tf verify: {_word(data['pass'])}", "".join(body))


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
    for layer in net["layers"]:
        alone, chained = layer["alone"], layer["chained"]
        others = (
            f" <span class=soft>+ {html.escape(', '.join(layer['layers'][1:]))}</span>" if layer["layers"][1:] else ""
        )
        rows.append(
            f"<tr><td>{html.escape(layer['layer'])}{others}<td>{html.escape(layer['type'])}"
            f"<td>{' x '.join(map(str, layer['shape']))}<td class=n>{_number(alone) if alone else '-'}"
            f"<td class=n>{_number(chained)}<td class=n>{_number(chained, 'largest')}<td class=scale><div class=track>"
            f"<i class={_word(layer['pass'])} style='width:{_place(chained['l2']):.1f}%'></i>"
            f"<b style='left:{_place(layer['tolerance']):.1f}%'></b></div>"
        )
    return f"<table>{''.join(rows)}</table>"


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
