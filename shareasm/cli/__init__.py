"""Cli: the commands, and the edge at which an error becomes a sentence. The only room that prints.

Whatever a command needs is imported when it runs, `pathlib` and the errors too: `--help` costs at most five times bare
Python.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from shareasm import __version__

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

COMMANDS = {  # name -> (module, one line); the module is imported only when its command runs
    "init": ("house", "Make a new desk here: desk.toml, .env.example, an example campaign."),
    "demo": ("rehearsal", "Rehearse the example day on the practice network, without any account."),
    "up": ("running", "Run worker and dashboard together; one Ctrl-C ends both."),
    "worker": ("running", "Run the worker alone: it publishes and collects."),
    "dashboard": ("running", "Run the dashboard alone."),
    "status": ("house", "Say how the desk is; exit 1 when something needs a person."),
    "db": ("house", "Look after the database: upgrade, rebuild."),
    "check": ("planning", "Find every problem of the plan and of the accounts before the day."),
    "plan": ("planning", "Sync, list, approve, pause and resume the plan."),
    "account": ("accounts", "Add, list, test and remove accounts."),
    "collect": ("listening", "Collect a campaign's conversation now."),
    "import": ("listening", "Take in an archive that another tool kept."),
    "measure": ("listening", "Print measures with definition, coverage and version."),
    "report": ("listening", "Write a campaign's report."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its module."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"shareasm.cli.{COMMANDS[cmd_name][0]}")
        return getattr(module, f"{cmd_name}_command")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names. Raise UsageError, with the nearest one, when there is none."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from shareasm.text import did_you_mean

            raise click.UsageError(f"There is no command “{args[0]}”. {did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings=HELP)
@click.option("--desk", "folder", metavar="DIR", envvar="SHAREASM_DESK", default=".",
              help="The desk's folder (or SHAREASM_DESK). Default: the current one.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")
@click.option("--quiet", is_flag=True, help="Print results only, no progress.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="shareasm")
@click.pass_context
def shareasm(ctx: click.Context, folder: str, as_json: bool, quiet: bool, debug: bool) -> None:
    """The campaign desk for online days: every post exactly once, and no mention silently missing."""
    from pathlib import Path

    from shareasm.cli.session import Session

    ctx.obj = Session(Path(folder), as_json=as_json, quiet=quiet, debug=debug)
    ctx.call_on_close(ctx.obj.close)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 done with problems that were listed, 2 refused with one line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        code = shareasm.main(_globals_first(words), prog_name="shareasm", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.UsageError as error:
        help_path = error.ctx.command_path if error.ctx else "shareasm"
        words = error.format_message()
        _refuse(f"{words}{'' if words.endswith(('.', '?', '!')) else '.'} See `{help_path} --help`.")
    except click.ClickException as error:
        _refuse(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away: nothing is wrong
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        _refuse(_words_for(error))


def _words_for(error: Exception) -> str:
    """Return the one line that a person reads instead of a traceback."""
    from shareasm.errors import DeskError

    if isinstance(error, DeskError):
        return str(error)
    if isinstance(error, OSError):
        return _os_words(error)
    first_line = (str(error).splitlines() or [""])[0][:200]
    return f"A fault in shareasm itself ({type(error).__name__}: {first_line}). Add --debug and send it to us."


def _refuse(sentence: str) -> None:
    click.echo(f"error: {' '.join(sentence.split())}", err=True)
    sys.exit(2)


def _os_words(error: OSError) -> str:
    import errno

    what = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename else ""
    todo = "Free some space and try again." if error.errno == errno.ENOSPC else "Check the path and who owns it."
    return f"{where}{what}. {todo}"


def _globals_first(words: list[str]) -> list[str]:
    """Let `--json`, `--quiet`, `--debug` and `--desk DIR` stand anywhere: people write them last."""
    first: list[str] = []
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            rest += [word, *waiting]
        elif word in {"--json", "--quiet", "--debug"} or word.startswith("--desk="):
            first.append(word)
        elif word == "--desk":
            first += [word, *([following] if (following := next(waiting, None)) is not None else [])]
        else:
            rest.append(word)
    return first + rest
