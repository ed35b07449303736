"""Questions from many threads are answered on one, between its pieces of work, and never stay open."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from streamer.asking.desk import QUESTIONS_AT_ONCE, Desk, NotReady
from streamer.asking.questions import Answer, ItemQuestion, Question
from tests.waiting import scaled, until


def question(n: int) -> ItemQuestion:
    return ItemQuestion(item_id=str(n))


def echo(questions: Sequence[Question]) -> list[Answer]:
    ids = [question.item_id for question in questions if isinstance(question, ItemQuestion)]
    return [Answer(200, f"{id_} by {threading.current_thread().name}".encode()) for id_ in ids]


@contextmanager
def working(desk: Desk) -> Iterator[None]:
    """A worker that does nothing but answer."""
    stop = threading.Event()

    def work() -> None:
        desk.open(echo)
        while not stop.is_set():
            desk.serve_during(lambda: stop.wait(desk.patience_s()))
        desk.close()

    worker = threading.Thread(target=work, name="worker")
    worker.start()
    try:
        until(lambda: desk.ask(question(0)).exception() is None)
        yield
    finally:
        stop.set()
        worker.join()


def test_each_is_answered_on_the_thread_of_the_worker() -> None:
    desk = Desk()
    with working(desk), ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: desk.ask(question(n)).result(scaled(10)), range(500)))
    assert [answer.body.decode() for answer in answers] == [f"{n} by worker" for n in range(500)]


def test_without_a_worker_it_is_refused_at_once_and_what_waits_when_it_ends_too() -> None:
    desk = Desk()
    with pytest.raises(NotReady):
        desk.ask(question(0)).result(0)
    desk.open(echo)
    waits = desk.ask(question(1))
    assert not waits.done()
    desk.close()
    with pytest.raises(NotReady):
        waits.result(0)
    with pytest.raises(NotReady):
        desk.ask(question(2)).result(0)


def test_a_few_at_a_time_so_that_the_stream_goes_on() -> None:
    desk = Desk()
    desk.open(echo)
    asked = [desk.ask(question(n)) for n in range(3 * QUESTIONS_AT_ONCE)]
    for turn in range(1, 4):
        desk.serve()
        assert sum(future.done() for future in asked) == turn * QUESTIONS_AT_ONCE
    assert all(future.done() for future in asked[: 3 * QUESTIONS_AT_ONCE])


def test_who_no_longer_waits_is_passed_over_and_a_fault_reaches_who_asked() -> None:
    desk, answered = Desk(), set[str]()

    def answer(questions: Sequence[Question]) -> list[Answer]:
        ids = [question.item_id for question in questions if isinstance(question, ItemQuestion)]
        answered.update(ids)
        if "1" in ids:
            raise ZeroDivisionError("a fault")
        return [Answer(200, b"")] * len(ids)

    desk.open(answer)
    futures: list[Future[Answer]] = [desk.ask(question(n)) for n in range(3)]
    futures[0].cancel()
    desk.serve()
    assert answered == {"1", "2"}
    assert isinstance(futures[1].exception(0), ZeroDivisionError)
    assert futures[2].result(0).status == 200


def test_what_only_waits_goes_on_beside_the_answers_and_raises_what_it_raises() -> None:
    desk, asked = Desk(), threading.Event()
    desk.open(echo)
    gone: list[Answer] = []

    def client() -> None:
        gone.append(desk.ask(question(7)).result(scaled(10)))
        asked.set()

    client_thread = threading.Thread(target=client)
    client_thread.start()
    assert desk.serve_during(lambda: asked.wait(scaled(10))), "the commit ended after the answer came"
    client_thread.join()
    assert gone[0].body.startswith(b"7 by")
    with pytest.raises(KeyError):
        desk.serve_during(lambda: {}["nothing"])
