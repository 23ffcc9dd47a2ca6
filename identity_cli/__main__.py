"""`python -m identity_cli`."""

from __future__ import annotations

from identity_cli.cli import main

if __name__ == "__main__":
    main()
