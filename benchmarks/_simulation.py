"""A discrete-event simulation of workers that share a head node and a journal."""

import heapq
from collections.abc import Iterable, Sequence

Stage = tuple[str, float]  # a shared resource, "" for the worker's own, and seconds


def simulate(workers: int, tasks: Iterable[Sequence[Stage]]) -> float:
    """Return the seconds until the workers have finished all tasks.

    The stages of a task follow one another. A shared resource serves one worker at a time, in the
    order in which they come.
    """
    free_at: dict[str, float] = {}
    queue: list[tuple[float, int, list[Stage]]] = [(0.0, i, []) for i in range(workers)]
    remaining, now = iter(tasks), 0.0
    while queue:
        now, worker, stages = heapq.heappop(queue)
        if not stages:
            stages = list(next(remaining, []))
            if not stages:
                continue  # no tasks are left for this worker
        resource, seconds = stages.pop(0)
        end = now + seconds
        if resource:
            end = max(now, free_at.get(resource, 0.0)) + seconds
            free_at[resource] = end
        heapq.heappush(queue, (end, worker, stages))
    return now
