"""`caffe2tf completion`: the script by which a shell completes commands, options and file names."""

import click
from click.shell_completion import get_completion_class

from caffe2tf.cli import terminal

PLACE = 10


@click.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, options and file names.

    \b
    Examples, one line for each shell's own start-up file:
      bash  eval "$(caffe2tf completion bash)"                           in ~/.bashrc
      zsh   eval "$(caffe2tf completion zsh)"                            in ~/.zshrc, after compinit
      fish  caffe2tf completion fish > ~/.config/fish/completions/caffe2tf.fish   once
    """
    # Of the command as it is installed, however this was started.
    script = get_completion_class(shell)
    assert script is not None  # click knows the shells of the choice above
    terminal.echo(script(ctx.find_root().command, {}, "caffe2tf", "_CAFFE2TF_COMPLETE").source())
