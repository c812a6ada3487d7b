"""What `verify` found, as JSON-ready data and as one self-contained HTML page."""

import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from caffe2tf import __version__, bundled
from caffe2tf.verification.compare import Difference, Report
from caffe2tf.verification.hearing import Dispute


def as_data(reports: Sequence[Report], disputes: Sequence[Dispute] = ()) -> dict[str, Any]:
    """{"pass", "device", "precision", "backend", "versions", "nets": [{"name", "files": [{"file", "sha256"}], "golden", "pass", "tolerance", "first_wrong",
    "hint", "weights_sha256", "changed_weights", "missing_photographs", "left_out", "layers": [{"layer", "layers", "type", "blob", "shape", "alone",
    "chained", "tolerance", "pass"}], "predictions": [{"image", "pass", "tolerance", "same_set", "expected", "found"}],
    "judge": {"name", "who", "read", "fed"} or null for a golden set, "judged", "of": numbers of layers, "unjudged": [{"layer",
    "reason"}], "notes"}], "disputes": [{"layers", "blob", "agreed", "alone", "apart": [{"one", "other", "l2", "tolerance"}]}]}.

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
        "disputes": [_dispute(one) for one in disputes],
    }


def _dispute(dispute: Dispute) -> dict[str, Any]:
    apart = [
        {"one": one, "other": other, "l2": finite(value), "tolerance": dispute.tolerances[one, other]}
        for (one, other), value in dispute.apart.items()
    ]
    said = {"layers": list(dispute.layers), "blob": dispute.blob, "agreed": dispute.agreed, "alone": dispute.alone}
    return {**said, "apart": apart}


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
        "files": [{"file": file, "sha256": digest} for file, digest in report.files],
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
        "judge": None if report.judge is None else asdict(report.judge),
        "judged": report.judged,
        "of": report.total,
        "unjudged": [{"layer": layer, "reason": reason} for layer, reason in report.unjudged.items()],
        "notes": list(report.notes),
    }


def finite(value: float) -> float | None:
    """`value`, or None for what JSON has no number for."""
    return value if math.isfinite(value) else None


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    numbers = {"largest": difference.largest, "relative": difference.relative, "l2": difference.l2}
    return {**{key: finite(value) for key, value in numbers.items()}, "place": list(difference.place)}


def top(best: Iterable[tuple[int, float]], names: Sequence[str]) -> list[dict[str, Any]]:
    """[{"class", "name", "probability"}] of ((class, probability), ...)."""
    return [{"class": c, "name": names[c] if c < len(names) else str(c), "probability": p} for c, p in best]


def conclusion(report: Report) -> str:
    """One line: PASS or FAIL, and the figures that say why."""
    parts = []
    if report.layers:
        good = sum(check.passed for check in report.layers)
        worst = max(check.chained.l2 for check in report.layers)
        limit = f"{report.tolerance:.2g}"
        if len({check.tolerance for check in report.layers}) > 1:
            limit = f"what float32 costs, at most {limit}"
        parts.append(f"{good} of {len(report.layers)} blobs within {limit} (largest {worst:.2g})")
    if report.judge:
        parts.append(f"{report.judged} of {report.total} layers judged")
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
    if not report.layers and not report.predictions:
        parts.append("nothing was compared")
    return ("PASS" if report.passed else "FAIL") + "  " + ", ".join(parts)


def against(report: Report) -> str:
    """What a Report is beside."""
    return f"golden set '{report.golden}'" if report.judge is None else report.judge.who


def settled(disputes: Sequence[Dispute]) -> str:
    """One line: who stands alone first, of blobs that several judges gave."""
    open_ones = [one for one in disputes if not one.agreed]
    if not open_ones:
        return f"all agree on {len(disputes)} of {len(disputes)} blobs"
    first = open_ones[0]
    who = f"{first.alone} stands alone" if first.alone else "no two agree, or only some do"
    return f"they differ on {len(open_ones)} of {len(disputes)} blobs, first at {' + '.join(first.layers)}, where {who}"
