"""Reconciles contact requests into a graph of who is who, in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from identity_cli.graph.normalize import ContactRequest
    from identity_cli.graph.service import ConsolidatedContact, IdentityService, Outcome

__version__ = "0.1.0"

__all__ = ["ConsolidatedContact", "ContactRequest", "IdentityService", "Outcome"]


def __getattr__(name: str) -> object:
    # The command line must not pay for the database driver just to print its help.
    if name == "ContactRequest":
        from identity_cli.graph.normalize import ContactRequest

        return ContactRequest
    if name in __all__:
        from identity_cli.graph import service

        return getattr(service, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
