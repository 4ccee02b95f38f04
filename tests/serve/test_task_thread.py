"""One run at a time; a run that was asked for while another goes on follows it."""

import threading

from vreid.serve.task_thread import TaskThread


def test_a_run_that_was_asked_for_again_follows_the_one_that_goes_on() -> None:
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)
    runs: list[int] = []

    def task() -> None:
        runs.append(len(runs))
        entered.release()
        assert leave.acquire(timeout=60)

    thread = TaskThread("test", task)
    thread.wait(0)
    assert not thread.running
    assert thread.start(again=True)
    assert entered.acquire(timeout=60)
    assert thread.running
    assert not thread.start()
    leave.release()
    thread.wait(60)
    assert (runs, thread.running) == ([0], False)

    assert thread.start()
    assert entered.acquire(timeout=60)
    assert not thread.start(again=True)
    assert not thread.start(again=True)
    leave.release(2)
    thread.wait(60)
    assert (runs, thread.running) == ([0, 1, 2], False)
