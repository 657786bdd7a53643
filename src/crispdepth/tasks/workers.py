"""Threads that compute several things of a kind at once.

A depth map takes thousands of small operations, which gain little from several threads each and
lose much where something else runs, for threads that wait for each other spin. Whole views side by
side wait for nothing.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

AT_ONCE = 4
"""Workers at most: each holds the arrays of what it computes."""


@contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that share those of torch (`torch.set_num_threads`); one for a device not the CPU.

    Work that was not begun at the end is dropped, and what was begun is waited for.
    """
    threads = torch.get_num_threads()
    count = min(AT_ONCE, threads) if device.type == "cpu" else 1
    # The number is that of the thread that sets it, and of threads that begin later.
    pool = ThreadPoolExecutor(count, "crispdepth", torch.set_num_threads, (threads // count,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
