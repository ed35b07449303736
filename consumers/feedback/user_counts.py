"""What each user adds to results, and what they did before: the sums that intervals are made of.

The outcomes of the time before an experiment say much of those of its time, and the experiment cannot have changed them
(CUPED: Deng, Xu, Kohavi and Walker 2013). Before is, for each user and arm: outcomes on the surface of the arm whose
window ended before the one in which the user's first list of the arm was made, and began at most `JoinRules.past_ms`
before that. First is the one that stands first in the log; nothing depends on a clock.

Users who are dealt together do not vary by themselves: squares and products are of what their group adds as a whole,
and nothing is known of what it did before.
"""

from collections.abc import Sequence

import msgspec

from consumers.feedback.join_state import JoinState
from consumers.feedback.kept_rows import (
    GROUPS,
    SUMS,
    ArmSums,
    KeptList,
    KeptPlace,
    UserSums,
    digest,
    of_user,
    packed,
)
from consumers.feedback.left_lists import NO_ARM
from consumers.feedback.rules import JoinRules
from consumers.feedback.totals import COUNTS, Arm

NOBODY_DIGEST = digest("")
Move = tuple[KeptPlace, str, int, int]
"""Where, which count, how much, and when."""
_user_sums, _arm_sums = msgspec.msgpack.Decoder(UserSums), msgspec.msgpack.Decoder(ArmSums)


class UserCounts:
    """Adds to totals, and to the sums of users, in a state that its owner commits."""

    def __init__(self, state: JoinState, rules: JoinRules) -> None:
        self._state, self._rules = state, rules

    def add(self, user: bytes, visit: str, moves: Sequence[Move]) -> None:
        """Counts what a user did. `visit`: each of nobody's lists is a user of its own, without a past."""
        if not moves:
            return
        key, rules = of_user(SUMS, user, visit), self._rules
        sums = self._stored(key)
        old = {name: ArmSums([*of.sums], [*of.before], of.since) for name, of in sums.arms.items()}
        for place, count, amount, at_ms in moves:
            self._state.totals.add(at_ms, place, count, amount)
            n, window = COUNTS.index(count), rules.window_of(at_ms)
            sums.arms.setdefault(_name(place), _nothing()).sums[n] += amount
            if visit:
                continue
            sums.recent.setdefault(place.surface, {}).setdefault(window, _none())[n] += amount
            for name, of in sums.arms.items():
                if name.startswith(f"{place.surface}\n") and of.since - rules.past_ms <= window < of.since:
                    of.before[n] += amount
        for name, of in sums.arms.items():
            if of != (was := old.get(name, _nothing())):
                surface, arm, *group = name.split("\n", 2)
                if group:
                    self._add_to_group((surface, arm), name, was, of)
                else:
                    self._state.totals.add_user((surface, arm), was, of)
        self._keep(key, sums)

    def _add_to_group(self, arm: Arm, name: str, old: ArmSums, new: ArmSums) -> None:
        """The same of a user's group. name: of arm and group; old, new: what the user adds to it."""
        key = of_user(GROUPS, digest(name))
        stored = self._state.get(key)
        was = ArmSums(_none(), _none(), people=0) if stored is None else _arm_sums.decode(stored)
        moved = [a + after - before for a, before, after in zip(was.sums, old.sums, new.sums, strict=True)]
        people = (was.people or 0) + any(new.sums) - any(old.sums)
        now = ArmSums(moved, was.before, people=people)
        self._state.totals.add_user(arm, was, now)
        self._state.put(key, packed(now))

    def meet(self, user: bytes, row: KeptList) -> None:
        """Notes the first list that a user has in an arm, and what they did before it."""
        if row.arm == NO_ARM or user == NOBODY_DIGEST:
            return
        key, name, since = of_user(SUMS, user), f"{row.surface}\n{row.arm}", self._rules.window_of(row.at_ms)
        sums = self._stored(key)
        if name in sums.arms:
            return
        windows = sums.recent.get(row.surface, {})
        past = [counts for window, counts in windows.items() if since - self._rules.past_ms <= window < since]
        sums.arms[name] = ArmSums(_none(), [sum(column) for column in zip(_none(), *past, strict=True)], since)
        self._keep(key, sums)

    def _stored(self, key: bytes) -> UserSums:
        stored = self._state.get(key)
        return UserSums({}, {}) if stored is None else _user_sums.decode(stored)

    def _keep(self, key: bytes, sums: UserSums) -> None:
        """A window is kept while a list can come before which it lies."""
        rules = self._rules
        least = self._state.watermark_ms() - rules.kept_ms - rules.past_ms - rules.window_ms
        for windows in sums.recent.values():
            for window in [window for window in windows if window < least]:
                del windows[window]
        self._state.put(key, packed(sums))


def _name(place: KeptPlace) -> str:
    """Of an arm, and of the group where there is one."""
    return "\n".join((place.surface, place.arm, *([place.group] if place.group else [])))


def _none() -> list[int]:
    return [0] * len(COUNTS)


def _nothing() -> ArmSums:
    return ArmSums(_none(), _none())
