"""What is derived from SECRET_KEY: codes, link tokens, keyed hashes; and keys that are rotated."""

import collections
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from magicauth import crypto
from magicauth.crypto import Keyring

OLD, NEW, FOREIGN = (
    ("an old key of the tests, 32 or more characters",),
    ("a new key of the tests, 32 or more",),
    ("x" * 40,),
)
PURPOSES = ["sign_in", "sign_up", "reset", "change_email", "fresh", "undo_email", "not_me"]

examples = settings(max_examples=100, deadline=None, database=None)
purposes = st.sampled_from(PURPOSES)
tokenish = st.text("AZaz09_-.", max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{26}\.[A-Za-z0-9_-]{43}", fullmatch=True)


@examples
@given(purpose=purposes)
def test_a_token_is_the_one_of_its_id_and_purpose_and_of_no_other(purpose):
    keys = Keyring(NEW)
    challenge_id, other_id = keys.new_id(), keys.new_id()
    token = keys.token(purpose, challenge_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{26}\.[A-Za-z0-9_-]{43}", token)
    assert crypto.id_in(token) == challenge_id
    assert [other for other in PURPOSES if keys.verify_token(other, token)] == [purpose]
    assert not keys.verify_token(purpose, other_id + token[26:])
    assert not Keyring(FOREIGN).verify_token(purpose, token)


@examples
@given(purpose=purposes, at=st.integers(0, 69), character=st.characters(max_codepoint=0x2FFF))
def test_a_token_with_one_character_changed_is_none(purpose, at, character):
    keys = Keyring(NEW)
    token = keys.token(purpose, keys.new_id())
    changed = token[:at] + character + token[at + 1 :]
    assert keys.verify_token(purpose, changed) == (changed == token)


@examples
@given(purpose=purposes, text=st.text() | tokenish)
@example("sign_in", "A" * 26 + "." + "A" * 43)
@example("sign_in", "A" * 26 + ".")
@example("sign_in", "")
@example("sign_in", "\ud800")
def test_what_was_not_made_here_is_no_token(purpose, text):
    keys = Keyring([*NEW, *OLD])
    assert not keys.verify_token(purpose, text)
    assert not keys.verify_tag(text, "device", "x")
    challenge_id = crypto.id_in(text)
    assert challenge_id is None or text.startswith(f"{challenge_id}.")


@examples
@given(text=st.text())
def test_only_ids_made_under_our_keys_are_known(text):
    keys = Keyring(NEW)
    assert not keys.knows(text)
    assert keys.knows(keys.new_id())
    assert not Keyring(FOREIGN).knows(keys.new_id())
    assert not keys.knows(keys.new_id() + text) or text == ""


@examples
@given(purpose=purposes, digits=st.integers(6, 10))
def test_a_code_is_always_the_same_digits_of_its_id_and_purpose(purpose, digits):
    keys = Keyring(NEW)
    challenge_id = keys.new_id()
    code = keys.code(purpose, challenge_id, digits)
    assert re.fullmatch(f"[0-9]{{{digits}}}", code)
    assert keys.code(purpose, challenge_id, digits) == code
    assert Keyring(NEW).code(purpose, challenge_id, digits) == code


def test_codes_are_spread_evenly_and_differ_between_purposes():
    keys = Keyring(NEW)
    ids = [keys.new_id() for _ in range(3000)]
    codes = [keys.code("sign_in", challenge_id, 6) for challenge_id in ids]
    assert len(set(codes)) > 2950
    # 3,000 draws of ten digits: 300 of each, give or take five standard deviations (16 each).
    for place in range(6):
        counts = collections.Counter(code[place] for code in codes)
        assert all(220 < counts[digit] < 380 for digit in "0123456789"), counts
    same = sum(keys.code("reset", challenge_id, 6) == code for challenge_id, code in zip(ids, codes, strict=True))
    assert same <= 3


def test_ids_are_never_the_same_twice():
    keys = Keyring(NEW)
    assert len({keys.new_id() for _ in range(10_000)}) == 10_000


@examples
@given(purpose=purposes)
def test_a_rotated_key_still_answers_for_what_it_made_and_makes_nothing_new(purpose):
    before, after = Keyring(OLD), Keyring([*NEW, *OLD])
    challenge_id = before.new_id()
    assert after.code(purpose, challenge_id, 6) == before.code(purpose, challenge_id, 6)
    assert after.token(purpose, challenge_id) == before.token(purpose, challenge_id)
    assert after.verify_token(purpose, before.token(purpose, challenge_id))
    assert after.verify_tag(before.tag("device", "ada"), "device", "ada")
    made = after.new_id()
    assert not before.knows(made)
    assert Keyring(NEW).token(purpose, made) == after.token(purpose, made)
    # And once the old key is taken away, what it made is gone.
    assert not Keyring(NEW).knows(challenge_id)
    assert not Keyring(NEW).verify_token(purpose, before.token(purpose, challenge_id))


@examples
@given(purpose=purposes, other=purposes)
def test_what_follows_from_a_challenge_is_always_the_same_and_nothing_else(purpose, other):
    keys = Keyring(NEW)
    challenge_id = keys.new_id()
    derived = keys.derived_id(purpose, challenge_id)
    assert keys.derived_id(purpose, challenge_id) == derived != challenge_id
    assert keys.knows(derived)
    assert (keys.derived_id(other, challenge_id) == derived) == (other == purpose)
    assert Keyring([*OLD, *NEW]).derived_id(purpose, challenge_id) == derived


@examples
@given(
    parts=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=4)
)
def test_a_tag_names_exactly_its_use_and_parts(parts):
    keys = Keyring(NEW)
    tag = keys.tag("limit", *parts)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", tag)
    assert keys.verify_tag(tag, "limit", *parts)
    assert not keys.verify_tag(tag, "device", *parts)
    assert not keys.verify_tag(tag, "limit", *parts, "")
    assert not keys.verify_tag(tag, "limit", *parts[:-1], parts[-1] + "x")
    assert not Keyring(FOREIGN).verify_tag(tag, "limit", *parts)
    if len(parts) > 1:
        assert not keys.verify_tag(tag, "limit", "".join(parts))


@examples
@given(given=st.text(), right=st.text("0123456789", min_size=6, max_size=10))
@example("٤٨٢٩١٣", "482913")
@example("482913\n", "482913")
@example("\ud800", "482913")
def test_only_the_very_same_characters_are_equal(given, right):
    assert crypto.equal(right, right)
    assert crypto.equal(given, right) == (given == right)


def test_neither_a_key_nor_an_address_is_in_what_is_derived():
    keys = Keyring(NEW)
    derived = [keys.new_id(), keys.tag("limit", "ada@example.org"), keys.token("sign_in", keys.new_id())]
    assert not [value for value in derived if NEW[0] in value or "ada" in value.lower().split("@")]
