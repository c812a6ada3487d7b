"""`caffe2tf inspect`: what a network is made of, and how two differ."""

import json
import sys
from typing import Any

import click

from caffe2tf.cli import options, sections, terminal

PLACE = 2


@click.command(cls=sections.Command, short_help="Show layers, shapes, parameters and what is not supported.")
@click.argument("files", nargs=-1, required=True, type=options.NETWORK, metavar="FILE...")
@options.prototxt
@sections.reading("--diff", is_flag=True, help="Compare two FILEs; exit code 1 where they differ.")
@sections.writing("--html", "page", metavar="FILE.html", help="Write the same as one self-contained page.")
@options.as_json
@options.everyday
def command(
    files: tuple[str, ...],
    prototxt: str | None,
    diff: bool,
    page: str | None,
    as_json: bool,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Show the layers, shapes, parameters and multiply-adds of networks, and what is not supported.

    FILE is a .caffemodel, a network text, or what caffe2tf wrote: weights, a .keras, .onnx or .tflite, a SavedModel, the folder
    of `caffe2tf finetune`; a text and a model together, in either order, are one network. Multiply-adds are those of one item of the batch; field is how many pixels of the input one value depends
    on, stride how many lie between neighbours. With --diff two networks are compared as they compute: their layers, what
    these are set to, and every weight.

    \b
    Examples:
      caffe2tf inspect bvlc_alexnet.caffemodel
      caffe2tf inspect deploy.prototxt net.caffemodel --json
      caffe2tf inspect --diff before.caffemodel after.caffemodel
    """
    from caffe2tf import formats, loading

    if diff and page:
        raise click.UsageError("--html is of what is in a file; with --diff take --json")
    if diff and len(files) != 2:
        raise click.UsageError(f"--diff compares two files, {len(files)} given")
    if diff:
        _diff(files, prototxt, input_shape, outputs, as_json, quiet, verbose)
        return
    from caffe2tf.inspection.summary import inspect

    options.expect(*files)
    networks: list[tuple[str | None, str | None]] = [(prototxt, file) for file in files]
    if prototxt is None:
        networks = [loading.told_apart([file]) for file in files]
        if len(files) == 2 and len({text is None for text, _ in networks}) == 2:
            networks = [loading.told_apart(files)]
    if page:
        formats.check_targets([page], force, sources=[*files, *filter(None, [prototxt])])
    with terminal.hushed(verbose):
        found = [inspect(prototxt=text, model=m, input_shape=input_shape, outputs=outputs) for text, m in networks]
    if page:
        from caffe2tf.files.replacing import write_text
        from caffe2tf.inspection import page as pages

        write_text(page, pages.inspection(found), force)
    if as_json:
        terminal.echo(json.dumps({"files": found}, indent=1))
    for net in () if as_json else found:
        for note in () if quiet else net["notes"]:
            terminal.note(note)
        _print_network(net, verbose)
    if any(net["unsupported"] for net in found):
        sys.exit(options.NO)


def _diff(
    files: tuple[str, ...],
    prototxt: str | None,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    from caffe2tf import loading
    from caffe2tf.inspection.difference import diff

    pairs = [options.network(file, prototxt=prototxt) for file in files]
    with terminal.hushed(verbose):
        nets = [loading.load(prototxt=text, model=m, input_shape=input_shape, outputs=outputs) for text, m in pairs]
    with terminal.progress("comparing", len(nets[0].nodes), quiet, count=True) as step:
        found = {"files": files, **diff(nets[0], nets[1], step=step)}
    if as_json:
        terminal.echo(json.dumps(found, indent=1))
    elif not quiet:
        _print_diff(found)
    if not found["same"]:
        sys.exit(options.NO)


def _print_network(net: dict[str, Any], verbose: bool) -> None:
    from caffe2tf import words

    rows = []
    for layer in net["layers"]:
        work = layer["multiply_adds"]
        rows.append(
            [
                layer["name"],
                layer["type"],
                ", ".join(map(words.shape, layer["shapes"])),
                ", ".join(f"{name} {words.shape(extents)}" for name, extents in layer["weights"].items()),
                f"{layer['parameters']:,}" if layer["parameters"] else "",
                layer["parameters"] / net["parameters"] if layer["parameters"] else "",
                "?" if work is None else f"{work:,}" if work else "",
                work / net["multiply_adds"] if work and net["multiply_adds"] else "",
                words.square(layer["receptive_field"]),
                words.square(layer["stride"]),
                *([" ".join(layer["no_effect"])] if verbose else []),
            ]
        )
    work = net["multiply_adds"]
    last = ["total", "", "", "", f"{net['parameters']:,}", "", "?" if work is None else f"{work:,}", "", "", ""]
    rows.append([*last, *([""] if verbose else [])])
    columns = ["layer", "type", "output", "weights", ">parameters", ">share", ">multiply-adds", ">share"]
    columns += [">field", ">stride", *(["no effect"] if verbose else [])]
    title = f"{net['file']}: {net['name'] or 'no name'}, {net['encoding']}"
    terminal.table(columns, rows, title, spare=["weights", "share", "type"])
    if net["preprocessing"]:
        terminal.echo(f"pictures become input as {net['preprocessing']['words']} ({net['preprocessing']['source']})")
    if net["fixed_batch"]:
        terminal.echo(f"batch fixed by {', '.join(net['fixed_batch'])}, which use axis 0")
    for line in net["unsupported"]:
        terminal.echo(f"not supported: {line}")
    if net["possible_outputs"]:
        terminal.echo(f"still to be had with --outputs {','.join(net['possible_outputs'])}")


def _print_diff(found: dict[str, Any]) -> None:
    rows, files = [], found["files"]
    for layer in found["layers"]:
        if layer["only"] is not None:
            rows.append([layer["name"], "layer", f"only in {files[layer['only']]}"])
        for what, (first, second) in layer["differs"].items():
            rows.append([layer["name"], what, f"{_said(what, first)}  ->  {_said(what, second)}"])
        for name, weight in layer["weights"].items():
            rows.append([layer["name"], name, _said_of_weight(weight, files)])
    terminal.table(["layer", "what", "difference"], rows, f"{files[0]}  ->  {files[1]}")
    if found["preprocessing"]:
        terminal.note(f"pictures become input as {'  ->  '.join(map(str, found['preprocessing']))}")
    terminal.echo("same network" if found["same"] else "they differ")


def _said(what: str, value: Any) -> str:
    from caffe2tf import words

    if what == "shapes":
        return ", ".join(map(words.shape, value))
    return (", ".join(map(str, value)) or "not set") if isinstance(value, list) else str(value)


def _said_of_weight(weight: dict[str, Any], files: tuple[str, ...]) -> str:
    from caffe2tf import words

    if weight.get("equal"):
        return "equal"
    if "only" in weight:
        return f"only in {files[weight['only']]}"
    if "shapes" in weight:
        return "  ->  ".join(map(words.shape, weight["shapes"]))
    largest, share = ("infinite" if weight[k] is None else f"{weight[k]:.3g}" for k in ("largest", "relative"))
    place = "x".join(map(str, weight["place"]))
    changed = f"{weight['changed']:,} of {weight['values']:,} values"
    return f"{changed}, largest {largest} (relative {share}) at {place}"
