"""The `accsim` command. Exit codes: 0 proved or done, 1 refuted, 2 wrong use, 3 undecided.

Beyond verdicts: 70 a defect of ours, 130 Ctrl-C, 141 whoever read the output is gone.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

import accsim
from accsim.errors import AccsimError, UnsafeLayerError
from verification import (
    layer_commands,
    model_commands,
    network_commands,
    vectors_command,
    verify_command,
)
from verification.datapath_commands import datapaths
from verification.decide import Verdict
from verification.options import EXIT

__all__ = ["app", "main"]

app = typer.Typer(
    help=(
        "Narrow integer accumulators: simulate them bit-exactly, prove that they cannot overflow,"
        " or see the input that does it."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

WRONG_USE = 2
CRASHED = 70
INTERRUPTED = 130
UNREAD = 141  # as a shell tells of a process that SIGPIPE ended

_COMMANDS = (
    verify_command.verify,
    layer_commands.explain,
    layer_commands.run,
    layer_commands.compare,
    layer_commands.search,
    vectors_command.vectors,
    model_commands.sweep,
    model_commands.minimize,
    network_commands.demo,
    network_commands.train,
    network_commands.report,
    network_commands.bench,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(accsim.__version__)  # noqa: T201
        raise typer.Exit


for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(datapaths, name="datapaths")


def main() -> None:
    """Run the command; whatever goes wrong in its use is one line and exit code 2."""
    code = _run()
    try:
        if sys.stdout is not None:  # as it is where it was closed from the start
            sys.stdout.flush()
    except BrokenPipeError:
        code = _unread()
    except OSError as error:
        code = _complain(_told(error))
    sys.exit(code)


def _run() -> int:
    """The exit code of the command."""
    try:
        return app(standalone_mode=False) or 0
    except SystemExit as error:  # what else prints ends so where its reader is gone
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return _unread()
    except BrokenPipeError:
        return _unread()
    except typer.TyperException as error:
        return _complain(error.format_message())
    except UnsafeLayerError as error:  # a layer that was to fit its register, refuted
        _complain(str(error))
        return EXIT[Verdict.REFUTED]
    except AccsimError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(_told(error))
    except MemoryError as error:
        return _complain(f"not enough memory: {error}")
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception:  # a defect of ours must not look like a verdict
        traceback.print_exc()
        return CRASHED


def _told(error: OSError) -> str:
    return ": ".join(str(part) for part in (error.strerror, error.filename) if part)


def _unread() -> int:
    """Whoever read the output has ended: nothing more is written, not even at the very end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no file of the system
        sys.stdout = sys.stderr
    return UNREAD


def _complain(text: str) -> int:
    if text:  # the help is enough where nothing was asked
        print("accsim: " + " ".join(text.replace(": Value error, ", ": ").split()), file=sys.stderr)  # noqa: T201
    return WRONG_USE
