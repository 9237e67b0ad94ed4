"""The command line. Each command is a module of this package, imported only when it is called.

Help texts load no other library than click: command modules import the packages that do the work inside their
functions, and the values of options from ``stas_neuro.choices``.
"""

from __future__ import annotations

import atexit
import errno
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from stas_neuro import __version__
from stas_neuro.errors import StasError, closest
from stas_neuro.exporters.lava.streams import open_standard_streams

COMMANDS: Mapping[str, str] = {
    "demo": "Compile, run, verify and price the shipped model in a minute.",
    "train": "Train a model in two stages, without and then with halting.",
    "check": "Check whether chips can run a model, and list every problem.",
    "compile": "Compile a trained model to a bundle.",
    "run": "Run a bundle on images and record results and events.",
    "verify": "Verify that torch, the reference and Lava agree.",
    "estimate": "Price a run on one chip: energy and latency.",
    "baseline": "Run the networks without halting that a run is compared with.",
    "compare": "Price runs on several chips side by side.",
    "report": "Write one page with prices of runs and everything behind them.",
    "optimise": "Search the deployments of a model that no other beats.",
    "sweep": "Run many configurations, in parallel, and collect the results.",
    "calibrate": "Fit a profile to measured runs.",
    "inspect": "Show the contents of a bundle.",
    "convert": "Write a network in the format of another tool.",
    "profiles": "List, show, validate and start hardware profiles.",
    "completion": "Print the code that lets a shell complete commands and options.",
}
PROGRAM = "stas-export"
COMPLETION = "_STAS_EXPORT_COMPLETE"
"""Environment variable in which a shell asks for completions."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, the convention of shells."""
BROKEN_PIPE = 141
"""Exit code when the reader of the output has closed the pipe: 128 + SIGPIPE."""


@dataclass
class Settings:
    """Settings of the whole program, which options of any command can set."""

    debug: bool = False
    quiet: bool = False
    if_interrupted: str = ""
    """How to go on after Ctrl-C."""


class _Commands(click.Group):
    """Lists its commands by name and summary; imports the module of a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell that completes has no use for an error
                return None
            similar = closest(cmd_name, COMMANDS)
            ctx.fail(f"there is no command '{cmd_name}'" + (f"; did you mean {similar}?" if similar else ""))
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_HELP = """Compile trained spiking transformers with adaptive halting to Loihi-class programs, and price them.

\b
First steps:
  stas-export demo
  stas-export train --data digits --preset tiny -o runs/digits
  stas-export compile runs/digits -o digits.stas
  stas-export verify digits.stas --data digits --limit 50
  stas-export run digits.stas --data digits --backend lava -o runs/digits-lava
  stas-export estimate runs/digits-lava --profile loihi2

Exit code 0: success. 1: a check failed. 2: bad input, reported in one line with its remedy.
"""


@click.command(cls=_Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
@click.option("--quiet", is_flag=True, help="Print no progress.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(settings: Settings, quiet: bool, debug: bool) -> None:
    """Parse the options of the program, which precede a command."""
    settings.quiet |= quiet
    settings.debug |= debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code.
    """
    if arguments is None:  # the process ends with the program: nothing is left to search for unused objects
        atexit.register(gc.freeze)
    open_standard_streams()
    settings = Settings()
    if instruction := os.environ.get(COMPLETION):  # set by the code that `completion` prints
        from click.shell_completion import shell_complete  # help texts do not need it

        return shell_complete(cli, {"obj": settings}, PROGRAM, COMPLETION, instruction)
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        try:
            with cli.make_context(PROGRAM, given, obj=settings) as context:
                cli.invoke(context)
        finally:
            sys.stdout.flush()  # a full disk or a closed pipe shows here, not at exit
        return 0
    except click.exceptions.Exit as done:  # after --help and --version
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say("; ".join(["interrupted", *filter(None, [settings.if_interrupted])]))
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        return BROKEN_PIPE
    except click.ClickException as error:
        return _fail(error, _usage(error), settings, error.exit_code)
    except StasError as error:
        return _fail(error, error.headline, settings, error.exit_code)
    except MemoryError as error:
        what = "there is not enough memory" + (f" ({error})" if str(error) else "")
        return _fail(error, f"{what}; use fewer images (--limit), or a machine with more", settings, 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the path"
        return _fail(error, f"{where}{error.strerror or error}; {remedy}", settings, 2)


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message} See {path} --help" if message.endswith("?") else f"{message}; see {path} --help"


def _fail(error: Exception, line: str, settings: Settings, code: int) -> int:
    if settings.debug:
        traceback.print_exception(error)
        if detail := getattr(error, "detail", ""):  # the output of Lava's processes
            print(detail, file=sys.stderr)
    _say("\n  ".join([f"error: {line}", *getattr(error, "lines", ())]))
    return code


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # only one worker of a launcher prints
        print(line, file=sys.stderr)
