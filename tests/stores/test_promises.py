"""Promises against a real Redis: one of many presses is the first, and is believed once it has kept its own."""

import pytest
from instruments import in_context, later

from magicauth import promises


@pytest.fixture(autouse=True)
def context(app):
    """What the store needs to run outside of a request."""
    with app.app_context():
        yield app


def test_of_many_one_is_the_first_and_all_go_on_with_its_challenge(context):
    made = in_context(context, lambda _: promises.make("a press"), 20)
    assert [is_first for _, is_first in made].count(True) == 1
    assert len({promise.id for promise, _ in made}) == 1
    assert promises.make("another press")[1]


def test_it_is_kept_where_its_maker_says_so():
    promise, _ = promises.make("a press")
    assert promises.look("a press") == promise and not promise.kept
    promises.keep("a press", promise)
    found, is_first = promises.make("a press")
    assert (found.id, found.kept, is_first) == (promise.id, True, False)


@pytest.mark.parametrize("kept", [True, False])
def test_of_many_who_find_it_over_one_is_the_next(context, kept):
    over, _ = promises.make("a press")
    if kept:
        promises.keep("a press", over)
        over = promises.look("a press")
    made = in_context(context, lambda _: promises.make("a press", over=over), 20)
    assert [is_first for _, is_first in made].count(True) == 1
    (new_id,) = {promise.id for promise, _ in made}
    assert new_id != over.id


def test_whoever_keeps_it_too_late_leaves_the_place_of_the_next():
    slow, _ = promises.make("a press")
    quick, _ = promises.make("a press", over=slow)
    promises.keep("a press", slow)
    assert promises.look("a press") == quick


def test_it_is_over_with_the_minute_kept_or_not_and_where_it_is_forgotten(redis):
    promise, _ = promises.make("a press")
    promises.keep("a press", promise)
    with later(redis, 61):
        assert promises.make("a press")[1]
    promises.forget("a press")
    assert promises.make("a press")[1]
