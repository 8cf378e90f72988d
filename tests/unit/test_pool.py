"""The pool of processes on this machine."""

import os
import signal
import sys
import time
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import Connection

import pytest

from fashion_cnn.parallel.pool import Task, open_pool, run_tasks

# on Windows any number ends a process at once
KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL


def test_an_idle_process_that_dies_is_replaced():
    pids = []
    with open_pool(None, jobs=1) as pool:
        for _, future in run_tasks([Task(0), Task(1)], os.getpid, pool):
            pids.append(future.result())
            os.kill(pids[-1], KILL)
            time.sleep(0.5)  # until its executor has noticed
    assert len(set(pids)) == 2


@pytest.mark.skipif(
    sys.platform == "win32", reason="a pipe passes a result on whole or not at all on Windows"
)
def test_a_process_that_dies_in_the_middle_of_a_result_has_died():
    with open_pool(None, 1) as pool:
        broken = pool.submit(_die_while_sending_the_result)
        assert isinstance(broken.exception(timeout=60), BrokenExecutor)
        assert pool.submit(os.getpid).result(timeout=60) != os.getpid()


def _die_while_sending_the_result() -> bytes:
    def send_half(connection: Connection, data: bytes) -> None:
        os.write(connection.fileno(), data[: len(data) // 2])
        os._exit(1)

    Connection._send = send_half
    return bytes(1000)
