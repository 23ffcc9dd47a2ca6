"""One module per command: parse, call, print. The only modules that know Typer."""
