"""What waits for the model: bounded by time, and images of many requests go in one batch."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np

from fashion_cnn import machine

MAX_QUEUED_SECONDS = 0.5  # of work in line; what comes after that is refused
BATCH = 128  # images of several requests at a time
BULK = 16  # images, from which on their time does not hang on how many there are
WEIGHT = 0.1  # of the newest measurement in what work is believed to take

Waiting = asyncio.Future[np.ndarray]


class Network(Protocol):
    """What a line works for."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, channels) to float32 (n, classes)."""


class Overloaded(Exception):
    """There is too much in line; `headers` say when to come again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.1f} s of work are in line; try again after that")
        self.headers = {"retry-after": str(math.ceil(seconds))}


class Line:
    """The line before a model, and the threads that work it off.

    Attributes:
        ahead: seconds of work that are in line or under way.
        seconds: what one `image` in the network, one `photo` before it and one `explanation`
            after it take a core, as measured.
    """

    def __init__(self, seconds_an_image: float = 1e-3, cores: int | None = None) -> None:
        self.ahead = 0.0
        self.seconds = {"image": seconds_an_image, "photo": 2e-2, "explanation": 0.2}
        self._waiting: deque[tuple[Network, np.ndarray, Waiting]] = deque()
        self._cores = cores or machine.cores()
        self._working: set[asyncio.Task[None]] = set()
        self._networks = ThreadPoolExecutor(self._cores, "networks")
        self._pictures = ThreadPoolExecutor(self._cores, "pictures")

    @property
    def full(self) -> bool:
        """Whether whatever comes now is refused."""
        return self.ahead > MAX_QUEUED_SECONDS

    @contextmanager
    def place(self, **work: int) -> Iterator[None]:
        """A place in line for work, as in `image=64`.

        Raises:
            Overloaded: there is too much before it.
        """
        if self.full:
            raise Overloaded(self.ahead)
        cost = sum(count * self.seconds[kind] for kind, count in work.items()) / self._cores
        self.ahead += cost
        try:
            yield
        finally:
            self.ahead -= cost

    async def probabilities(self, network: Network, images: np.ndarray) -> np.ndarray:
        """Those of a network, together with whatever else waits for the same one."""
        loop, answers = asyncio.get_running_loop(), []
        for start in range(0, len(images), BATCH):
            answers.append(loop.create_future())
            self._waiting.append((network, images[start : start + BATCH], answers[-1]))
            if len(self._working) < self._cores:
                task = loop.create_task(self._work())
                self._working.add(task)
                task.add_done_callback(self._working.discard)
        found = await asyncio.gather(*answers)
        return found[0] if len(found) == 1 else np.concatenate(found)

    async def run_in_thread(self, kind: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call something in a thread, and learn from it how long such a kind of work takes."""

        def timed() -> tuple[Any, float]:
            began = time.perf_counter()
            return work(*arguments), time.perf_counter() - began

        done, took = await asyncio.get_running_loop().run_in_executor(self._pictures, timed)
        self._learn(kind, took)
        return done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            network, parts, answers = self._batch()
            began = time.perf_counter()
            try:
                images = parts[0] if len(parts) == 1 else np.concatenate(parts)
                work = partial(network.probabilities, images)
                found = await loop.run_in_executor(self._networks, work)
            except Exception as error:  # whatever it is belongs to those who wait
                for _, answer in answers:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            if len(images) >= BULK:
                self._learn("image", (time.perf_counter() - began) / len(images))
            start = 0
            for count, answer in answers:
                if not answer.done():  # else its client has gone
                    answer.set_result(found[start : start + count])
                start += count

    def _batch(self) -> tuple[Network, list[np.ndarray], list[tuple[int, Waiting]]]:
        """The first in line, and those after it that go with it."""
        network, images, answer = self._waiting.popleft()
        parts, answers = [images], [(len(images), answer)]
        room = BATCH - len(images)
        while self._waiting and self._waiting[0][0] is network:
            room -= len(self._waiting[0][1])
            if room < 0:
                break
            _, more, answer = self._waiting.popleft()
            parts.append(more)
            answers.append((len(more), answer))
        return network, parts, answers

    def _learn(self, kind: str, seconds: float) -> None:
        self.seconds[kind] += WEIGHT * (seconds - self.seconds[kind])
