"""Commands and their group: errors as one line on stderr, modules imported when their command is used."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click

from ..errors import OutputError, PtychoPINNError
from .streams import UNPRINTABLE, prepare_streams

PROGRAM = 'ptychopinn'
DEBUG = f'{__name__}.debug'
INTERRUPTED = 130


class OneLineErrors(click.Command):
    """A click command that prints one line per error: exit 2 for bad input, 1 for a failure, 130 when stopped.

    3: a bad result under --strict.
    """

    program = PROGRAM

    def main(  # type: ignore[override]  # two overloads there
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command line and exit; the program has one name, however it was started."""
        extra.pop('standalone_mode', None)
        given = sys.argv[1:] if args is None else list(args)
        prepare_streams()
        # TensorFlow writes what it finds of the machine, and our own errors, to stderr; read when it is imported.
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
        try:
            line = shlex.join([self.program, *given])
            code = super().main(given, self.program, standalone_mode=False, **{'obj': line} | extra)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else self.program
            code = self._fail(f"{error.format_message()} See '{where} --help'.", error.exit_code)
        except click.ClickException as error:
            code = self._fail(error.format_message(), error.code if isinstance(error, Expected) else error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            code = self._fail('Interrupted.', INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it raises becomes a sentence, after a traceback if --debug asks for one."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click ends quietly when the reader of a pipe has gone
        except Exception as error:
            from .log_lines import record_error

            record_error(error)
            if ctx.meta.get(DEBUG):
                traceback.print_exc()
                click.echo(_explain(error), err=True, nl=False)
            raise _as_click(error) from error

    def _fail(self, message: str, code: int) -> int:
        with suppress(OSError):  # nobody hears it
            click.echo(f'{self.program}: error: {" ".join(message.split())}', err=True)
        return code


@dataclass(frozen=True)
class CommandEntry:
    """A command before its module is imported: where it is ('package.module:command'), and its help in one line."""

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the module of the command."""
        module, _, name = self.target.partition(':')
        command: click.Command = getattr(import_module(module), name)
        return command


class App(OneLineErrors, click.Group):
    """A group of commands, of which only the one that is used is imported."""

    def __init__(self, *args: Any, entries: Mapping[str, CommandEntry], **options: Any) -> None:
        super().__init__(*args, **options)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, sorted."""
        return sorted(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported now; None where there is none."""
        entry = self.entries.get(cmd_name)
        return None if entry is None else entry.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for --help from the entries: click would import every command for it."""
        with formatter.section('Commands'):
            formatter.write_dl([(name, self.entries[name].help) for name in self.list_commands(ctx)])


class Expected(click.ClickException):
    """One of our own errors, with its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def find_command_line() -> str:
    """The command line that is being run, as it was given."""
    context = click.get_current_context(silent=True)
    return '' if context is None else str(context.find_root().obj)


def _as_click(error: Exception) -> click.ClickException:
    if isinstance(error, PtychoPINNError):
        from .wording import say

        return Expected(say(str(error)), error.exit_code)
    if isinstance(error, OSError) and error.errno in UNPRINTABLE:  # our files have errors of their own: what it prints
        said = f'Cannot print the result ({error.strerror}); send it to a terminal, or to a file on a disk with room.'
        return Expected(said, OutputError.exit_code)
    said = str(error) or 'no message'
    return click.ClickException(f'Unexpected {type(error).__name__}: {said}; run it again with --debug to see where.')


def _explain(error: Exception) -> str:
    """What the reference says of a class of our errors, which is its docstring; empty for others."""
    known = inspect.getdoc(type(error)) if isinstance(error, PtychoPINNError) else None
    return f'\n{type(error).__name__}: {known}\n\n' if known else ''


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[DEBUG] = True


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def decorate_with(*decorators: Decorator) -> Decorator:
    """One decorator for several, the first outermost, as where they are written above a function."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(decorators):
            function = one(function)
        return function

    return decorate


debug_option: Decorator = click.option(
    '--debug', is_flag=True, expose_value=False, is_eager=True, callback=_remember_debug,
    help='Show a traceback when something fails.',
)  # fmt: skip
quiet_option: Decorator = click.option('--quiet', is_flag=True, help='No progress bar and no summary.')
json_option: Decorator = click.option('--json', 'as_json', is_flag=True, help='Print JSON instead of text.')
