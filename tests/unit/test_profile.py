"""The normalisation profile: which stored values a program may add to."""

from __future__ import annotations

import pytest

from identity_cli.errors import ProfileMismatchError
from identity_cli.graph.normalize import PROFILE_VERSION
from identity_cli.graph.profile import check_profile, effective_region
from identity_cli.postgres.schema import Profile


@pytest.mark.parametrize("version", range(1, PROFILE_VERSION + 1))
@pytest.mark.parametrize("region", [None, "US"])
def test_profile_of_an_older_version_is_accepted(version: int, region: str | None) -> None:
    check_profile(Profile(version, region), region)
    check_profile(None, region)


@pytest.mark.parametrize("version", range(1, PROFILE_VERSION + 1))
@pytest.mark.parametrize(
    ("stored", "region", "hint"),
    [("US", None, "use --region US"), ("US", "GB", "use --region US"), (None, "US", "leave")],
)
def test_another_region_is_refused(
    version: int, stored: str | None, region: str | None, hint: str
) -> None:
    with pytest.raises(ProfileMismatchError) as caught:
        check_profile(Profile(version, stored), region)
    assert (caught.value.hint or "").startswith(hint)


def test_newer_version_is_refused() -> None:
    with pytest.raises(ProfileMismatchError) as caught:
        check_profile(Profile(PROFILE_VERSION + 1, "US"), "US")
    assert "release of identity" in (caught.value.hint or "")


def test_given_region_precedes_the_stored_one() -> None:
    stored = Profile(1, "US")
    assert effective_region("GB", stored) == "GB"
    assert effective_region(None, stored) == "US"
    assert effective_region("GB", None) == "GB"
    assert effective_region(None, None) is None
    assert effective_region(None, Profile(2, None)) is None
