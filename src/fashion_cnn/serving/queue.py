"""A queue of inference work, bounded by time; images of several requests share a batch."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from fashion_cnn import machine
from fashion_cnn.inference.classifier import Classifier

MAX_QUEUED_SECONDS = 0.5  # of pending work; beyond it new requests are refused
MAX_EXPLANATION_SECONDS = 2.0  # the same of explanations, one of which always starts
MAX_DECODING_PIXELS = 64_000_000  # of all pictures that are being decoded, 4 to 8 bytes each
BATCH = 128  # most images of several requests in one batch
MIN_TIMED_BATCH = 16  # from this size on, the time per image is independent of the batch size
SMOOTHING = 0.1  # weight of the newest measurement in the estimated durations


class Overloaded(HTTPException):
    def __init__(self, seconds: float) -> None:
        message = f"{seconds:.1f} s of work are queued; try again later"
        super().__init__(503, message, {"retry-after": str(math.ceil(seconds))})


@dataclass(frozen=True)
class _Item:
    """Up to `BATCH` images that wait for a classifier."""

    classifier: Classifier
    images: np.ndarray
    result: asyncio.Future[tuple[np.ndarray, np.ndarray]]


class InferenceQueue:
    """Pending inference work, and the threads that do it."""

    def __init__(self, seconds_per_image: float = 1e-3, cores: float | None = None) -> None:
        """Create an idle queue.

        Args:
            seconds_per_image: estimate for the network, on one core.
            cores: this process's share of them. Default: all.
        """
        self.pending_seconds = 0.0  # estimated duration of the work that is queued or running
        self.seconds = {  # estimates, on one core
            "image": seconds_per_image,  # in the network
            "photo": 2e-2,  # preparing it
            "megapixel": 1e-2,  # decoding it
            "megabyte": 0.1,  # parsing JSON
            "explanation": 1.0,  # one at a time, and the others do not wait for it
        }
        self._items: deque[_Item] = deque()
        self._cores = cores or machine.cores()
        self._threads = max(1, int(self._cores))
        self._workers: set[asyncio.Task[None] | None] = set()
        self._network_threads = ThreadPoolExecutor(self._threads, "networks")
        self._picture_threads = ThreadPoolExecutor(self._threads, "pictures")
        self._explanation_thread = ThreadPoolExecutor(1, "explanations")
        self._explanations = 0  # running and waiting
        self.parsing = asyncio.Lock()  # one long body of JSON at a time, which takes much memory
        self._decoding_pixels = 0
        self._next_to_decode = asyncio.Lock()  # or small pictures would pass a large one for ever
        self._has_decoded = asyncio.Condition()

    @property
    def is_full(self) -> bool:
        return self.pending_seconds > MAX_QUEUED_SECONDS

    @contextmanager
    def reserve(self, **work: float) -> Iterator[None]:
        """Count work, such as `image=64`, as pending in the context, or raise `Overloaded`."""
        if self.is_full:
            raise Overloaded(self.pending_seconds)
        cost = sum(count * self.seconds[kind] for kind, count in work.items()) / self._cores
        self.pending_seconds += cost
        try:
            yield
        finally:
            self.pending_seconds -= cost

    async def outputs(
        self, classifier: Classifier, images: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`classifier.outputs(images)`, in batches shared with other requests."""
        loop, results = asyncio.get_running_loop(), []
        for start in range(0, len(images), BATCH):
            results.append(loop.create_future())
            self._items.append(_Item(classifier, images[start : start + BATCH], results[-1]))
            if len(self._workers) < self._threads:
                self._workers.add(loop.create_task(self._run_batches()))
        rows, similarities = zip(*await asyncio.gather(*results), strict=True)
        return np.concatenate(rows), np.concatenate(similarities)

    @asynccontextmanager
    async def decoding(self, pixels: int) -> AsyncIterator[None]:
        """Wait until there is memory for a picture; its pixels count in the context."""
        async with self._next_to_decode, self._has_decoded:
            limit = MAX_DECODING_PIXELS - pixels
            await self._has_decoded.wait_for(lambda: self._decoding_pixels <= max(0, limit))
            self._decoding_pixels += pixels
        try:
            yield
        finally:
            async with self._has_decoded:
                self._decoding_pixels -= pixels
                self._has_decoded.notify_all()

    async def explain(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a slow function in a thread of its own; `Overloaded` if many wait for it."""
        pending = self._explanations * self.seconds["explanation"]
        if self._explanations and pending > MAX_EXPLANATION_SECONDS:
            raise Overloaded(pending)
        self._explanations += 1
        try:
            threads = self._explanation_thread
            return await self.run_in_thread("explanation", function, *args, threads=threads)
        finally:
            self._explanations -= 1

    async def run_in_thread(
        self,
        kind: str,
        function: Callable[..., Any],
        *args: Any,
        amount: float = 1.0,
        threads: ThreadPoolExecutor | None = None,
    ) -> Any:
        """Call a function in a thread, and update the estimated duration of its kind of work."""

        def timed_call() -> tuple[Any, float]:
            started = time.perf_counter()
            return function(*args), time.perf_counter() - started

        loop = asyncio.get_running_loop()
        threads = threads or self._picture_threads
        result, seconds = await loop.run_in_executor(threads, timed_call)
        self._update_estimate(kind, seconds / amount)
        return result

    async def _run_batches(self) -> None:
        try:
            while self._items:
                await self._run_batch(self._next_batch())
        finally:  # at once: a callback would come after requests that count on this worker
            self._workers.discard(asyncio.current_task())

    async def _run_batch(self, items: list[_Item]) -> None:
        started, loop = time.perf_counter(), asyncio.get_running_loop()
        try:
            images = np.concatenate([item.images for item in items])
            function = items[0].classifier.outputs
            outputs = await loop.run_in_executor(self._network_threads, function, images)
            ends = np.cumsum([len(item.images) for item in items])
            results = list(zip(*(np.split(x, ends[:-1]) for x in outputs), strict=True))
        except Exception as error:  # whatever it is, the waiting requests get it
            for item in items:
                if not item.result.done():
                    item.result.set_exception(error)
            return
        if len(images) >= MIN_TIMED_BATCH:
            seconds = time.perf_counter() - started
            self._update_estimate("image", seconds / len(images))
        for item, result in zip(items, results, strict=True):
            if not item.result.done():  # done: the client has disconnected
                item.result.set_result(result)

    def _next_batch(self) -> list[_Item]:
        """The oldest item, and those right after it that fit into its batch."""
        items = [self._items.popleft()]
        count = len(items[0].images)
        while self._items and self._items[0].classifier is items[0].classifier:
            count += len(self._items[0].images)
            if count > BATCH:
                break
            items.append(self._items.popleft())
        return items

    def _update_estimate(self, kind: str, seconds: float) -> None:
        self.seconds[kind] += SMOOTHING * (seconds - self.seconds[kind])
