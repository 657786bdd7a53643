"""Threads that share those of torch, and leave none behind."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
import torch

from crispdepth.tasks.workers import AT_ONCE, workers

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
