"""An explanation in words: why an item stands in a user's list, with the check that it is so."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from consumers.counted import counted
from streamer.runtime.bars import text_bar
from tgn.asking.counterfactual import (
    Carrier,
    Histories,
    Standing,
    Step,
    carried_by,
    paths,
    standing,
    taken_lately,
    without,
)
from tgn.config import DAY_MS, HOUR_MS, MINUTE_MS
from tgn.model import Model

MOST = 5  # interactions that are taken out, one after the other, until the item falls
SENTENCES = 3
BARS = 8  # of the interactions that carry the item, in text
WINDOWS_MS = (DAY_MS, 7 * DAY_MS, 45 * DAY_MS)  # of an item's popularity that is taken out


@dataclass(frozen=True)
class Check:
    """What became of the item without some interactions: the graph is built again as if they had never been."""

    removed: list[Carrier]  # of the user
    others: int  # or of everybody, so many with the item itself,
    window_ms: int  # in so long a time
    before: Standing
    after: Standing

    @property
    def holds(self) -> bool:
        """Whether the item falls, in place."""
        return self.after.place == 0 or self.after.place > self.before.place


@dataclass(frozen=True)
class Explanation:
    """Of one item for one user at one time."""

    item: int
    now: int  # epoch ms
    standing: Standing
    paths: list[Step]  # the strongest evidence first
    carriers: list[Carrier]  # the largest fall first
    check: Check | None  # None: nothing that it could stand on


def explain(
    model: Model, user: int, item: int, now: int, histories: Histories, exclude_seen: bool = False
) -> Explanation:
    """Names the interactions that the item stands on, and takes them out of the graph to see whether it falls.

    (1) The user's own are taken out one after the other, at most MOST, in the order in which the score falls without
    them in the user's ring: a small set of the user's actions, as in PRINCE (Ghazimatin et al. 2020), here with the
    graph built again instead of edges cut. (2) Where it stands as before, its popularity is asked, in WINDOWS_MS.
    (3) Where that does not move it either, what the first step tried is given, and that it is no reason.
    """
    place = standing(model, user, item, now, exclude_seen)
    carriers = carried_by(model, user, item, now, exclude_seen)
    check: Check | None = None
    for taken_back, removed, window_ms in _claims(model, user, item, now, histories, carriers):
        after = standing(without(model, taken_back, histories), user, item, now, exclude_seen)
        others = 0 if removed else sum(map(len, taken_back.values()))
        tried = Check(removed=removed, others=others, window_ms=window_ms, before=place, after=after)
        if tried.holds or tried.removed or check is None or not check.removed:
            check = tried
        if tried.holds:
            break
    return Explanation(
        item=item, now=now, standing=place, paths=paths(model, user, item, now), carriers=carriers, check=check
    )


def _claims(
    model: Model, user: int, item: int, now: int, histories: Histories, carriers: list[Carrier]
) -> Iterator[tuple[dict[int, list[int]], list[Carrier], int]]:
    """What the item may stand on, the likeliest first: interactions to take back, those of the user, a window."""
    for size in range(1, min(MOST, sum(carrier.fall > 0 for carrier in carriers)) + 1):
        yield {user: [carrier.back for carrier in carriers[:size]]}, carriers[:size], 0
    for window_ms in WINDOWS_MS:
        if taken_back := taken_lately(model, item, now - window_ms, histories):
            yield taken_back, [], window_ms


def in_words(explanation: Explanation, title: Callable[[int], str], history_alone: bool = False) -> str:
    """The explanation as a few lines of text.

    Args:
        title: of an item's index.
        history_alone: whether nobody asked what its popularity does.
    """
    e, place = explanation, explanation.standing
    name = title(e.item)
    if not place.place:
        lines = [f"{name} is none of the {counted(place.candidates, 'candidate')}: nothing leads there."]
    else:
        lines = [f"{name}: place {place.place} of {counted(place.candidates, 'candidate')}, score {place.score:.3f}."]
    if e.check is None:
        nothing = "Neither the history nor its popularity carries it: it is new."
        lines.append("It would score no less without any of the last interactions." if history_alone else nothing)
        return "\n".join(lines)
    strongest = {step.back: step for step in reversed(e.paths)}  # path of each interaction
    if e.check.removed:
        named = e.check.removed[:SENTENCES]
        lines += [f"  because {sentence(carrier, strongest.get(carrier.back), e.now, title)}" for carrier in named]
    else:
        lines.append(f"  because it is popular: chosen {e.check.others:,} times in {span(e.check.window_ms)}")
    if e.carriers and e.carriers[0].fall > 0:
        lines += ["", "Its score falls without each of these in the history (a weight, not yet a reason):"]
        lines += [_bar(carrier, e.carriers[0].fall, e.now, title) for carrier in e.carriers[:BARS]]
    return "\n".join([*lines, "", checked(e.check, e.now, title)])


def _bar(carrier: Carrier, largest: float, now: int, title: Callable[[int], str]) -> str:
    return (
        f"  {carrier.fall:+7.3f} {text_bar(carrier.fall, largest)} {title(carrier.item)}, {span(now - carrier.t)} ago"
    )


def sentence(carrier: Carrier, path: Step | None, now: int, title: Callable[[int], str]) -> str:
    """One interaction and its path to the item in words, without the beginning; no path: the embedding leads there."""
    when, via = f"{span(now - carrier.t)} ago", title(carrier.item)
    if path is None:
        return f"{via} was chosen {when}, and whoever chooses that is likely to choose this"
    if path.source == "repeat":
        return f"it was chosen {when}"
    how = "right after" if path.source == "transition" else "along with"
    return f"{via} was chosen {when}, and {path.share:.1%} of what is chosen {how} that is this"


def checked(check: Check, now: int, title: Callable[[int], str]) -> str:
    """The counterfactual in words."""
    removed = ", ".join(f"{title(carrier.item)} ({span(now - carrier.t)} ago)" for carrier in check.removed)
    what = removed or f"the {counted(check.others, 'interaction')} with it in {span(check.window_ms)}"
    after = f"stand at place {check.after.place}" if check.after.place else "be no candidate"
    if check.holds:
        return f"Checked: without {what} it would {after}, with score {check.after.score:.3f}."
    return f"Checked: it would {after} even without {what}; so that is evidence, but not the reason."


def span(elapsed_ms: int) -> str:
    """A span of time in the largest unit that fits."""
    for unit, size in (("day", DAY_MS), ("hour", HOUR_MS)):
        if elapsed_ms >= size:
            return f"{elapsed_ms // size} {unit}{'s' if elapsed_ms >= 2 * size else ''}"
    return f"{elapsed_ms // MINUTE_MS} min"


def titles(names: Mapping[str, str], ids: list[str]) -> Callable[[int], str]:
    """Item index → its title, or its id where it has none. `names`: by id."""
    return lambda item: names.get(ids[item]) or ids[item]
