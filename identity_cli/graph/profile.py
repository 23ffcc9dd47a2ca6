"""The normalisation profile: a database holds values that were normalised in one way only.

It is stored in the transaction of the request that stores the first contact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from identity_cli.errors import ProfileMismatchError
from identity_cli.graph.normalize import PROFILE_VERSION
from identity_cli.postgres.schema import Profile

if TYPE_CHECKING:
    from collections.abc import Sequence

# Run it in the transaction of the request that may store the first contact: it locks the profile
# until that transaction ends. Raises SQLSTATE ID001.
CLAIM_PROFILE = "SELECT claim_profile(%s, %s)"


def check_profile(stored: Profile | None, region: str | None) -> None:
    """Check that values of this region may be added to a database with the stored profile.

    `stored` is None while the database holds no contact. Raises `ProfileMismatchError`.
    """
    wanted = wanted_profile(region)
    if stored is not None and stored != wanted:
        raise profile_mismatch(stored, wanted)


def effective_region(given: str | None, stored: Profile | None) -> str | None:
    """Return the region of phone numbers: the given one, else that of the stored profile."""
    if given is not None or stored is None:
        return given
    return stored.region


def wanted_profile(region: str | None) -> Profile:
    """Return the profile of this program for a region."""
    return Profile(PROFILE_VERSION, region)


def claim_parameters(region: str | None) -> Sequence[int | str | None]:
    """Return the parameters of `CLAIM_PROFILE` for a region."""
    return (PROFILE_VERSION, region)


def profile_mismatch(stored: Profile | None, wanted: Profile) -> ProfileMismatchError:
    """Return the error that names both profiles and the way out."""
    if stored is not None and stored.version == wanted.version:
        hint = f"use --region {stored.region}" if stored.region else "leave --region out"
    else:
        hint = "use the release of identity that wrote it, or import into a new database"
    return ProfileMismatchError(
        f"the database holds values normalised with {stored or 'another profile'},"
        f" not with {wanted}",
        hint=hint,
    )
