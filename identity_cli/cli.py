"""The command line: the application, and the one place where errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from identity_cli import errors, output
from identity_cli.commands import db, export, identify, import_, runs, serve, show, verify
from identity_cli.commands.options import HELP_NAMES
from identity_cli.exit_codes import exit_code

app = typer.Typer(
    name="identity",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
)
app.command("identify")(identify.identify)
app.command("show")(show.show)
app.command("import")(import_.import_files)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("serve")(serve.serve)
app.add_typer(runs.app, name="runs")
app.add_typer(db.app, name="db")


def _print_version(wanted: bool) -> None:
    if wanted:
        from identity_cli import __version__

        output.line(f"identity {__version__}")
        raise typer.Exit


@app.callback()
def _identity(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Reconcile contact requests into a graph of who is who, in PostgreSQL.

    \b
    Example:
      identity import contacts.csv
      identity show --email lorraine@hillvalley.edu
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line; the exit code. Errors are on standard error when it returns."""
    try:
        code = app(arguments, prog_name="identity", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except errors.IdentityError as error:
        if output.debug:
            raise
        output.error(error)
        return exit_code(error)
    except typer.TyperException as error:
        if error.exit_code == 0:
            return 0
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "identity"
        if type(error).__name__ == "NoArgsIsHelpError":  # Typer does not export the class
            output.note(error.format_message())
        else:
            output.error(errors.UsageError(error.format_message(), hint=f"{command} --help"))
        return error.exit_code
    except typer.Abort:
        return 130
    except Exception as error:
        if output.debug:
            raise
        output.error(
            errors.IdentityError(
                f"unexpected: {type(error).__name__}",
                hint="give --debug for the details; this is a defect, please report it",
            )
        )
        return 1
