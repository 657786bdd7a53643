"""Threads that compute several things of a kind at once.

A depth map takes thousands of small operations, which gain little from several threads each and
lose much where something else runs, for threads that wait for each other spin. Whole views side by
side wait for nothing.
"""

import heapq
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

AT_ONCE = 4
"""Workers at most: each holds the arrays of what it computes."""


SWITCHING = 0.0005
"""Seconds after which a thread that waits gets the interpreter, instead of Python's .005."""


class _Switching:
    """While any is entered threads get the interpreter sooner, in all of the process.

    Each operation gives it up and asks for it again, and then waits for as long as that while
    another thread prepares its own.
    """

    _lock, _entered, _before = Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not _Switching._entered:
                _Switching._before = sys.getswitchinterval()
                sys.setswitchinterval(min(_Switching._before, SWITCHING))
            _Switching._entered += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            _Switching._entered -= 1
            if not _Switching._entered:
                sys.setswitchinterval(_Switching._before)


@contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that share those of torch (`torch.set_num_threads`); one for a device not the CPU.

    Work that was not begun at the end is dropped, and what was begun is waited for.
    """
    threads = torch.get_num_threads()
    count = min(AT_ONCE, threads) if device.type == "cpu" else 1
    # The number is that of the thread that sets it, and of threads that begin later.
    pool = ThreadPoolExecutor(count, "crispdepth", torch.set_num_threads, (threads // count,))
    with _Switching() if count > 1 else nullcontext():
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


class InOrder:
    """Tasks that need the results of others: begun as soon as these are there.

    No worker ever waits for another. Of the tasks that could begin, the one that was submitted
    first does, so what lies far ahead is begun, and its result kept, only by who has nothing else
    to do.
    """

    def __init__(self, pool: Executor) -> None:
        """
        Args:
            pool: runs the tasks; it may have other work, too.
        """
        self._pool = pool
        self._lock = Lock()
        self._open = True
        self._submitted = 0
        self._tasks: dict[int, _Task[Any]] = {}  # what has not begun, by number
        self._ready: list[int] = []  # a heap of those that could begin

    def submit(self, run: Callable[[], T], needs: Sequence[Future[Any]] = ()) -> Future[T]:
        """The result of ``run``, which is called when all of ``needs`` are done, also if they
        failed; it is forgotten together with what it holds once it was called.
        """
        task = _Task(run, len(needs) + 1)
        with self._lock:
            number = self._submitted
            self._submitted += 1
            if not self._open:
                task.result.cancel()
                return task.result
            self._tasks[number] = task
        for each in needs:  # a future keeps what it calls, so that must hold no result
            each.add_done_callback(lambda _: self._one_less(number))
        self._one_less(number)
        return task.result

    def close(self) -> None:
        """Begin nothing more: what has not begun is forgotten, and its result cancelled."""
        with self._lock:
            self._open = False
            dropped = list(self._tasks.values())
            self._tasks.clear()
            self._ready.clear()
        for task in dropped:
            task.result.cancel()

    def _one_less(self, number: int) -> None:
        with self._lock:
            if not self._open:
                return
            task = self._tasks[number]
            task.missing -= 1
            if task.missing:
                return
            heapq.heappush(self._ready, number)
            try:
                self._pool.submit(self._run_first)
                return
            except RuntimeError:  # the pool was shut down, as at the end of the program
                pass
        self.close()

    def _run_first(self) -> None:
        with self._lock:
            if not self._open:
                return
            task = self._tasks.pop(heapq.heappop(self._ready))
        task()


class _Task(Generic[T]):
    """What is called once, how many results it still misses, and where its own goes."""

    def __init__(self, run: Callable[[], T], missing: int) -> None:
        self._run = run
        self.missing = missing
        self.result: Future[T] = Future()

    def __call__(self) -> None:
        run = self._run
        del self._run
        try:
            found = run()
        except BaseException as error:  # it is raised to who asks for the result
            del run
            self.result.set_exception(error)
        else:
            del run  # before anyone is told: what it holds is free then
            self.result.set_result(found)
