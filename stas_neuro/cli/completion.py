"""``stas-export completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from stas_neuro.cli import COMPLETION, PROGRAM, cli
from stas_neuro.cli.common import emit_json, stas_command

SHELLS = ("bash", "zsh", "fish")


@stas_command(
    'eval "$(stas-export completion bash)"    # in ~/.bashrc; in ~/.zshrc with zsh',
    "stas-export completion fish > ~/.config/fish/completions/stas-export.fish",
)
@click.argument("shell", metavar="|".join(SHELLS), type=click.Choice(SHELLS))
def command(shell: str, as_json: bool) -> None:
    """Print the code that lets a shell complete commands, options and their values with the Tab key."""
    kind = get_completion_class(shell)
    assert kind is not None
    code = kind(cli, {}, PROGRAM, COMPLETION).source()
    if as_json:
        emit_json({"shell": shell, "code": code})
    else:
        click.echo(code)
