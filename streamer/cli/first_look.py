"""The first look at files, for people and for machines."""

from collections.abc import Mapping, Sequence
from typing import Any

from consumers.counted import agreeing, counted
from consumers.event_weights import EventWeights, Weight
from consumers.files.first_look import FirstLook, moment
from consumers.files.interactions import Nodes
from consumers.files.rows import OF_NO_COLUMN

MOST_TYPES = MOST_NAMES = 12  # that are listed for people
_UNREAD = (
    "the model reads none of them, and they go along in context: leave out of the file what is not to be sent; "
    "--map context.NAME=COLUMN has one read"
)


def in_words(look: FirstLook, weights: Mapping[str, Weight]) -> list[str]:
    """A block of lines: what the files hold, and how each event type counts."""
    refused = ", ".join(f"{count:,} {reason}" for reason, count in look.refused.items())
    rows = f"{look.good:,} good, {sum(look.refused.values()):,} refused" + (f" ({refused})" if refused else "")
    if look.left_out:
        rows += f", {look.left_out:,} of another kind"
    lines = [f"{look.source}: {look.format}", f"  rows    {rows}"]
    if look.fields:
        named = ", ".join(f"{ours} = {theirs}" for ours, theirs in look.fields.items())
        lines.append(f"  names   {named}")
    if look.unread:
        lines.append(f"  unread  {_some(look.unread)}; {_UNREAD}")
    lines.append(f"  who     {counted(look.users, 'user')}, {counted(look.items, 'item')}")
    if look.order == "file":
        lines.append("  times   made up: rows are a second apart, in the order of the file")
    elif look.first_ms is not None and look.last_ms is not None:
        lines.append(f"  times   {moment(look.first_ms)} to {moment(look.last_ms)} UTC")
    for text, count in look.nobody.items():
        same = f"{agreeing(count, 'have')} {text!r} as their user, all the same one"
        lines.append(f"          warning: {count:,} of {look.good:,} {same}; --map user_id=COLUMN names another column")
    if look.early:
        lines.append(f"          warning: {look.early:,} of {look.good:,} {agreeing(look.early, 'lie')} before 1990")
    known = EventWeights(weights)
    told = [f"{kind} {count:,} ({_weight_in_words(kind, known)})" for kind, count in look.event_types.items()]
    more = len(told) - MOST_TYPES
    if told:
        lines.append("  types   " + ", ".join(told[:MOST_TYPES]) + (f" and {more:,} more" if more > 0 else ""))
    if any(_is_unknown(kind, known) for kind in look.event_types):
        lines.append("          an unknown type counts 1, as a view does; give it another weight with --event-weight")
    return lines


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (" …" if len(names) > MOST_NAMES else "")


def _is_unknown(kind: str, weights: EventWeights) -> bool:
    return not weights.names(kind) and kind not in OF_NO_COLUMN


def _weight_in_words(kind: str, weights: EventWeights) -> str:
    weight = weights.named(kind)
    said = f"weight {weight}" if isinstance(weight, str) else f"weight {weight:g}"
    return "unknown, weight 1" if _is_unknown(kind, weights) else said


def as_json(look: FirstLook, weights: Mapping[str, Weight]) -> dict[str, Any]:
    """The same as one JSON object."""
    known = EventWeights(weights)
    types = {
        kind: {"count": count, "weight": known.named(kind), "known": not _is_unknown(kind, known)}
        for kind, count in look.event_types.items()
    }
    return {
        "source": look.source, "format": look.format, "rows": look.rows, "good": look.good, "refused": look.refused,
        "first_refused": look.first_refused or None, "left_out": look.left_out, "users": look.users,
        "items": look.items, "first_ms": look.first_ms, "last_ms": look.last_ms, "before_1990": look.early,
        "order": look.order, "names": look.fields, "questions": list(look.open), "unread": list(look.unread),
        "event_types": types,
    }  # fmt: skip


def nodes_in_words(where: object, nodes: Nodes[Any]) -> list[str]:
    """The same of a file of items or users."""
    known = nodes.known()
    formats = dict.fromkeys(f"{one.format} of {one.preset}" if one.preset else one.format for one in nodes.opened)
    deleted = len(nodes.entries) - len(known)
    rows = f"{len(known):,} good, {len(nodes.refusals.rows):,} refused" + (f", {deleted:,} deleted" if deleted else "")
    lines = [f"{where}: {', '.join(formats)}", f"  rows    {rows}"]
    if nodes.opened and nodes.opened[0].matched.said:
        lines.append("  names   " + ", ".join(f"{a} = {b}" for a, b in nodes.opened[0].matched.said.items()))
    counts = {
        name: sum(bool(getattr(node, name, None)) for node in known)
        for name in ("title", "categories", "timestamp", "hidden")
    }
    fields = [f"{count:,} with {name}" for name, count in counts.items() if count]
    attributes = dict.fromkeys(name for node in known for name in node.attributes or ())
    if attributes:
        fields.append(f"attributes {_some(list(attributes))}")
    return [*lines, "  fields  " + ", ".join(fields)] if fields else lines


def nodes_as_json(where: object, nodes: Nodes[Any]) -> dict[str, Any]:
    """The same as one JSON object."""
    known = nodes.known()
    return {
        "source": str(where),
        "format": ", ".join(dict.fromkeys(one.preset or one.format for one in nodes.opened)),
        "rows": len(nodes.entries) + len(nodes.refusals.rows),
        "good": len(nodes.entries),
        "deleted": len(nodes.entries) - len(known),
        "refused": nodes.refusals.counts(),
        "first_refused": nodes.refusals.first() if nodes.refusals.rows else None,
        "left_out": sum(one.left_out for one in nodes.opened),
        "names": dict(nodes.opened[0].matched.said) if nodes.opened else {},
    }
