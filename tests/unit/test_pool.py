"""The pool of processes on this machine."""

import os
import signal
import time

from fashion_cnn.parallel.pool import Task, open_pool, run_tasks


def test_an_idle_process_that_dies_is_replaced():
    pids = []
    with open_pool(None, jobs=1) as pool:
        for _, future in run_tasks([Task(0), Task(1)], os.getpid, pool):
            pids.append(future.result())
            os.kill(pids[-1], signal.SIGKILL)
            time.sleep(0.5)  # until its executor has noticed
    assert len(set(pids)) == 2
