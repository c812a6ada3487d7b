"""`caffe2tf finetune`: a new head, or any layers, trained on pictures of one's own."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from caffe2tf import spent
from caffe2tf.cli import options, sections, stopping, terminal

PLACE = 6


class _Settings(sections.Command):
    """Its options are the settings, which say themselves what they take; they are loaded when asked for."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from caffe2tf.finetuning import settings

        said = [name for name in settings.OPTIONS if name not in ("model", "prototxt", "input_shape", "outputs")]
        first, second, *rest = super().get_params(ctx)
        return [first, second, *map(_setting, said), *rest]


def _setting(name: str) -> click.Option:
    from caffe2tf.finetuning import settings

    known = settings.OPTIONS[name]

    def take(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            return value if value is None else settings.convert(name, value, "value")
        except settings.RecipeError as error:
            raise click.BadParameter(str(error).removeprefix("value: ")) from None

    flag: dict[str, Any] = {"metavar": known.metadata["metavar"], "type": str}
    if known.default is False:
        flag = {"is_flag": True}
    default = None if known.default == () else settings.text_of(known.default)
    return sections.Option(
        [f"--{name.replace('_', '-')}"], default=default, show_default=default is not None and default is not False,
        heading=known.metadata["heading"], help=known.metadata["help"], callback=take, shell_complete=_completion(name), **flag,
    )  # fmt: skip


def _completion(name: str) -> sections.Complete | None:
    """What a shell offers for the value of a setting: layers of the network, or the names that it takes."""
    from caffe2tf.finetuning import settings

    if name in ("layers", "head"):
        return sections.layers
    names = settings.OPTIONS[name].metadata["take"].names
    return sections.offered(lambda: names) if names else None


def _stages(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> list[dict[str, Any]]:
    from caffe2tf.finetuning import recipe

    return [recipe.stage(text, f"--stage {number}") for number, text in enumerate(texts, 1)]


@click.command(cls=_Settings, short_help="Train a new head, or any layers, on your own pictures.")
@click.argument("model", type=options.NETWORK, required=False)
@click.argument("text", type=options.NETWORK, required=False, metavar="[PROTOTXT]")
@options.prototxt
@sections.training(
    "--stage",
    "stages",
    multiple=True,
    callback=_stages,
    metavar="'KEY=VALUE ...'",
    help="A stretch of training that differs from the other options, from --layers to --augment. Repeatable, in order.",
)
@sections.reading("--recipe", type=options.FILE, metavar="FILE.toml", help="Take all of these settings from a file.")
@sections.writing("--resume", is_flag=True, help="Go on with the run in --out that was stopped.")
@sections.writing("--out", default="finetuned", show_default=True, metavar="DIR", help="Folder of the results.")
@sections.running(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|gpu[:N],...",
    shell_complete=sections.offered(sections.devices),
    help="The processors that train, all GPUs by default.",
)
@options.everyday
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str | None,
    text: str | None,
    prototxt: str | None,
    stages: list[dict[str, Any]],
    recipe: str | None,
    resume: bool,
    out: str,
    device: str,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
    **values: Any,
) -> None:
    """Train a new head, or any layers, of MODEL on your own pictures.

    The head, the last layer with weights, is replaced where the number of classes differs, and only it starts fresh. What
    lies below the layers that learn is computed once. PROTOTXT is the network text, where MODEL needs one, in either order; a
    network text alone starts from its fillers. The folder --out gets models, weights, history, metrics, pictures,
    report.html and recipe.toml; `caffe2tf classify DIR IMAGE` uses it. Ctrl-C stops after a step, and --resume goes on.

    \b
    Examples:
      caffe2tf finetune --layers fc8
      caffe2tf finetune deploy.prototxt net.npz --layers fc7,fc8 --data flowers/ --epochs 50
      caffe2tf finetune --stage "layers=fc8 lr=1e-3" --stage "layers=all lr=1e-5 dropout=0"
      caffe2tf finetune --resume
    """
    apart = {"out", "device", "force", "quiet", "verbose", "resume", "recipe"}
    typed = [name for name in ctx.params if name not in apart and _is_typed(ctx, name)]
    if recipe and typed:
        names = {
            param.name: param.opts[-1] if isinstance(param, click.Option) else param.make_metavar(ctx)
            for param in ctx.command.get_params(ctx)
        }
        raise click.UsageError(f"--recipe says all settings; {names[typed[0]]} has no part beside it")
    if resume and force:
        raise click.UsageError("--resume goes on with what --force would replace")

    def say(line: str) -> None:
        if not quiet:
            result = line.startswith(("epoch", "test accuracy", "validation accuracy"))
            terminal.echo(terminal.with_flags(line, ctx.command), err=not result)

    @contextlib.contextmanager
    def bar(what: str, total: int) -> Iterator[terminal.Step]:
        """With -v, once the first batch of all was learnt, what the way to it took."""
        told = not (verbose and what == "epoch 1")
        with terminal.progress(what, total, quiet, count=True) as step:

            def stepped(done: int) -> None:
                nonlocal told
                step(done)
                if not told and not quiet:
                    terminal.spent()
                told = True

            yield stepped

    with terminal.hushed(verbose), spent.on("imports"):
        from caffe2tf.finetuning import training
        from caffe2tf.finetuning.finetune import finetune

    weights, network_text = model, text
    if prototxt is not None:
        network_text, weights = options.network(model, text, prototxt=prototxt)
    settings = {name: value for name, value in values.items() if name in typed}
    try:
        with terminal.notes(verbose and not quiet):
            finetune(
                weights,
                network_text,
                out=out,
                stages=stages,
                recipe=recipe,
                resume=resume,
                force=force,
                device=device,
                input_shape=input_shape or None,
                outputs=outputs,
                say=say,
                bar=bar,
                hushed=lambda: terminal.hushed(verbose),
                **settings,
            )
    except (training.Stopped, KeyboardInterrupt) as stopped:
        told = str(stopped) or "stopped"
        terminal.echo(f"caffe2tf: {told}; go on with: caffe2tf finetune --resume --out {out}", err=True)
        sys.exit(stopping.exit_code(stopped))


def _is_typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) != click.core.ParameterSource.DEFAULT
