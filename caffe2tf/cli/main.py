"""The command `caffe2tf`: finds the commands beside it, and says every error as a line."""

import atexit
import contextlib
import functools
import gc
import importlib
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import click

from caffe2tf import __version__, cli
from caffe2tf.cli import options, stopping, terminal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_TRACEBACK = "CAFFE2TF_TRACEBACK"  # set to anything, an error shows where in caffe2tf it came from, as -v does

# Commands that do not load TensorFlow use no linear algebra: NumPy's worker threads would only cost start-up time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _end() -> None:
    """Spares Python its last look for cycles, for what goes with the process: 40 ms of every command, a second where TensorFlow is
    loaded. The bindings of PyTorch would complain of what is left."""
    if "torch" not in sys.modules:
        gc.freeze()


atexit.register(_end)


def _said(text: str, before: str, after: str) -> str:
    return text.partition(before)[2].partition(after)[0]


@functools.cache
def _stated(*folders: str) -> dict[str, str]:
    """{command: its short help} of the files in `folders` that state a PLACE, in that order, without running one; `_` in a file's
    name is `-` in the command's. The short help is the first that a file says."""
    found = []
    for entry in (entry for folder in folders for entry in os.scandir(folder)):
        if entry.name.endswith(".py"):
            with open(entry.path, encoding="utf-8") as file:
                text = file.read()
            if place := _said(text, "\nPLACE = ", "\n"):
                found.append((int(place), entry.name[:-3].replace("_", "-"), _said(text, 'short_help="', '"')))
    return {name: short for _, name, short in sorted(found)}


def _files() -> dict[str, str]:
    return _stated(*cli.__path__)


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """`errors.guarded` for a whole command; what click says and ends by itself stays, and what is of a file or stream of the system."""
    from caffe2tf.errors import guarded

    passing: list[BaseException] = []
    with guarded():
        try:
            yield
        except (click.ClickException, click.exceptions.Exit, click.Abort, OSError) as error:
            passing.append(error)
    if passing:
        raise passing[0]


class _Found(MutableMapping[str, click.Command]):
    """{name: command} of the files here; a file is imported when its command is asked for."""

    def __iter__(self) -> Iterator[str]:
        return iter(_files())

    def __len__(self) -> int:
        return len(_files())

    def __getitem__(self, name: str) -> click.Command:
        if name not in _files():
            raise KeyError(name)
        command: click.Command = importlib.import_module(f"{cli.__name__}.{name.replace('-', '_')}").command
        command.name = name
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError("a command is a file of caffe2tf/cli")

    __delitem__ = __setitem__  # type: ignore[assignment]


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, but importing no command."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, short or self.commands[name].get_short_help_str()) for name, short in _files().items()]
            )

    def main(self, *args: Any, **options: Any) -> Any:
        terminal.open_streams()
        terminal.any_encoding()
        with stopping.heeded(), terminal.all_written():
            return super().main(*args, **options)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """As click has it, each command with its whole line."""
        found = super().shell_complete(ctx, incomplete)
        for item in found:
            item.help = _files().get(item.value, item.help)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        from caffe2tf.errors import Caffe2TFError
        from caffe2tf.files import mapped

        try:
            with mapped.unchanged(), terminal.left_behind(), _guarded():
                return super().invoke(ctx)
        except Caffe2TFError as error:
            if error.__cause__ is not None and (ctx.meta.get(options.LOUD) or os.environ.get(_TRACEBACK)):
                import traceback

                terminal.echo("".join(traceback.format_exception(error.__cause__)), err=True)
            for line in terminal.with_flags(str(error), self._invoked(ctx)).split("\n"):
                terminal.echo(f"caffe2tf: {line}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as error:
            terminal.echo("caffe2tf: stopped; nothing half-written is left", err=True)
            ctx.exit(stopping.exit_code(error))
        finally:
            sys.stdout.flush()  # here click still ends silently when nobody reads on

    def _invoked(self, ctx: click.Context) -> click.Command:
        return self.get_command(ctx, ctx.invoked_subcommand or "") or self


@click.group(
    cls=_Group,
    commands=_Found(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", message="caffe2tf %(version)s")
def main() -> None:
    """Bring any Caffe network to TensorFlow 2 / Keras 3, and prove that it is still the same network.

    Results go to stdout, everything else to stderr; the exit code is 0 (done), 1 (the answer is no, or the input is
    bad) or 2 (wrong usage). Bars and colours are for terminals; NO_COLOR leaves the colours out.

    \b
    Try it without a download:
      caffe2tf demo
    Then, with a model of your own (the network text beside it, where there is one, in either order):
      caffe2tf inspect net.caffemodel
      caffe2tf convert deploy.prototxt net.caffemodel -o net.keras
      caffe2tf classify net.keras cat.jpg
    """
