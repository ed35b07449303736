"""What stands near an item: items like it, items taken along with it, users whom it suits."""

import numpy as np

from streamer.asking import near_items
from streamer.asking.answer_models import Audience, RelatedItems
from streamer.asking.known import Known
from streamer.asking.questions import Answer, AudienceQuestion, SimilarQuestion, TogetherQuestion
from tgn.asking.asked_lists import AskedLists
from tgn.asking.item_order import best
from tgn.asking.similar_items import CONTENT, TOGETHER, TRAINED, co_shares, cosines_with, mean_above_zero
from tgn.graph import I32

ACTIVE = 1_000  # users among whom those are looked for whom an item suits: those who were active last
SCORED = 16  # of them that are scored with all that is known, the likeliest ones
HALF = 2


class Neighbours:
    """Answers about the surroundings of one item.

    Vectors are compared with those of every item; among more than LARGE, with those that an index says are near.
    """

    def __init__(self, known: Known, asked: AskedLists) -> None:
        self._known, self._asked = known, asked
        self._near = {source: near_items.NearItems() for source in (CONTENT, TRAINED)}

    def similar(self, question: SimilarQuestion) -> Answer:
        """By the mean of what there is of three cosines: of content, of trained vectors, of co-interaction.

        What has none above 0 is not similar. The `source` of an item is its largest cosine.
        """
        known, model = self._known, self._known.model
        now_ms, item = known.clock.now_ms(), known.item(question.item_id)
        nodes = known.listable(now_ms, question.filter)
        nodes = self._comparable(nodes[nodes != item], item, now_ms)
        cosines = cosines_with(model, item, now_ms, nodes)
        of_source = np.stack(list(cosines.values()))
        mean = mean_above_zero(of_source)
        page = best(nodes[mean > 0], mean[mean > 0].astype(np.float64), question.k or known.settings.k, model.items)
        largest = of_source[:, np.searchsorted(nodes, [node for node, _ in page])].argmax(axis=0)
        sources = {node: list(cosines)[row] for (node, _), row in zip(page, largest, strict=True)}
        return self._told(question, now_ms, page, sources)

    def together(self, question: TogetherQuestion) -> Answer:
        """By how likely it is among what the same users take near to it."""
        known = self._known
        now_ms, item = known.clock.now_ms(), known.item(question.item_id)
        nodes, share = co_shares(self._known.model, item, now_ms)
        listed = np.isin(nodes, known.listable(now_ms, question.filter)) & (nodes != item)
        page = best(nodes[listed], share[listed], question.k or known.settings.k, known.model.items)
        return self._told(question, now_ms, page, dict.fromkeys((node for node, _ in page), TOGETHER))

    def audience(self, question: AudienceQuestion) -> Answer:
        """Those of the users who were active last whom the item suits best, and who have not had it.

        SCORED of them, half by what they took lately that is taken along with the item, half by their embedding, are
        asked how likely they choose it next among all that they could be shown: the `score` is that probability.
        """
        known, model = self._known, self._known.model
        now_ms, item = known.clock.now_ms(), known.item(question.item_id)
        likely = self._likely(item, now_ms)
        found = [(user, self._asked.odds(user, item, now_ms, exclude_seen=True, forced=True)) for user in likely]
        suited = [(user, standing) for user, standing in found if standing.place > 0]
        nodes = np.array([user for user, _ in suited], np.int32)
        chance = np.array([standing.chance for _, standing in suited], np.float64)
        page = best(nodes, chance, question.k or known.settings.k, model.users)
        place = {user: standing.place for user, standing in suited}
        users = [
            {"user_id": model.users.ids[user], "score": round(score, 6), "place": place[user]} for user, score in page
        ]
        return known.told(now_ms, Audience, item_id=question.item_id, users=users, model_version=known.model_version)

    def _comparable(self, nodes: I32, item: int, now_ms: int) -> I32:
        """Those of nodes [N] that are compared with an item: all, or of very many those that may be near."""
        if len(nodes) <= near_items.LARGE:
            return nodes
        model = self._known.model
        together, _ = co_shares(model, item, now_ms)
        wanted = [together]
        for source, vectors, version in (
            (CONTENT, model.content, ""),
            (TRAINED, model.trained.item, model.trained_version or ""),
        ):
            if item < len(vectors.vector) and vectors.vector[item].any():
                near = self._near[source].near(vectors, item, len(model.items), version)
                if near is None:
                    return nodes
                wanted.append(near)
        return near_items.among(nodes, np.concatenate(wanted))

    def _told(
        self,
        question: SimilarQuestion | TogetherQuestion,
        now_ms: int,
        page: list[tuple[int, float]],
        sources: dict[int, str],
    ) -> Answer:
        known = self._known
        places = [
            {"item_id": known.id_of(node), "score": round(score, 6), "source": sources[node]}
            | known.shown(node, question.fields)
            for node, score in page
        ]
        return known.told(
            now_ms, RelatedItems, item_id=question.item_id, items=places, model_version=known.model_version
        )

    def _likely(self, item: int, now_ms: int) -> list[int]:
        """Users who were active last and may want the item, told from a little of what is known of them."""
        model = self._known.model
        users, ring = model.graph.users, model.config.ring
        count = users.events[: len(model.users)]
        last = users.ring_time[np.arange(len(count)), (count - 1) % ring]
        last = np.where(count > 0, last, -1)
        active = np.argpartition(last, -min(ACTIVE, len(last)))[-ACTIVE:] if len(last) else np.zeros(0, np.int64)
        active = active[last[active] >= 0]
        if not len(active):
            return []
        nodes, share = co_shares(self._known.model, item, now_ms)
        near = np.zeros(len(model.graph.co.size), np.float32)
        near[nodes] = share
        wanted = model.embeddings.candidate[item]
        of_items = model.embeddings.history @ wanted + model.embeddings.candidate @ wanted
        of_items[item] = 0  # whether somebody wants it again is the ranker's business
        back = np.arange(ring)
        places = (count[active, None] - 1 - back) % ring  # [A, R] newest first
        held = users.ring_item[active[:, None], places]
        there = back < count[active, None]
        weight = there / np.sqrt(1 + back, dtype=np.float32)
        by_row = (near[held] * weight)[:, : model.config.co_sources].sum(axis=1)
        by_embedding = (of_items[held] * weight).sum(axis=1)
        chosen: list[int] = []
        for by in (by_row, by_embedding):
            rest = np.setdiff1d(np.arange(len(active)), chosen)
            chosen += rest[np.argsort(-by[rest], kind="stable")[: SCORED // HALF]].tolist()
        return [int(active[place]) for place in chosen]
