"""What `inspect`, `visualize` and `finetune` found, as one self-contained HTML page each, in the look of report.py."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from caffe2tf.pages import meters, page, table
from caffe2tf.words import shape, square


def inspection(found: Sequence[Mapping[str, Any]]) -> str:
    """The page of several dictionaries of inspection.summarize."""
    title = "caffe2tf inspect: " + ", ".join(net["name"] or net["file"] for net in found)
    return page(title, "".join(_network(net) for net in found))


def _network(net: Mapping[str, Any]) -> str:
    facts = [net["file"], f"{net['encoding']} layers", f"{net['parameters']:,} parameters"]
    if net["multiply_adds"] is not None:
        facts.append(f"{net['multiply_adds']:,} multiply-adds")
    lines = [f"inputs {', '.join(f'{blob} {shape(extents)}' for blob, extents in net['inputs'].items())}"]
    lines.append(f"outputs {', '.join(net['outputs'])}")
    if net["preprocessing"]:
        lines.append(f"pictures become input as {net['preprocessing']['words']} ({net['preprocessing']['source']})")
    if net["fixed_batch"]:
        lines.append(f"batch fixed by {', '.join(net['fixed_batch'])}, which use axis 0")
    lines = [*(lines if not net["unsupported"] else ()), *(f"note: {note}" for note in net["notes"])]
    rows = [
        "<tr><th>layer<th>type<th>output<th>weights<th class=n>parameters<th class=n>multiply-adds<th class=n>field<th class=n>stride"
    ]
    for layer in net["layers"]:
        weights = ", ".join(f"{name} {shape(extents)}" for name, extents in layer["weights"].items())
        work = layer["multiply_adds"]
        rows.append(
            f"<tr><td>{html.escape(layer['name'])}<td>{html.escape(layer['type'])}<td>{', '.join(map(shape, layer['shapes']))}"
            f"<td class='soft wrap'>{html.escape(weights)}<td>{_meter(layer['parameters'], net['parameters'])}"
            f"<td>{'?' if work is None else _meter(work, net['multiply_adds'])}"
            f"<td class=n>{square(layer['receptive_field'])}<td class=n>{square(layer['stride'])}"
        )
    return (
        f"<h1>{html.escape(net['name'] or 'network without a name')}</h1><p class=soft>{html.escape(' · '.join(facts))}</p>"
        + "".join(f"<p class=FAIL>not supported: {html.escape(line)}</p>" for line in net["unsupported"])
        + "".join(f"<p class='soft close'>{html.escape(line)}</p>" for line in lines)
        + f"{table(''.join(rows))}<p class=soft>field: the pixels of the input, square or height x width, that one "
        "value depends on; stride: the pixels between neighbouring values; both for layers whose values have a place in "
        "the picture.</p>"
    )


def _meter(count: int, total: int | None) -> str:
    if not count:
        return ""
    share = count / total if total else 0.0
    return f"<div class=meter><i style='width:{share:.1%}'></i><em>{count:,}</em></div>"


def visualization(
    title: str,
    facts: Iterable[str],
    picture: bytes,
    heading: str,
    top: Sequence[tuple[str, float]],
    pictures: Iterable[tuple[str, bytes]],
) -> str:
    """The page of `visualize all`: lines of facts, the picture beside its top [(class name, probability)], and below
    `pictures`, [(heading, PNG, WebP or SVG bytes)]."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    body += [f"<p class='soft close'>{html.escape(fact)}</p>" for fact in facts]
    classes = f"<div class=top><h2>{html.escape(heading)}</h2>{meters(top)}</div>" if top else ""
    body.append(
        f"<div class=seen><img alt='the picture as the network sees it' src='{_embedded(picture)}'>{classes}</div>"
    )
    for name, data in pictures:
        body.append(
            f"<h2>{html.escape(name)}</h2><img class='drawn{' chart' * data.startswith(b'<')}' alt='{html.escape(name)}' src='{_embedded(data)}'>"
        )
    return page(f"caffe2tf visualize: {title}", "".join(body))


def training(
    title: str,
    facts: str,
    about: Iterable[tuple[str, str]],
    classes: Iterable[Mapping[str, Any]],
    curves: bytes,
    confusion: bytes,
    examples: bytes,
    recipe: str,
) -> str:
    """The page of a training run: `about` as [(what, value)] of the run, `classes` as rows of metrics.csv, three PNG pictures, and the recipe's text."""

    def shown(picture: bytes, words: str, kind: str = "drawn chart") -> str:
        return f"<img class='{kind}' alt='{words}' src='{_embedded(picture)}'>"

    lines = "".join(
        f"<tr><td>{html.escape(c['class'])}<td class=n>{c['precision']:.3f}<td class=n>{c['recall']:.3f}<td class=n>{c['f1']:.3f}"
        f"<td class=n>{c['pictures']}"
        for c in classes
    )
    return page(
        title,
        f"<h1>{html.escape(title)}</h1><p class=verdict>{html.escape(facts)}</p>{_about(about)}"
        f"{shown(curves, 'loss and accuracy')}<h2>Classes</h2>"
        f"{table(f'<tr><th>class<th class=n>precision<th class=n>recall<th class=n>F1<th class=n>pictures{lines}')}"
        f"<h2>Confusion</h2>{shown(confusion, 'confusion matrix')}<h2>Examples</h2>{shown(examples, 'examples', 'drawn')}"
        f"<h2>Settings</h2><pre>{html.escape(recipe)}</pre>",
    )


def _about(lines: Iterable[tuple[str, str]]) -> str:
    parts = (
        f"<dt>{html.escape(what)}<dd>{f'<code>{html.escape(value)}</code>' if what == 'next' else html.escape(value)}"
        for what, value in lines
    )
    return f"<dl>{''.join(parts)}</dl>"


def _embedded(data: bytes) -> str:
    kind = "svg+xml" if data.startswith(b"<") else "webp" if data.startswith(b"RIFF") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
