"""Which column is which field: as somebody says it, else by its own name, else by what the field is usually called.

What is not sure is a question that names the flags to answer it with; nothing is chosen between two columns.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property

from consumers.errors import DataRefused
from consumers.field_paths import OWN_NAME, alternatives, root_of
from consumers.files.looks import kind_of_cell, looks_like_a_row
from consumers.files.rows import Kind
from consumers.schemas import CONTEXT_NAMES, Interaction, Item, User

FIELDS: dict[Kind, tuple[str, ...]] = {
    "interactions": Interaction.__struct_fields__,
    "items": Item.__struct_fields__,
    "users": User.__struct_fields__,
}
REQUIRED: dict[Kind, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "timestamp"),
    "items": ("item_id",),
    "users": ("user_id",),
}
MATTERS = ("event_type",)  # an interaction counts by it: two candidates are a question, though it need not be there

_USER = (
    "user", "uid", "userno", "visitor", "visitorid", "customer", "customerid", "customerno", "reviewer", "reviewerid",
    "member", "memberid", "accountid", "buyerid", "shopperid", "readerid", "viewerid", "listenerid", "playerid",
    "subscriberid", "profileid", "personid", "householdid", "userpseudoid",
)  # fmt: skip
_ITEM = (
    "item", "iid", "itemno", "product", "productid", "productno", "asin", "article", "articleid", "movie", "movieid",
    "film", "filmid", "book", "bookid", "isbn", "song", "songid", "track", "trackid", "artistid", "sku", "skuid",
    "stockcode", "news", "newsid", "contentid", "documentid", "docid", "videoid", "businessid", "venueid", "poiid",
    "placeid", "gameid", "appid", "listingid", "recipeid", "courseid", "offerid", "postid", "goodsid", "hotelid",
    "jobid",
)  # fmt: skip
_TIME = (
    "time", "ts", "datetime", "date", "unixtime", "unixtimestamp", "unixreviewtime", "epoch", "eventtime", "eventdate",
    "eventtimestamp", "eventts", "createdat", "occurredat", "timestampms", "timestamputc", "invoicedate", "orderdate",
    "purchasedate", "transactiondate", "transactiondt", "tdat", "visittime", "clicktime", "viewedat", "when",
)  # fmt: skip
SYNONYMS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "interactions": {
        "user_id": _USER,
        "item_id": _ITEM,
        "timestamp": _TIME,
        "event_type": (
            "event", "eventname", "action", "actiontype", "type", "feedbacktype", "behavior", "behaviour",
            "behaviortype", "behaviourtype", "interaction", "interactiontype", "activity", "activitytype", "kind",
        ),
        "value": ("rating", "overall", "stars", "eventvalue", "ratingvalue"),
        "session_id": ("session",),
    },
    "items": {
        "item_id": ("id", *_ITEM),
        "title": (
            "name", "itemname", "itemtitle", "productname", "producttitle", "prodname", "movietitle", "booktitle",
            "headline", "trackname", "songname",
        ),
        "categories": ("category", "genre", "genres", "categoryname", "class"),
        "timestamp": ("creationtimestamp",),
        "hidden": ("ishidden",),
    },
    "users": {"user_id": ("id", *_USER)},
}  # fmt: skip
"""What our fields are usually called, without case, `_`, `-` and spaces: the usual name is in one row alone."""


@dataclass(frozen=True)
class Matched:
    """Which column is which field.

    `said`: what was found by a usual name, for the first look. `open`: what might be a field, and was left. `unread`:
    columns that are no field of an interaction, in a file of no source that is known.
    """

    field_map: Mapping[str, str]
    said: Mapping[str, str] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileColumns:
    """What a file has, as far as names tell.

    Args:
        where: what messages call the file.
        names: of its columns or fields.
        kind: what its rows are.
        has: whether an expression of a field map finds anything.
        headless: whether the user, or the format, gave the names.
        text: whether the cells are text, so that the line of names may be a row.
        mixed: whether each row has its own names, so that some may have ours.
        inside: the names once more, of what holds others the paths to those; asked for where a field is not found.
    """

    where: object
    names: Sequence[str]
    kind: Kind
    has: Callable[[str], bool]
    headless: bool = False
    text: bool = False
    mixed: bool = False
    inside: Callable[[], Sequence[str]] | None = None

    @cached_property
    def paths(self) -> Sequence[str]:
        return self.inside() if self.inside else self.names


def matched(
    columns: FileColumns,
    given: Mapping[str, str],
    preset: Mapping[str, str],
    strict: bool = True,
    known: Sequence[str] = (),
) -> Matched:
    """The field map of a file: what was given, then what the preset says, then names.

    Args:
        columns: what the file has.
        given: our field → theirs, as somebody said.
        preset: the same, as the format says; what the file does not have of it counts for nothing.
        strict: whether what was given has to be there.
        known: fields that no column is needed for.

    Raises DataRefused with the flags that answer it, where a field that has to be there is not found, or may be two.
    """
    fields, kind = FIELDS[columns.kind], columns.kind
    found = {ours: _that_is_there(columns, theirs) for ours, theirs in preset.items() if columns.has(theirs)}
    found |= {ours: _that_is_there(columns, theirs) for ours, theirs in given.items() if columns.has(theirs)}
    own = columns.names if columns.mixed else ()
    absent = {ours: theirs for ours, theirs in given.items() if not columns.has(theirs) and ours not in own}
    if strict and absent:
        raise DataRefused(_not_there(columns, absent))
    taken = {root_of(path) for theirs in found.values() for path in (theirs, *alternatives(theirs))}
    for name in fields:
        if name not in found and name in columns.names:
            taken.add(name)
    said: dict[str, str] = {}
    questions: dict[str, list[str]] = {}
    for ours in fields:
        if ours in found or ours in columns.names or ours in known:
            continue
        candidates = _candidates(ours, kind, [name for name in columns.names if name not in taken])
        if len(candidates) == 1:
            found[ours] = said[ours] = candidates[0]
            taken.add(candidates[0])
        elif candidates:
            questions[ours] = candidates
    missing = [ours for ours in REQUIRED[kind] if ours not in (*found, *columns.names, *known)]
    asked = [ours for ours in questions if ours in missing or (ours in MATTERS and kind == "interactions")]
    if missing or asked:
        raise DataRefused(_question(columns, missing, {ours: questions[ours] for ours in asked}, said))
    still_open = tuple(f"{ours}: {' or '.join(names)}? name it with --map {_flag(ours, names[0])}"
                       for ours, names in questions.items())  # fmt: skip
    beside = preset or kind != "interactions"  # what is beside the fields of an item or a user is its attributes
    unread = () if beside else tuple(name for name in columns.names if name not in {*taken, *fields, *known, "_"})
    return Matched(found, said, still_open, unread)


def _that_is_there(columns: FileColumns, expression: str) -> str:
    """An expression without what the file has nowhere."""
    if expression in columns.names:
        return expression
    return "|".join(path for path in alternatives(expression) if columns.has(path))


def plain(name: str) -> str:
    """A name without what people write differently.

    >>> plain("User ID"), plain("USER_ID"), plain("userId")
    ('userid', 'userid', 'userid')
    """
    return "".join(mark for mark in name.lower() if mark not in "_- ")


def _candidates(ours: str, kind: Kind, names: Sequence[str]) -> list[str]:
    """The columns that a field may be: those of its own name in another spelling, else those of a usual name."""
    same = [name for name in names if plain(name) == plain(ours)]
    return same or [name for name in names if plain(name) in SYNONYMS[kind].get(ours, ())]


def _flag(ours: str, theirs: str) -> str:
    return shlex.quote(f"{ours}={theirs}")


def _listed(names: Sequence[str]) -> str:
    return (", ".join(names[:40]) or "none") + (", …" if len(names) > 40 else "")


def _not_there(columns: FileColumns, absent: Mapping[str, str]) -> str:
    text = f"{columns.where} lacks the column(s) {', '.join(absent.values())}; it has {_listed(columns.paths)}"
    flags = []
    for ours, theirs in absent.items():
        same = [name for name in columns.paths if plain(theirs) in (plain(name), plain(_last(name)))]
        near = same or get_close_matches(theirs, columns.paths, 1)
        if len(near) == 1:
            flags.append(f"--map {_flag(ours, near[0])}")
    return f"{text}; did you mean {' '.join(flags)}" if flags else text


def _question(
    columns: FileColumns, missing: Sequence[str], asked: Mapping[str, Sequence[str]], said: Mapping[str, str]
) -> str:
    names = columns.names
    if missing and columns.text and not columns.headless and looks_like_a_row(names):
        return (
            f"{columns.where} seems to have no header, its first line looks like a row: {_listed(names)}; "
            f"did you mean {_columns_flags(names)}"
        )
    what = (
        f"{columns.where} lacks the column(s) {', '.join(missing)}"
        if missing
        else (f"{columns.where} has several columns that may be {', '.join(asked)}")
    )
    open_ = "; ".join(f"{ours} may be {' or '.join(candidates)}" for ours, candidates in asked.items())
    text = f"{what}; it has {_listed(columns.paths)}" + (f"; {open_}" if open_ else "")
    guesses = _guesses(columns, missing, asked, said)
    lists = {theirs.partition("[]")[0] for theirs in guesses.values() if "[]" in theirs}
    if len(lists) > 1:  # a row is an element of one list
        guesses = {ours: "COLUMN" if "[]" in theirs else theirs for ours, theirs in guesses.items()}
    timeless = guesses.get("timestamp") == "COLUMN" and len(names) > 1
    if timeless:
        del guesses["timestamp"]
    flags = [f"--map {_flag(ours, theirs)}" for ours, theirs in guesses.items()] + ["--order file"] * timeless
    hint = f"; did you mean {' '.join(flags)}"
    if any("COLUMN" in flag for flag in flags):
        hint = f"; say {' '.join(flags)}; COLUMN stands for the name that the file has"
        if columns.text and len(names) == 1:
            hint += "; if that is several columns, name what stands between them with --delimiter"
        elif columns.text and not columns.headless and not said and not set(FIELDS[columns.kind]) & set(names):
            hint += "; if its first line is a row, name the columns in their order with --columns"
    if timeless:
        hint += "; --order file takes the rows in their order; if a column says when, --map timestamp=COLUMN names it"
    return text + hint


SOMEBODY = (
    "user", "customer", "visitor", "member", "client", "email", "session", "anonymous", "distinct", "cookie", "device"
)  # fmt: skip
"""What a column is often called that says who it was, the better ones first."""
_WORDS = {
    "user_id": SOMEBODY,
    "item_id": (
        "item", "product", "sku", "article", "content", "eventid", "track", "song", "movie", "film", "book", "game",
        "page", "url", "uri", "title", "name", "reference",
    ),
    "timestamp": ("time", "tstamp", "date", "created", "published", "modified", "day", "year"),
}  # fmt: skip
"""What a column is often called of which nobody would take for granted that it is the field, the better ones first."""
_ABOUT = (
    "price", "quantity", "qty", "amount", "count", "total", "action", "type", "category", "status", "position", "rank",
    "rating", "currency", "discount",
)  # fmt: skip
"""What a column is called that says something of an item, and not which one it is."""
_IDS = ("id", "ids", "sku", "hash", "uri", "key", "code", "asin", "isbn")
"""With what a name ends that says which one something is, the better ones first among names of one word."""
_NO_ITEMS = ("user", "session", "review", "event", "message", "order", "transaction", "request", "row", "index")
_AT = re.compile(r"(?:[_ ]at|[a-z]At|[_ ]ts|[_ ]dt)$")


def _guesses(
    columns: FileColumns, missing: Sequence[str], asked: Mapping[str, Sequence[str]], said: Mapping[str, str]
) -> dict[str, str]:
    """For each field that is asked for the column that it might be, for the question alone; no column twice."""
    found: dict[str, str] = {}
    for ours in dict.fromkeys((*missing, *asked)):
        found[ours] = _guess(ours, columns, said, asked.get(ours), set(found.values()))
    unknown = [ours for ours, theirs in found.items() if theirs == "COLUMN"]
    free = [name for name in columns.paths if name not in (*FIELDS[columns.kind], *said.values(), *found.values())]
    if len(unknown) == 2 and unknown[1] == "timestamp" and len(free) == 1:  # no column says when
        found[unknown[0]] = free[0]
    return found


def _guess(
    ours: str, columns: FileColumns, said: Mapping[str, str], candidates: Sequence[str] | None, taken: set[str]
) -> str:
    usual = SYNONYMS[columns.kind].get(ours, ())
    if candidates is not None:
        return min(candidates, key=lambda name: usual.index(plain(name)) if plain(name) in usual else -1)
    theirs = {said.get(other) for other in REQUIRED[columns.kind]} | taken
    left = [name for name in columns.paths if name not in theirs]
    called = [name for name in left if plain(_last(name)) in (plain(ours), *usual)] or _called(ours, left)
    if called:
        return called[0]
    free = [name for name in left if name not in FIELDS[columns.kind]]
    lacking = [name for name in REQUIRED[columns.kind] if name not in (*columns.names, *said)]
    return free[0] if len(free) == len(lacking) == 1 else "COLUMN"


def _called(ours: str, names: Sequence[str]) -> list[str]:
    """Those that sound like a field, the better ones first."""
    if ours == "item_id":
        names = [name for name in names if not _has(name, (*_ABOUT, *_WORDS["user_id"]))]
    ranked = [
        (n, _rank_of_end(name), name) for n, word in enumerate(_WORDS[ours]) for name in names if _has(name, [word])
    ]
    found = [name for _, _, name in sorted(ranked, key=lambda one: one[:2])]
    if ours == "item_id":
        ids = [name for name in found if _rank_of_end(name) < len(_IDS)]
        others = [name for name in names if plain(name).endswith("id") and not _has(name, _NO_ITEMS)]
        return ids or others or found
    return found or ([name for name in names if _AT.search(name)] if ours == "timestamp" else [])


def _has(name: str, words: Sequence[str]) -> bool:
    return any(word in plain(_last(name)) for word in words)


def _rank_of_end(name: str) -> int:
    return next((n for n, end in enumerate(_IDS) if plain(_last(name)).endswith(end)), len(_IDS))


def _last(path: str) -> str:
    """The name with which a path ends."""
    return path.removesuffix("[]").rpartition(".")[2]


def _columns_flags(cells: Sequence[str]) -> str:
    """The columns of a row, as far as cells tell."""
    kinds = [kind_of_cell(cell) for cell in cells]
    names, ids = ["_"] * len(cells), iter(("user_id", "item_id"))
    time = next((n for n in reversed(range(len(cells))) if kinds[n].startswith("time")), None)
    for n, kind in enumerate(kinds):
        if n == time:
            names[n] = "timestamp"
        elif kind == "word" and "item_id" in names and "event_type" not in names:
            names[n] = "event_type"
        elif kind != "nothing":
            names[n] = next(ids, "_")
    flags = f"--columns {','.join(names)}"
    if time is None:
        return f"{flags} --order file"
    unit = kinds[time].partition(" ")[2]
    return f"{flags} --time-unit {unit}" if unit else flags


LEFT_SIDES = tuple(dict.fromkeys((*(name for fields in FIELDS.values() for name in fields), *CONTEXT_NAMES)))


def is_left_side(name: str) -> bool:
    """Whether a name may stand on the left side of a field map."""
    return name in LEFT_SIDES or name.startswith(OWN_NAME)


def wrong_left_side(names: Sequence[str]) -> str | None:
    """What is wrong with the left sides of a field map; None where nothing is.

    >>> wrong_left_side(["user_id", "context.shelf"])
    >>> wrong_left_side(["userid"]).partition(";")[0]
    "'userid' is no field of ours (did you mean user_id?)"
    """
    for name in names:
        if not is_left_side(name):
            near = get_close_matches(name, LEFT_SIDES, 1)
            like = f" (did you mean {near[0]}?)" if near else ""
            return (
                f"{name!r} is no field of ours{like}; on the left may stand {', '.join(LEFT_SIDES)}, and context.NAME "
                "or attributes.NAME for one of your own"
            )
    return None
