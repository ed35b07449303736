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
