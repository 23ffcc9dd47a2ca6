"""The command line: the application, and the place where errors become exit codes."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from identity_cli import errors, output
from identity_cli.commands import (
    annotate,
    backfill,
    block,
    db,
    explain,
    export,
    forget,
    history,
    identify,
    import_,
    inspect,
    policy,
    report,
    runs,
    serve,
    show,
    stats,
    undo,
    unlink,
    verify,
)
from identity_cli.commands.options import HELP_NAMES, Invocation
from identity_cli.exit_codes import INTERRUPTED, PIPE_CLOSED, exit_code

app = typer.Typer(
    name="identity",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
)
app.command("identify")(identify.identify)
app.command("show")(show.show)
app.command("inspect")(inspect.inspect)
app.command("import")(import_.import_files)
app.add_typer(backfill.app, name="backfill")
app.command("annotate")(annotate.annotate)
app.command("explain")(explain.explain)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("stats")(stats.stats)
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.command("block")(block.block)
app.command("unblock")(block.unblock)
app.command("unlink")(unlink.unlink)
app.command("relink")(unlink.relink)
app.add_typer(policy.app, name="policy")
app.command("undo")(undo.undo)
app.command("forget")(forget.forget)
app.command("history")(history.history)
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
    output.install()
    code = 1
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    finally:
        # What fails here is not written at exit again, where Python would report it.
        with suppress(errors.OutputError):
            sys.stdout.flush()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit code, with errors printed to standard error."""
    invocation = Invocation()
    try:
        code = app(arguments, prog_name="identity", standalone_mode=False, obj=invocation)
        sys.stdout.flush()  # --help leaves it to Python's exit, where an error is too late
        return code if isinstance(code, int) else 0
    except errors.OutputClosedError:
        return PIPE_CLOSED
    except errors.IdentityError as error:
        if invocation.debug:
            raise
        output.error(error)
        return exit_code(error)
    except typer.TyperException as error:
        return _refuse_usage(error, arguments)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        if invocation.debug:
            raise
        output.error(
            errors.IdentityError(
                f"unexpected: {type(error).__name__}",
                hint="use --debug for the details; this is a defect, please report it",
            )
        )
        return 1


def _refuse_usage(error: typer.TyperException, arguments: list[str]) -> int:
    """Report what Typer itself refuses, before the command runs."""
    if error.exit_code == 0:
        return 0
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "identity"
    if type(error).__name__ == "NoArgsIsHelpError":  # Typer does not export the class
        output.note(error.format_message())
        return error.exit_code
    usage = errors.UsageError(error.format_message(), hint=f"{command} --help")
    output.error(usage)
    if arguments[:1] in (["import"], ["backfill"]):
        import_.save_refused_results(arguments[1:], usage)
    elif arguments[:1] == ["verify"]:
        verify.save_refused_metrics(arguments[1:], usage)
    return error.exit_code
