"""Challenges against a real Redis: issued with a life, counted before compared, redeemed once."""

import pytest
from instruments import in_context, later

from magicauth import challenges
from magicauth.challenges import ADDRESS_ATTEMPTS

EMAIL = "Ada@example.org"
FIELDS = {"user_id": "a" * 32, "epoch": 3, "ip": "192.0.2.7", "browser": "Firefox on Linux", "next": "/home"}


@pytest.fixture
def context(app):
    """What the store needs to run outside of a request."""
    with app.app_context():
        yield app


def wrong(challenge):
    """A code of the right form that is not the challenge's."""
    return challenge.code[:-1] + str((int(challenge.code[-1]) + 1) % 10)


def follow_up(first, send=1, purpose="sign_up"):
    """The challenge that follows from `first`, as the worker that reads it anew for each letter opens it."""
    return challenges.follow_up(challenges.get(first.id), send, purpose, EMAIL)


def test_what_was_issued_is_what_is_found(context):
    issued = challenges.issue("sign_in", EMAIL, **FIELDS)
    found = challenges.get(issued.id)
    assert found == issued
    assert (found.email, found.attempts, found.sends, found.handed) == (EMAIL, 0, 1, 0)
    assert {name: getattr(found, name) for name in FIELDS} == FIELDS


def test_no_two_are_alike(context):
    issued = [challenges.issue("sign_in", EMAIL) for _ in range(200)]
    assert len({challenge.id for challenge in issued}) == len({challenge.token for challenge in issued}) == 200


@pytest.mark.parametrize(
    ("purpose", "life"), [("sign_in", 600), ("sign_up", 86_400), ("reset", 3600), ("fresh", 600), ("not_me", 259_200)]
)
def test_it_is_born_with_its_life(context, redis, purpose, life):
    challenge = challenges.issue(purpose, EMAIL)
    assert life - 100 <= redis.ttl(f"magicauth:challenge:{challenge.id}") <= life
    with later(redis, life + 1):
        assert challenges.get(challenge.id) is None


@pytest.mark.parametrize("unknown", ["", "x", "*", "A" * 26, "magicauth:*", "\u00e9" * 26])
def test_what_was_never_issued_is_not_found(context, unknown):
    challenges.issue("sign_in", EMAIL)
    assert challenges.get(unknown) is None


def test_a_right_code_is_right_and_not_yet_redeemed(context):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    assert challenges.attempt(challenge, challenge.code) == (True, 4)
    assert challenges.get(challenge.id).attempts == 1


def test_guesses_are_counted_down_and_then_nothing_is_compared(context):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    told = [challenges.attempt(challenge, wrong(challenge)) for _ in range(5)]
    assert told == [(False, left) for left in (4, 3, 2, 1, 0)]
    assert challenges.get(challenge.id).attempts_left == 0
    assert challenges.attempt(challenge, challenge.code) == (False, -1)
    assert challenges.attempt(challenge, challenge.code) == (False, -1)


def test_a_stranger_has_no_right_code(context):
    challenge = challenges.issue("sign_in", EMAIL)
    assert challenges.attempt(challenge, challenge.code) == (False, 4)


def test_one_that_is_gone_is_not_made_again_by_a_guess(context, redis):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    assert challenges.redeem(challenge)
    assert challenges.attempt(challenge, challenge.code) == (False, -1)
    assert not challenges.attempt_address(challenge, EMAIL.lower())
    assert challenges.resend(challenge) == (None, 0)
    challenges.handed_over(challenge, 1)
    assert redis.keys("magicauth:challenge:*") == []


@pytest.mark.parametrize("typed", ["", " ", "12345", "1234567", "\u0661" * 6, "a" * 6, "0" * 1000, "\ud800"])
def test_what_is_no_code_costs_a_guess_and_is_wrong(context, typed):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    assert challenges.attempt(challenge, typed) == (False, 4)


def test_of_a_hundred_guesses_at_once_five_are_compared(context):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    told = in_context(
        context, lambda n: challenges.attempt(challenge, challenge.code if n % 3 else wrong(challenge)), 100
    )
    assert sorted(left for _, left in told if left >= 0) == [0, 1, 2, 3, 4]
    assert all(not right for right, left in told if left < 0)


def test_of_a_hundred_who_redeem_at_once_one_goes_on(context):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    assert in_context(context, lambda _: challenges.redeem(challenge), 100).count(True) == 1


def test_a_link_is_opened_as_often_as_one_likes_and_changes_nothing(context, redis):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    before = redis.dump(f"magicauth:challenge:{challenge.id}")
    for _ in range(20):
        assert challenges.open_link(challenge.token, ["sign_in", "reset"]) == challenge
    assert redis.dump(f"magicauth:challenge:{challenge.id}") == before


def test_a_link_opens_nothing_of_another_purpose(context):
    for purpose in ("sign_in", "sign_up", "reset", "change_email", "fresh", "undo_email", "not_me"):
        challenge = challenges.issue(purpose, EMAIL, **FIELDS)
        others = {"sign_in", "sign_up", "reset", "change_email", "fresh", "undo_email", "not_me"} - {purpose}
        assert challenges.open_link(challenge.token, others) is None
        assert challenges.open_link(challenge.token, [purpose]) == challenge


def test_a_stored_purpose_that_was_tampered_with_opens_nothing(context, redis):
    # The purpose is part of what the token and the code are made from.
    challenge = challenges.issue("sign_up", EMAIL, **FIELDS)
    token, code = challenge.token, challenge.code
    redis.hset(f"magicauth:challenge:{challenge.id}", "purpose", "sign_in")
    assert challenges.open_link(token, ["sign_in", "sign_up"]) is None
    assert challenges.get(challenge.id).code != code


def test_addresses_typed_at_a_link_are_counted_apart_from_codes(context):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    for _ in range(4):
        assert not challenges.attempt_address(challenge, "eve@example.org")
    found = challenges.get(challenge.id)
    assert (found.opens, found.attempts) == (4, 0)
    assert challenges.attempt_address(challenge, "ada@example.org")


def test_of_a_hundred_addresses_typed_at_once_five_are_compared(context):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    told = in_context(context, lambda _: challenges.attempt_address(challenge, "ada@example.org"), 100)
    assert told.count(True) == ADDRESS_ATTEMPTS == 5
    assert challenges.open_link(challenge.token, ["sign_in"]) is None


def test_a_letter_goes_out_again_when_the_wait_is_over(context, redis):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    again, wait = challenges.resend(challenge)
    assert again is None and 30 <= wait <= 60
    with later(redis, 60):
        again, wait = challenges.resend(challenge)
        assert (again.id, again.sends, wait) == (challenge.id, 2, 0)
        assert (again.code, again.token) == (challenge.code, challenge.token)
        # It lives as long as the first did, with the guesses that were left.
        assert 500 <= redis.ttl(f"magicauth:challenge:{challenge.id}") <= 600
        assert challenges.resend(challenge)[0] is None


def test_of_a_hundred_who_ask_again_at_once_one_is_sent_a_letter(context, redis):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    with later(redis, 61):
        told = in_context(context, lambda _: challenges.resend(challenge), 100)
        assert [again.sends for again, _ in told if again] == [2]
        assert {wait for again, wait in told if not again} <= {58, 59, 60, 61}


def test_a_spent_challenge_is_not_sent_again(context, redis):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    for _ in range(5):
        challenges.attempt(challenge, "x")
    with later(redis, 61):
        assert challenges.resend(challenge) == (None, 0)


def test_the_clock_starts_when_the_mail_server_has_the_letter_once_for_each(context, redis):
    challenge = challenges.issue("sign_in", EMAIL, **FIELDS)
    key = f"magicauth:challenge:{challenge.id}"
    with later(redis, 500):
        assert redis.ttl(key) <= 100
        challenges.handed_over(challenge, 1)
        assert redis.ttl(key) >= 500
    redis.expire(key, 50)
    challenges.handed_over(challenge, 1)
    assert redis.ttl(key) <= 50
    challenges.handed_over(challenge, 2)
    assert redis.ttl(key) >= 500
    redis.expire(key, 50)
    challenges.handed_over(challenge, 1)
    assert redis.ttl(key) <= 50


def test_what_follows_from_a_challenge_is_always_the_same(context):
    first = challenges.issue("sign_in", EMAIL)
    one = follow_up(first)
    two = follow_up(first)
    assert (one.id, one.token) == (two.id, two.token)
    assert one.id != first.id
    assert follow_up(first, send=2, purpose="sign_in").id != one.id
    assert follow_up(two).id != one.id


def test_what_follows_is_opened_once_for_each_letter(context):
    first = challenges.issue("sign_in", EMAIL)
    opened = follow_up(first)
    challenges.attempt_address(opened, "x")
    # The letter is written again: nothing begins anew, and what was answered stays so.
    assert follow_up(first).opens == 1
    challenges.redeem(opened)
    assert follow_up(first) is None
    # Somebody asked for another letter: what was answered stays so, and the letter brings a link that is good.
    later = follow_up(first, send=2)
    assert later.opens == 0 and challenges.get(opened.id) is None
    challenges.attempt_address(later, "x")
    assert follow_up(first, send=2).opens == 1
    assert follow_up(first, send=3).id == later.id


def test_what_follows_again_is_the_same_while_it_is_good(context):
    first = challenges.issue("sign_in", EMAIL)
    opened = follow_up(first)
    challenges.attempt_address(opened, "x")
    again = follow_up(first, send=2)
    assert again.id == opened.id and again.opens == 0
    for _ in range(challenges.ADDRESS_ATTEMPTS):
        challenges.attempt_address(again, "x")
    # Mistyped too often: that link stays spent.
    assert follow_up(first, send=3).id != opened.id
    assert challenges.get(opened.id).opens == challenges.ADDRESS_ATTEMPTS


def test_letters_that_are_written_in_another_order_carry_one_link(context):
    first = challenges.issue("sign_in", EMAIL)
    second_letter = follow_up(first, send=2)
    assert follow_up(first, send=1).id == second_letter.id


def test_a_letter_that_is_written_again_carries_the_link_that_is_good(context):
    first = challenges.issue("sign_in", EMAIL)
    spent = follow_up(first)
    for _ in range(challenges.ADDRESS_ATTEMPTS):
        challenges.attempt_address(spent, "x")
    good = follow_up(first, send=2)
    assert follow_up(first, send=2).id == good.id != spent.id
    assert follow_up(first, send=3).id == good.id


def test_what_ended_with_the_epoch_of_its_account_is_not_opened_again(context):
    first = challenges.issue("sign_up", EMAIL)
    opened = challenges.follow_up(challenges.get(first.id), 1, "sign_in", EMAIL, user_id="0" * 32, epoch=1)
    again = challenges.follow_up(challenges.get(first.id), 2, "sign_in", EMAIL, user_id="0" * 32, epoch=2)
    assert again.id != opened.id


def test_what_follows_from_one_that_is_over_does_not_make_it_anew(context, redis):
    first = challenges.issue("sign_in", EMAIL)
    read = challenges.get(first.id)
    challenges.redeem(first)
    challenges.follow_up(read, 1, "sign_up", EMAIL)
    assert challenges.get(first.id) is None and len(redis.keys("magicauth:challenge:*")) == 1


def test_what_was_never_ended_keeps_its_guesses_when_it_is_reopened(context):
    issued = challenges.issue("sign_in", EMAIL, **FIELDS)
    challenges.attempt(issued, wrong(issued))
    # By a request that does not know whether its own answer has ended it, and saw it before that guess.
    challenges.reopen(issued, "an end")
    assert challenges.get(issued.id).attempts == 1


def test_an_end_is_taken_back_once(context):
    """Redis may lose its answer, and what was reopened may be answered before it is tried again."""
    issued = challenges.issue("sign_in", EMAIL, **FIELDS)
    for end in ("one", "another"):
        taken = challenges.take(issued)
        challenges.reopen(taken, end)
        assert challenges.redeem(taken)
        challenges.reopen(taken, end)
        assert challenges.get(issued.id) is None
        challenges.reopen(taken, f"{end}, by somebody else")
