"""What the commands share: options, types of paths, the two files of a network in either order."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from caffe2tf import spent
from caffe2tf.cli import sections, terminal
from caffe2tf.cli.sections import Decorated
from caffe2tf.images import said

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

LOUD = "caffe2tf.loud"  # in click's meta: whether -v was given
NO = 1  # the exit code of an answer that is no, and of bad input; click's own for wrong usage is 2

Outputs = tuple[str, ...] | None
Shapes = dict[str | None, tuple[int, ...]]


class Path(click.Path):
    """A path that the shell completes with the files of some suffixes, else with folders, else with any file."""

    def __init__(self, *suffixes: str) -> None:
        super().__init__(path_type=str)
        self.suffixes = suffixes

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        folder, start = os.path.split(incomplete)
        with contextlib.suppress(OSError):
            names = [
                n
                for n in sorted(os.listdir(folder or "."))
                if n.startswith(start) and n.lower().endswith(self.suffixes)
            ]
            # The shells take what is offered word by word; their own completion quotes.
            if names and not any(set(name) & set(" \t\\'\"()&;$*?[") for name in names):
                whole = [CompletionItem(os.path.join(folder, name)) for name in names]
                return [CompletionItem(incomplete, type="dir"), *whole]
        return [CompletionItem(incomplete, type="file")]


_WEIGHTS = ".caffemodel", ".npy", ".npz", ".h5", ".safetensors"
_TEXTS = ".prototxt", ".pbtxt"
FILE = click.Path(dir_okay=True, path_type=str)
NETWORK = Path(*_WEIGHTS, *_TEXTS, ".keras", ".onnx", ".tflite")  # one of the two files of a network, or a whole model
TEXT = Path(".txt", ".tsv", ".lst")


def suffix(*allowed: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """A check that an output ends with one of `allowed`."""

    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is not None and not value.lower().endswith(allowed):
            raise click.BadParameter(f"'{value}'; takes a {' or '.join(allowed)}")
        return value

    return check


def shapes(ctx: click.Context | None, param: click.Parameter | None, values: Sequence[str]) -> Shapes:
    """{input, or None for the only one: shape} of every --input-shape."""
    from caffe2tf.errors import NetError
    from caffe2tf.net.net import parse_shapes

    try:
        return parse_shapes(values) if values else {}
    except NetError as error:
        raise click.BadParameter(str(error)) from None


def blobs(ctx: click.Context, param: click.Parameter, value: str | None) -> Outputs:
    """The names in --outputs, None where it is not given."""
    names = None if value is None else tuple(name.strip() for name in value.split(","))
    if names is not None and not all(names):
        raise click.BadParameter(f"'{value}'; takes names of blobs with commas between")
    return names


def load_plugins(ctx: click.Context, param: click.Parameter, names: Sequence[str]) -> None:
    """Runs every --plugin, whose types are known while the command runs."""
    if not names or ctx.resilient_parsing:  # a shell that completes runs none
        return
    from caffe2tf.plugins import plugin

    for name in names:
        ctx.with_resource(plugin(name))


def _loud(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """How much TensorFlow says, which it reads from the environment when it is imported, and whether errors say where they
    come from."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if value else "3")
    ctx.meta[LOUD] = value
    if value and not ctx.resilient_parsing:
        spent.begin()
        ctx.call_on_close(lambda: _say_spent(ctx))
    return value


def _say_spent(ctx: click.Context) -> None:
    if not ctx.params.get("quiet"):
        terminal.spent()
    spent.end()


# Options bear the names of the library's arguments: by them messages find the flags (terminal.with_flags).
prototxt = sections.reading(
    "-p",
    "--prototxt",
    type=Path(*_TEXTS, ".txt"),
    metavar="FILE",
    help="The network text (deploy.prototxt), where it is not named beside MODEL.",
)
input_shape = sections.reading(
    "--input-shape",
    multiple=True,
    callback=shapes,
    metavar="[NAME=]N,C,H,W",
    help="Shape of an input, where the files do not tell it: items, channels, height, width.",
)
outputs = sections.reading(
    "--outputs",
    callback=blobs,
    shell_complete=sections.blobs,
    metavar="BLOB,...",
    help="Cut the network to what these blobs need: layers, inputs and weights.",
)
plugin = sections.reading(
    "--plugin",
    multiple=True,
    callback=load_plugins,
    expose_value=False,
    metavar="FILE.py|NAME",
    help="Layer types of your own: run a Python file, or an installed entry point of caffe2tf.layers. Repeatable.",
)
force = sections.writing("-f", "--force", is_flag=True, help="Replace what exists.")
quiet = sections.running("-q", "--quiet", is_flag=True, help="Print errors only.")
verbose = sections.running(
    "-v",
    "--verbose",
    is_flag=True,
    callback=_loud,
    help="Print more, TensorFlow's messages and what took how long too.",
)
as_json = sections.writing("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
device = sections.running(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|gpu[:N]",
    shell_complete=sections.offered(sections.devices),
    help="The processor that runs it.",
)


def pictures(function: Decorated) -> Decorated:
    """--resize, --crop, --mean, --scale and --channels: how pictures become input, where the model says otherwise."""
    for name in reversed(list(said.SETTINGS)):
        function = _setting(name)(function)
    return function


def _setting(name: str) -> Callable[[Decorated], Decorated]:
    setting = said.SETTINGS[name]

    def take(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        from caffe2tf.errors import Caffe2TFError

        try:
            return said.convert(name, value)
        except Caffe2TFError as error:
            raise click.BadParameter(str(error).removeprefix(f"`{name}`: ")) from None

    return sections.picturing(f"--{name}", metavar=setting.take.metavar, help=setting.help, callback=take)


def everyday(function: Decorated) -> Decorated:
    """--plugin, --input-shape, --outputs, -f, -q and -v, which most commands take, in this order."""
    return plugin(input_shape(outputs(force(quiet(verbose(function))))))


def name(path: str) -> str:
    """The last part of a path, a trailing separator aside."""
    return os.path.basename(os.path.normpath(path))


def stem(path: str) -> str:
    """`name` without its suffix."""
    return os.path.splitext(name(path))[0]


def expect(*files: str | None) -> None:
    """Raises Caffe2TFError for a file that is not there and that `sample` or `download` would write, with what to type."""
    for file in files:
        if file is None or os.path.lexists(file) or not file.endswith(".caffemodel"):
            continue
        from caffe2tf.errors import Caffe2TFError
        from caffe2tf.samples import download, sample

        ways = [f"caffe2tf download {key}" for key, known in download.catalogue().items() if known[0][2] == name(file)]
        ways += [
            f"caffe2tf sample{'' if key == 'alexnet' else f' {key}'} ({one.words})"
            for key, one in sample.SAMPLES.items()
            if one.place == name(file)
        ]
        if ways:
            raise Caffe2TFError(f"{file}: no such file or directory; get it with {' or '.join(ways)}")


def network(*files: str | None, prototxt: str | None) -> tuple[str | None, str | None]:
    """(network text, model), either None where it was not given, of one file or two in either order, or one and -p.

    Raises Caffe2TFError for two texts or two models, and for a model that is a text where -p names one."""
    from caffe2tf import loading

    given = [file for file in files if file is not None]
    expect(*given)
    if prototxt is None:
        return loading.told_apart(given)
    if len(given) > 1:
        raise click.UsageError(f"-p {prototxt} and {given[1]}: the network text is named once, with -p or without")
    return prototxt, given[0] if given else None


def networks(files: Sequence[str], prototxt: str | None) -> list[tuple[str | None, str | None]]:
    """(network text, model) of each network that `files` mean: models, a text and its model in either order, models and texts of
    the same names, folders of models with their texts. Raises Caffe2TFError for a text that belongs to none or to several."""
    from caffe2tf import loading
    from caffe2tf.errors import Caffe2TFError

    whole = [one for file in files for one in loading.models_in(file)]
    if prototxt is not None and len(files) == 2:
        network(*files, prototxt=prototxt)  # refuses a second text, or a model beside a named text
    if len(whole) == 1 or prototxt is not None:
        return [one if one[0] else network(one[1], prototxt=prototxt) for one in whole]
    known = [one if one[0] else network(one[1], prototxt=None) for one in whole]
    texts = [text for text, model in known if model is None and text is not None]
    models = [(text, model) for text, model in known if model is not None]
    if not models:
        loading.told_apart(texts)  # refuses them
    if len(texts) == 1 and len(models) == 1 and models[0][0] is None:
        return [(texts[0], models[0][1])]
    named = {os.path.splitext(text)[0]: text for text in texts}
    stems = [os.path.splitext(str(model))[0] for _, model in models]
    if other := [text for stem, text in named.items() if stem not in stems]:
        raise Caffe2TFError(
            f"{other[0]}: the text of which of {len(models)} models? Name one model beside it, or call them alike"
        )
    return [(text or named.get(stem), model) for stem, (text, model) in zip(stems, models, strict=True)]


def leading(arguments: Sequence[str], prototxt: str | None) -> tuple[str | None, str, list[str]]:
    """(network text, model, what follows) of arguments that start with the one or two files of a network. A text alone is
    the model. A second file is taken for the network's by its suffix."""
    named = prototxt is None and len(arguments) > 1 and arguments[1].lower().endswith((*_WEIGHTS, *_TEXTS))
    count = 2 if named else 1
    text, model = network(*arguments[:count], prototxt=prototxt)
    return (text, model, list(arguments[count:])) if model else (None, str(text), list(arguments[count:]))


def written(out: str, size: int, quiet: bool) -> None:
    """Prints the line of a file that was written."""
    from caffe2tf import words

    if not quiet:
        terminal.echo(f"{out}  {words.size(size)}")
