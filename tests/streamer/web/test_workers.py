"""Questions over HTTP to workers that move, die, stand still and come back: real servers, and desks that answer."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from consumers.schemas import WorkerAddress
from streamer.asking.question_queue import QuestionQueue
from streamer.asking.questions import Answer, ItemQuestion, PopularQuestion, Question, StatusQuestion, UserQuestion
from streamer.settings import Settings
from streamer.web.answers import ApiError
from streamer.web.server import WebServer
from streamer.web.worker_api import worker_app
from streamer.web.workers.askers import AskerToCome, LocalAsker, NobodyAnswers, NoWorkers, RemoteAsker
from streamer.web.workers.directory import WorkerDirectory
from streamer.web.workers.line import CONNECTIONS, MOST_WAITING, QUESTIONS_A_REQUEST, WorkerLine
from streamer.worker.prometheus import RunMetrics
from tests.waiting import until

IN_FLIGHT = CONNECTIONS * QUESTIONS_A_REQUEST
ELSEWHERE = Answer(421, b'{"error":{"code":"not-mine","message":"another worker has it"}}')


class Worker:
    """A queue whose questions one thread answers, behind the API of a worker."""

    def __init__(self, settings: Settings, answer: Callable[[Question], Answer], port: int = 0) -> None:
        self.asked: list[Question] = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._answer, self._stop = answer, threading.Event()
        self._queue = QuestionQueue()
        self._server = WebServer(worker_app(settings, self._queue, RunMetrics(settings)), "127.0.0.1", port)
        self._server.start()
        self.address = self._server.address
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        until(lambda: self._queue._answer is not None)

    def _work(self) -> None:
        self._queue.open(self._told)
        while not self._stop.is_set():
            self._queue.serve_during(lambda: self._stop.wait(0.002))
        self._queue.close()

    def _told(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += questions
        self.goes_on.wait()
        return [self._answer(question) for question in questions]

    def end(self) -> None:
        self.goes_on.set()
        self._stop.set()
        self._thread.join()
        self._server.stop()


@pytest.fixture
def working(settings: Settings) -> Iterator[Callable[..., Worker]]:
    """Starts workers, and ends them."""
    started: list[Worker] = []

    def start(answer: Callable[[Question], Answer] = lambda _: Answer(200, b"{}"), **changes: Any) -> Worker:
        port = changes.pop("port", 0)
        started.append(Worker(settings.model_copy(update=changes), answer, port))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


def said(address: str, *partitions: int, of: int = 1, at_ms: int = 0) -> WorkerAddress:
    return WorkerAddress(seat="s", address=address, partitions=list(partitions), of=of, at_ms=at_ms)


def directory(*claims: WorkerAddress) -> WorkerDirectory:
    known = WorkerDirectory()
    for n, claim in enumerate(claims):
        known.note(str(n), claim)
    return known


@contextmanager
def loop() -> Iterator[asyncio.Runner]:
    """An event loop that lives on between questions."""
    with asyncio.Runner() as runner:
        yield runner


def test_many_questions_share_requests_and_each_gets_its_own_answer(working: Callable[..., Worker]) -> None:
    worker = working(lambda question: Answer(200, question.model_dump_json(include={"item_id"}).encode()))

    async def ask() -> list[Answer]:
        asker = RemoteAsker(directory(said(worker.address, 0)))
        return list(await asyncio.gather(*(asker.ask(ItemQuestion(item_id=f"ü{n}")) for n in range(350))))

    answers = asyncio.run(ask())
    assert [answer.body.decode() for answer in answers] == [f'{{"item_id":"ü{n}"}}' for n in range(350)]


def test_connections_stay_open(working: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    worker, opened, really = working(), list[str](), asyncio.open_connection

    async def opens(*args: Any, **options: Any) -> Any:
        opened.append(worker.address)
        return await really(*args, **options)

    monkeypatch.setattr(asyncio, "open_connection", opens)
    with loop() as runner:
        asker = RemoteAsker(directory(said(worker.address, 0)))
        for _ in range(5 * CONNECTIONS):
            assert runner.run(asker.ask(StatusQuestion())).status == 200
    assert len(opened) <= CONNECTIONS


def test_who_lost_the_partition_says_so_and_the_new_owner_is_asked(working: Callable[..., Worker]) -> None:
    former, owner = working(lambda _: ELSEWHERE), working()
    known = directory(said(former.address, 0))

    async def ask() -> Answer:
        asker = RemoteAsker(known)
        asyncio.get_running_loop().call_later(0.1, known.note, "new", said(owner.address, 0, at_ms=1))
        return await asker.ask(UserQuestion(user_id="u"))

    assert asyncio.run(ask()) == Answer(200, b"{}")
    assert (len(former.asked), len(owner.asked)) == (1, 1)


def test_it_is_looked_again_once(working: Callable[..., Worker]) -> None:
    """Two that both say that it is the other's are not asked for ever."""
    first, second = working(lambda _: ELSEWHERE), working(lambda _: ELSEWHERE)
    with pytest.raises(NobodyAnswers):
        asyncio.run(
            RemoteAsker(directory(said(first.address, 0), said(second.address, 0, at_ms=1))).ask(
                UserQuestion(user_id="u")
            )
        )
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_a_partition_without_owner_and_no_worker_at_all() -> None:
    with pytest.raises(NoWorkers):
        asyncio.run(RemoteAsker(directory()).ask(UserQuestion(user_id="u")))
    with pytest.raises(NobodyAnswers) as raised:
        asyncio.run(RemoteAsker(directory(said("http://127.0.0.1:9", 5, of=6))).ask(UserQuestion(user_id="u")))
    assert not isinstance(raised.value, NoWorkers)


def test_a_worker_that_ends_and_comes_back_is_asked_again(working: Callable[..., Worker]) -> None:
    worker = working()
    asker = RemoteAsker(directory(said(worker.address, 0)))
    with loop() as runner:
        assert runner.run(asker.ask(StatusQuestion())).status == 200
        worker.end()
        with pytest.raises(NobodyAnswers):
            runner.run(asker.ask(StatusQuestion()))
        working(port=int(worker.address.rpartition(":")[2]))

        def answers() -> bool:
            try:
                return runner.run(asker.ask(StatusQuestion())).status == 200
            except NobodyAnswers:
                return False

        until(answers)


def test_what_any_worker_could_answer_is_asked_of_another_where_one_is_away(working: Callable[..., Worker]) -> None:
    worker = working()
    asker = RemoteAsker(directory(said("http://127.0.0.1:9", 0, of=2), said(worker.address, 1, of=2)))
    with loop() as runner:
        assert [runner.run(asker.ask(PopularQuestion())).status for _ in range(6)] == [200] * 6
        assert runner.run(asker.ask_each(StatusQuestion())).keys() == {worker.address}


def test_more_than_can_wait_is_429(working: Callable[..., Worker]) -> None:
    worker = working()
    worker.goes_on.clear()

    async def ask() -> list[Any]:
        line = WorkerLine(worker.address)
        asked = [asyncio.create_task(line.ask(StatusQuestion())) for _ in range(MOST_WAITING + IN_FLIGHT + 100)]
        while not any(task.done() for task in asked):
            await asyncio.sleep(0.01)
        worker.goes_on.set()
        return list(await asyncio.gather(*asked, return_exceptions=True))

    answers = asyncio.run(ask())
    refused = [answer for answer in answers if isinstance(answer, ApiError)]
    assert {(error.status, error.headers["Retry-After"]) for error in refused} == {(429, "1")}
    assert 0 < len(refused) <= IN_FLIGHT + 100
    assert all(answer.status == 200 for answer in answers if not isinstance(answer, ApiError))


def test_a_worker_with_keys_answers_who_has_one(working: Callable[..., Worker]) -> None:
    worker = working(api_key="secret")
    known = directory(said(worker.address, 0))
    assert asyncio.run(RemoteAsker(known, "secret").ask(StatusQuestion())).status == 200
    with pytest.raises(NobodyAnswers, match="401"):
        asyncio.run(RemoteAsker(known, "wrong").ask(StatusQuestion()))


def test_a_fault_in_one_answer_is_no_matter_to_the_others(
    working: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(question: Question) -> Answer:
        if isinstance(question, ItemQuestion):
            raise ZeroDivisionError
        return Answer(200, b"{}")

    worker = working(answer)

    async def ask() -> list[Answer]:
        asker = RemoteAsker(directory(said(worker.address, 0)))
        return list(await asyncio.gather(asker.ask(ItemQuestion(item_id="i")), asker.ask(StatusQuestion())))

    assert [answer.status for answer in asyncio.run(ask())] == [500, 200]
    assert "a question of kind item" in caplog.text


def test_without_a_worker_at_the_desk_nobody_answers() -> None:
    with pytest.raises(NobodyAnswers):
        asyncio.run(LocalAsker(QuestionQueue()).ask(StatusQuestion()))


def test_the_later_claim_counts() -> None:
    known = directory(said("http://a", 0, 1, of=2, at_ms=1), said("http://b", 0, of=2, at_ms=2))
    assert {known.address_of(f"u{n}") for n in range(20)} == {"http://a", "http://b"}
    known.note("1", None)
    assert {known.address_of(f"u{n}") for n in range(20)} == {"http://a"}
    assert known.address_of("u", but="http://a") is None


def test_until_it_may_be_asked_a_worker_says_of_itself_alone(settings: Settings) -> None:
    told = Answer(200, b"{}")
    worker = Worker(settings, lambda question: told)
    asker = AskerToCome(LocalAsker(worker._queue), "not yet")
    try:
        with pytest.raises(NoWorkers, match="not yet"):
            asyncio.run(asker.ask(PopularQuestion()))
        assert list(asyncio.run(asker.ask_each(StatusQuestion())).values()) == [told]
        asker.is_open = True
        assert asyncio.run(asker.ask(PopularQuestion())) == told
    finally:
        worker.end()
    assert [question.kind for question in worker.asked] == ["status", "popular"]
