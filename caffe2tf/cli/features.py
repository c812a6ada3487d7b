"""`caffe2tf features`: what a network makes of pictures, as data for other uses."""

import click

from caffe2tf.cli import options, sections, terminal

PLACE = 7


@click.command(cls=sections.Command, short_help="Store what a network makes of pictures, for other uses.")
@click.argument("model", type=options.NETWORK)
@click.argument("arguments", nargs=-1, required=True, type=options.FILE, metavar="[PROTOTXT] PICTURES")
@options.prototxt
@sections.writing(
    "-o", "--out", required=True, metavar="DIR|FILE.npz|FILE.parquet", help="Where to: a folder takes any number."
)
@sections.reading("--labels-from-names", is_flag=True, help="A picture's class is its file name up to the first dot.")
@options.device
@options.everyday
def command(
    model: str,
    arguments: tuple[str, ...],
    prototxt: str | None,
    out: str,
    labels_from_names: bool,
    device: str,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Store what MODEL makes of PICTURES: what its last layer with weights takes, or --outputs.

    PICTURES are a folder for each class, a list file (`path label` a line), TFRecords, or a folder without labels, sorted by path. A .npz
    holds the blobs, labels, classes and files. A folder gets shards of .safetensors, index.json and pictures.csv, written as
    they are computed: the same command goes on after a stop, memory stays flat, and `finetune --cache disk:DIR` takes it.
    The network text stands before or after MODEL, or after -p.

    \b
    Examples:
      caffe2tf features squeezenet_v1.0.caffemodel flowers/ --outputs pool_final -o flowers.npz
      caffe2tf features bvlc_alexnet.caffemodel flowers/ -o flowers-fc7
    """
    text, model, rest = options.leading([model, *arguments], prototxt)
    if len(rest) != 1:
        raise click.UsageError(f"takes one PICTURES, not {len(rest)}: {' '.join(rest)}")
    with terminal.hushed(verbose):
        from caffe2tf.finetuning.tables import features

    def say(line: str) -> None:
        if not quiet:
            terminal.echo(terminal.with_flags(line, command), err=True)

    with terminal.notes(verbose and not quiet):
        features(
            model,
            rest[0],
            text,
            out=out,
            outputs=outputs,
            labels_from_names=labels_from_names,
            input_shape=input_shape or None,
            force=force,
            device=device,
            say=say,
            bar=lambda what, total: terminal.progress(what, total, quiet, count=True),
            hushed=lambda: terminal.hushed(verbose),
        )
