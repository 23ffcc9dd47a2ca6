"""The normalisation profile: a database holds values that were normalised in one way only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from identity_cli.errors import ProfileMismatchError
from identity_cli.graph.normalize import PROFILE_VERSION
from identity_cli.postgres.database import translated
from identity_cli.postgres.schema import Profile, read_state

if TYPE_CHECKING:
    import psycopg


def claim_profile(
    connection: psycopg.Connection[Any], stored: Profile | None, region: str | None
) -> None:
    """Hold the database to one profile: the first write stores it.

    Raises `ProfileMismatchError` when the database has another one.
    """
    wanted = Profile(PROFILE_VERSION, region)
    if stored is None:
        with translated():
            connection.execute(
                "INSERT INTO normalization_profile (version, region) VALUES (%s, %s)"
                " ON CONFLICT DO NOTHING",
                (wanted.version, wanted.region),
            )
        _, stored = read_state(connection)
    if stored != wanted:
        raise profile_mismatch(stored, wanted)


def check_profile(stored: Profile | None, region: str | None) -> None:
    """Raise `ProfileMismatchError` if the database holds values of another profile."""
    wanted = Profile(PROFILE_VERSION, region)
    if stored is not None and stored != wanted:
        raise profile_mismatch(stored, wanted)


def profile_mismatch(stored: Profile | None, wanted: Profile) -> ProfileMismatchError:
    if stored is not None and stored.version == wanted.version:
        hint = f"give --region {stored.region}" if stored.region else "leave --region out"
    else:
        hint = "use the release of identity that wrote it, or import into a new database"
    return ProfileMismatchError(
        f"the database holds values normalised with {stored}, not with {wanted}", hint=hint
    )
