"""Questions in, answers out: what a worker says of its state between two pieces of its work."""

from collections.abc import Sequence
from typing import assert_never

from streamer.asking.asked_clock import AskedClock
from streamer.asking.item_rankings import ItemRankings
from streamer.asking.known import Known
from streamer.asking.list_answers import ListAnswers
from streamer.asking.neighbours import Neighbours
from streamer.asking.node_answers import NodeAnswers
from streamer.asking.questions import (
    Answer,
    AudienceQuestion,
    ExplanationQuestion,
    ItemQuestion,
    ListQuestion,
    NewestQuestion,
    PopularQuestion,
    PreviewQuestion,
    Question,
    RulesQuestion,
    SessionQuestion,
    SimilarQuestion,
    StatusQuestion,
    SurpriseQuestion,
    TogetherQuestion,
    TrendingQuestion,
    UserQuestion,
)
from streamer.asking.reason_answers import ReasonAnswers
from streamer.asking.refusals import QuestionRefused
from streamer.runtime.clock import Clock
from streamer.settings import Settings
from streamer.state.stream_state import StreamState
from tgn.asking.asked_lists import AskedLists


class Answers:
    """Answers questions from one state, on the thread that owns it.

    An answer changes nothing of the state. No call of a kernel takes longer than a few milliseconds; an explanation, a
    surprise and an audience are a few dozen of them.

    Args:
        state: it may be in the middle of an epoch, between two batches.
        clock: tells how long ago the stream's clock moved, see `AskedClock`.
    """

    def __init__(self, state: StreamState, settings: Settings, clock: Clock) -> None:
        self.clock = AskedClock(state, clock)
        known, asked = Known(state, self.clock), AskedLists(state.engine.model)
        self._lists = ListAnswers(known, asked)
        self._rankings = ItemRankings(known)
        self._neighbours = Neighbours(known, asked)
        self._nodes = NodeAnswers(known, self._rankings)
        self._reasons = ReasonAnswers(known, asked)

    def answer_all(self, questions: Sequence[Question]) -> list[Answer]:
        """The answer to each. Lists that are asked for together cost less than one after the other."""
        lists = [(n, question) for n, question in enumerate(questions) if isinstance(question, ListQuestion)]
        found = dict(zip((n for n, _ in lists), self._lists.answers([one for _, one in lists]), strict=True))
        return [found[n] if n in found else self.answer(question) for n, question in enumerate(questions)]

    def answer(self, question: Question) -> Answer:
        """The answer; what is wrong with the question, or not known, is an answer with a status of 400 or 404."""
        try:
            return self._answer(question)
        except QuestionRefused as refused:
            return refused.answer()

    def _answer(self, question: Question) -> Answer:
        match question:
            case ListQuestion():
                return self._lists.answers([question])[0]
            case PreviewQuestion():
                return self._lists.preview(question)
            case RulesQuestion():
                return self._lists.check(question)
            case SimilarQuestion():
                return self._neighbours.similar(question)
            case TogetherQuestion():
                return self._neighbours.together(question)
            case AudienceQuestion():
                return self._neighbours.audience(question)
            case PopularQuestion():
                return self._rankings.popular(question)
            case TrendingQuestion():
                return self._rankings.trending(question)
            case NewestQuestion():
                return self._rankings.newest(question)
            case UserQuestion():
                return self._nodes.user(question.user_id)
            case SessionQuestion():
                return self._nodes.session(question.user_id)
            case ItemQuestion():
                return self._nodes.item(question.item_id)
            case ExplanationQuestion():
                return self._reasons.explanation(question)
            case SurpriseQuestion():
                return self._reasons.surprise(question)
            case StatusQuestion():
                return self._nodes.status()
            case _:
                assert_never(question)
