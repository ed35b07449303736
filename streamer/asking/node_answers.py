"""What is known of a user, of an item, and of all."""

from typing import Any

import numpy as np

from streamer.asking.answer_models import KnownItem, KnownUser, OwnerOfSession, WorkerState
from streamer.asking.item_rankings import ItemRankings
from streamer.asking.known import Known, attributes_of
from streamer.asking.questions import Answer
from streamer.asking.refusals import QuestionRefused
from tgn.graph import DELETED, HIDDEN, LISTED

STATUS = {DELETED: "deleted", LISTED: "listed", HIDDEN: "hidden"}


class NodeAnswers:
    """Tells what the state holds of one node, or of everything."""

    def __init__(self, known: Known, rankings: ItemRankings) -> None:
        self._known, self._rankings = known, rankings

    def user(self, user_id: str) -> Answer:
        """Attributes, last interactions with the newest first, counts, and the items of the published list."""
        known, state, model = self._known, self._known.state, self._known.model
        node, users = known.known_user(user_id), model.graph.users
        record, listed = state.catalogue.user(node), state.listed.items(node)
        if not users.events[node] and record is None:
            raise QuestionRefused(404, "unknown-user", f"nothing is known of the user {user_id!r}", "user_id")
        last = [
            {
                "item_id": known.id_of(int(users.ring_item[node, place])),
                "title": state.catalogue.title_of(int(users.ring_item[node, place])),
                "timestamp": int(users.ring_time[node, place]),
                "weight": float(users.ring_weight[node, place]),
            }
            for place in model.ring_places(node)
        ]
        told: dict[str, Any] = {
            "user_id": user_id,
            "attributes": {} if record is None else record.attributes or {},
            "interactions": int(users.events[node]),
            "last": last,
            "list": None if listed is None else [known.id_of(item) for item in listed],
        }
        return known.told(known.clock.now_ms(), KnownUser, **told)

    def session(self, session_id: str) -> Answer:
        """The user whose a session is; null where it is nobody's, or was merged into nobody yet."""
        known, state, ids = self._known, self._known.state, self._known.model.users.ids
        owner = state.merges.owner(known.model.users.get(session_id))
        waiting = (one.merge.user_id for one in state.merges.waiting if one.merge.merge == session_id)
        told = {"session": session_id, "user_id": next(waiting, None) if owner is None else ids[owner.user]}
        return known.told(known.clock.now_ms(), OwnerOfSession, **told)

    def item(self, item_id: str) -> Answer:
        """Its record, whether it may be listed, counts, decayed popularity, and in how many published lists it is."""
        known, state, model = self._known, self._known.state, self._known.model
        node, items, now_ms = model.items.get(item_id), model.graph.items, known.clock.now_ms()
        record = None if node is None else state.catalogue.item(node)
        if node is None or node >= len(items.events) or (items.first_time[node] < 0 and record is None):
            raise QuestionRefused(404, "unknown-item", f"nothing is known of the item {item_id!r}", "item_id")
        if items.alive[node] == DELETED:
            raise QuestionRefused(404, "unknown-item", f"the item {item_id!r} is deleted", "item_id")
        told: dict[str, Any] = {
            "item_id": item_id,
            "title": None if record is None else record.title,
            "attributes": {} if record is None else attributes_of(record),
            "status": STATUS[int(items.alive[node])],
            "interactions": int(items.events[node]),
            "first_seen": self._first_seen(node, now_ms),
            "last_interaction": _time(int(items.last_time[node])) if items.events[node] else None,
            "popularity": self._rankings.popularity_of(node, now_ms),
            "lists": len(state.listed.naming(node)),
        }
        return known.told(now_ms, KnownItem, **told)

    def _first_seen(self, node: int, now_ms: int) -> int | None:
        """As `newest` ranks it; None: it is not known, or the stream has no time yet."""
        items = self._known.model.graph.items
        if items.first_time[node] < 0:
            return None
        return int(self._known.state.catalogue.new_since(np.array([node], np.int32), now_ms)[0]) or None

    def status(self) -> Answer:
        """How far the state is, how large, and how good its lists have been."""
        known, state, model = self._known, self._known.state, self._known.model
        figures = state.quality.figures(state.settings.k)
        told: dict[str, Any] = {
            "epoch": state.epoch,
            "records": state.records,
            "interactions": model.events,
            "users": len(model.users),
            "items": len(model.items),
            "clock": state.clock_ms,
            "model_version": known.model_version,
            "embeddings": model.trained_version or None,
            "pending_repairs": len(state.repairs),
            "quality": {
                name: {"value": round(ours, 6), "popularity": round(theirs, 6)}
                for name, (ours, theirs) in figures.items()
            },
            "measured": state.quality.events,
            "settings": state.in_force or {},
        }
        return known.told(known.clock.now_ms(), WorkerState, **told)


def _time(t: int) -> int | None:
    return t if t >= 0 else None
