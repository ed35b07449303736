"""Which users' lists name an item, whatever was published, withdrawn and asked before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.state.published_lists import PublishedLists

K, USERS, ITEMS = 3, 4, 5
lists = st.lists(st.integers(0, ITEMS - 1), max_size=K, unique=True)
steps = st.one_of(
    st.tuples(st.integers(0, USERS - 1), lists), st.tuples(st.integers(0, USERS - 1), st.none()), st.none()
)


@given(st.lists(steps, max_size=40))
def test_who_names_an_item_is_found_like_by_looking_at_all(taken: list[tuple[int, list[int] | None] | None]) -> None:
    published, named = PublishedLists(K), dict[int, list[int]]()
    for step in [*taken, None]:
        if step is None:  # somebody asks
            for item in range(ITEMS):
                users = [user for user, listed in sorted(named.items()) if item in listed]
                assert published.naming(item).tolist() == users
        elif step[1] is None:
            published.withdraw(np.array([step[0]], np.int32))
            named.pop(step[0], None)
        else:
            row = [*step[1], *[-1] * (K - len(step[1]))]
            published.note(np.array([step[0]], np.int32), np.array([row], np.int32), np.zeros(1, np.int32))
            named[step[0]] = step[1]


def test_lists_stay_as_they_are_while_users_and_places_become_more() -> None:
    published, rows = PublishedLists(K), dict[int, list[int]]()
    for user, width in ((0, K), (1_500, K), (1_501, K + 2), (40_000, K), (40_001, K + 4), (90_000, 1)):
        rows[user] = [user % 7 + n for n in range(width)]
        published.note(np.array([user], np.int32), np.array([rows[user]], np.int32), np.zeros(1, np.int32))
        assert published.lists() == rows
        assert published.naming(user % 7)[-1] == user
    assert not published.has_list(np.array([1, 39_999, 200_000], np.int32)).any()


def test_the_partitions_that_are_published_for_are_those_of_lists_that_are_here() -> None:
    lists = PublishedLists(K)
    assert lists.published_for() == set()
    lists.note(np.arange(3, dtype=np.int32), np.zeros((3, K), np.int32), np.array([0, 1, 2], np.int32))
    lists.note(np.array([7], np.int32), np.zeros((1, K), np.int32))  # made anew, for no interaction
    lists.withdraw(np.array([1], np.int32))
    lists.release(2)
    assert lists.published_for() == {0}
    lists.regain(2)
    assert lists.published_for() == {0, 2}
