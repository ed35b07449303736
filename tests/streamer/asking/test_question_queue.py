"""Questions from many threads are answered on one, between its pieces of work, and never stay open."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from streamer.asking.question_queue import QUESTIONS_AT_ONCE, TOGETHER, QuestionQueue, Reply
from streamer.asking.questions import Answer, ItemQuestion, Question
from tests.waiting import scaled, until


def question(n: int) -> ItemQuestion:
    return ItemQuestion(item_id=str(n))


def ask(queue: QuestionQueue, *numbers: int) -> Future[list[Reply]]:
    return queue.ask([question(n) for n in numbers])


def texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.body.decode() if isinstance(reply, Answer) else type(reply).__name__ for reply in replies]


def echo(questions: Sequence[Question]) -> list[Answer]:
    ids = [question.item_id for question in questions if isinstance(question, ItemQuestion)]
    return [Answer(200, f"{id_} by {threading.current_thread().name}".encode()) for id_ in ids]


@contextmanager
def working(queue: QuestionQueue) -> Iterator[None]:
    """A worker that does nothing but answer."""
    stop = threading.Event()

    def work() -> None:
        queue.open(echo)
        while not stop.is_set():
            queue.serve_during(lambda: stop.wait(queue.patience_s()))
        queue.close()

    worker = threading.Thread(target=work, name="worker")
    worker.start()
    try:
        until(lambda: texts(ask(queue, 0).result()) != ["NotReady"])
        yield
    finally:
        stop.set()
        worker.join()


def test_each_is_answered_on_the_thread_of_the_worker() -> None:
    queue = QuestionQueue()
    with working(queue), ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: ask(queue, n, n + 1).result(scaled(10)), range(500)))
    assert [texts(two) for two in replies] == [[f"{n} by worker", f"{n + 1} by worker"] for n in range(500)]


def test_without_a_worker_it_is_refused_at_once_and_what_waits_when_it_ends_too() -> None:
    queue = QuestionQueue()
    assert texts(ask(queue, 0).result(0)) == ["NotReady"]
    queue.open(echo)
    waits = ask(queue, 1, 2)
    assert not waits.done()
    queue.close()
    assert texts(waits.result(0)) == ["NotReady"] * 2
    assert texts(ask(queue, 2).result(0)) == ["NotReady"]
    assert ask(queue).result(0) == []


def test_a_few_at_a_time_so_that_the_stream_goes_on() -> None:
    queue = QuestionQueue()
    queue.open(echo)
    asked = [ask(queue, n) for n in range(3 * QUESTIONS_AT_ONCE)]
    for turn in range(1, 4):
        queue.serve()
        assert sum(future.done() for future in asked) == turn * QUESTIONS_AT_ONCE
    assert all(future.done() for future in asked[: 3 * QUESTIONS_AT_ONCE])
    many = ask(queue, *range(2 * QUESTIONS_AT_ONCE))  # those of one who asks too
    queue.serve()
    assert not many.done()
    queue.serve()
    assert [text.split()[0] for text in texts(many.result(0))] == [str(n) for n in range(2 * QUESTIONS_AT_ONCE)]


def test_who_was_first_does_not_wait_for_all_and_what_comes_meanwhile_is_answered_too() -> None:
    queue, done = QuestionQueue(), list[list[bool]]()
    later: list[Future[list[Reply]]] = []

    def answer(questions: Sequence[Question]) -> list[Answer]:
        done.append([one.done() for one in (*first, *later)])
        if not later:
            later.append(ask(queue, 9))
        return echo(questions)

    queue.open(answer)
    first = [ask(queue, n) for n in range(TOGETHER)]
    queue.serve()
    assert done == [[False] * TOGETHER, [True] * TOGETHER + [False]]
    assert later[0].done()


def test_who_no_longer_waits_is_passed_over_and_a_fault_reaches_who_asked() -> None:
    queue, answered = QuestionQueue(), set[str]()

    def answer(questions: Sequence[Question]) -> list[Answer]:
        ids = [question.item_id for question in questions if isinstance(question, ItemQuestion)]
        answered.update(ids)
        if "1" in ids:
            raise ZeroDivisionError("a fault")
        return [Answer(200, b"")] * len(ids)

    queue.open(answer)
    futures = [ask(queue, 0, 3), ask(queue, 1, 4), ask(queue, 2)]
    futures[0].cancel()
    queue.serve()
    assert answered == {"1", "2", "4"}
    assert texts(futures[1].result(0)) == ["ZeroDivisionError", ""]
    assert texts(futures[2].result(0)) == [""]


def test_what_only_waits_goes_on_beside_the_answers_and_raises_what_it_raises() -> None:
    queue, asked = QuestionQueue(), threading.Event()
    queue.open(echo)
    gone: list[Reply] = []

    def client() -> None:
        gone.extend(ask(queue, 7).result(scaled(10)))
        asked.set()

    client_thread = threading.Thread(target=client)
    client_thread.start()
    assert queue.serve_during(lambda: asked.wait(scaled(10))), "the commit ended after the answer came"
    client_thread.join()
    assert texts(gone)[0].startswith("7 by")
    with pytest.raises(KeyError):
        queue.serve_during(lambda: {}["nothing"])
