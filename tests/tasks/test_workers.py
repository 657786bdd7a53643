"""Threads that share those of torch, and leave none behind."""

import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch

from crispdepth.tasks.workers import AT_ONCE, SWITCHING, InOrder, workers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_get_the_interpreter_sooner_while_any_work() -> None:
    before = sys.getswitchinterval()
    torch.set_num_threads(2)
    first, second = workers(CPU), workers(CPU)
    first.__enter__()
    assert sys.getswitchinterval() == pytest.approx(SWITCHING)
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(SWITCHING)
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == pytest.approx(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_workers_share_the_threads_and_give_them_back(threads: int) -> None:
    torch.set_num_threads(threads)
    together = threading.Barrier(min(threads, AT_ONCE))

    def share(_: int) -> int:
        together.wait(timeout=30)  # all are there at once
        return torch.get_num_threads()

    with workers(CPU) as pool:
        shares = list(pool.map(share, range(together.parties)))
        assert sum(shares) <= threads < sum(shares) + AT_ONCE
    assert torch.get_num_threads() == threads


def test_a_device_has_one_worker() -> None:
    torch.set_num_threads(2)
    with workers(torch.device("cuda")) as pool:
        assert len({pool.submit(threading.get_ident).result() for _ in range(8)}) == 1


def test_what_was_not_begun_is_dropped_and_errors_pass() -> None:
    torch.set_num_threads(1)
    before = threading.active_count()
    waiting: list[Future[None]] = []

    def fail() -> None:
        with workers(CPU) as pool:
            waiting.extend(pool.submit(time.sleep, 0.2) for _ in range(100))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sum(each.cancelled() for each in waiting) > 90
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_tasks_begin_when_they_can_in_the_order_they_came(threads: int) -> None:
    torch.set_num_threads(threads)
    with workers(CPU) as pool, closing(InOrder(pool)) as tasks:
        gate = threading.Event()
        blocked = tasks.submit(lambda: gate.wait(30))
        begun: list[str] = []

        def note(name: str) -> str:
            begun.append(name)
            return name

        late = tasks.submit(lambda: note("late") + str(blocked.result()), [blocked, blocked])
        for name in "abc":
            tasks.submit(partial(note, name))
        if threads == 1:  # all could begin but the one worker is held: the first come first
            gate.set()
            assert late.result(30) == "lateTrue"
            tasks.submit(lambda: None).result(30)
            assert begun == ["late", "a", "b", "c"]
        else:  # who needs something holds no worker up
            while len(begun) < 3:
                time.sleep(0.01)
            assert "late" not in begun
            gate.set()
            assert late.result(30) == "lateTrue"


def test_errors_come_to_who_needs_the_result_and_stop_nothing_else() -> None:
    torch.set_num_threads(2)
    with workers(CPU) as pool, closing(InOrder(pool)) as tasks:
        wrong = tasks.submit(lambda: 1 // 0)
        needs = tasks.submit(wrong.result, [wrong])
        other = tasks.submit(lambda: 2)
        for each in (wrong, needs):
            with pytest.raises(ZeroDivisionError):
                each.result(30)
        assert other.result(30) == 2


def test_results_live_as_long_as_who_needs_them() -> None:
    torch.set_num_threads(1)
    gate = threading.Event()
    with workers(CPU) as pool, closing(InOrder(pool)) as tasks:
        first = tasks.submit(lambda: np.zeros(3))
        second = tasks.submit(partial(lambda each: each.result() + 1, first), [first])
        held = tasks.submit(partial(lambda each: gate.wait(30), first), [first])
        alive = weakref.ref(second.result(30))
        assert alive() is not None
        before = weakref.ref(first.result())
        del second  # only what ran needed it; the first is still needed by what holds a worker
        assert alive() is None
        del first
        assert before() is not None
        gate.set()
        held.result(30)
    assert before() is None


def test_nothing_begins_after_the_end_and_nothing_is_kept() -> None:
    started, gate = threading.Event(), threading.Event()
    begun: list[int] = []

    def hold() -> bool:
        started.set()
        return gate.wait(30)

    gc.disable()
    try:
        with ThreadPoolExecutor(1) as pool:  # open until the end, and held
            tasks = InOrder(pool)
            held = tasks.submit(hold)
            assert started.wait(30)
            ready = [tasks.submit(partial(begun.append, number)) for number in range(3)]
            array = np.zeros(3)
            kept = weakref.ref(array)
            waiting = tasks.submit(partial(array.sum), [held])
            del array
            tasks.close()
            assert kept() is None
            gate.set()
            assert held.result(30)
            assert pool.submit(lambda: 1).result(30) == 1  # after all that was before it
            late = tasks.submit(lambda: begun.append(9))
    finally:
        gc.enable()
    assert begun == []
    assert all(each.cancelled() for each in (*ready, waiting, late))


def test_a_pool_that_has_ended_leaves_nobody_waiting() -> None:
    pool = ThreadPoolExecutor(1)
    tasks = InOrder(pool)
    first: Future[int] = Future()
    second = tasks.submit(first.result, [first])
    pool.shutdown()
    first.set_result(1)
    with pytest.raises(CancelledError):
        second.result(30)
