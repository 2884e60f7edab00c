"""What a sign-in still has to show: every combination."""

from itertools import permutations

import pytest

from magicauth.flows.proofs import missing


@pytest.mark.parametrize(
    ("has_password", "shown", "wanted"),
    [
        (False, (), "email"),
        (False, ("email",), None),
        (False, ("password",), "email"),
        (False, ("email", "password"), None),
        (True, (), "email"),
        (True, ("email",), "password"),
        (True, ("password",), "email"),
        (True, ("email", "password"), None),
    ],
)
def test_what_is_missing_next(has_password, shown, wanted):
    for order in permutations(shown):
        assert missing(has_password, order) == wanted
        assert missing(has_password, set(order)) == wanted


def test_a_proof_nobody_asked_for_stands_in_for_none():
    assert missing(True, ("totp", "passkey", "Email", "")) == "email"
    assert missing(True, ("email", "totp")) == "password"


def test_whoever_shows_what_is_missing_gets_there():
    for has_password in (False, True):
        shown = []
        while (wanted := missing(has_password, shown)) is not None:
            assert wanted not in shown
            shown.append(wanted)
        assert set(shown) == ({"email", "password"} if has_password else {"email"})
