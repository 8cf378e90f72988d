import asyncio
import io
import threading

import numpy as np
import pytest
from PIL import Image

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.serving import queue as queue_module
from fashion_cnn.serving.photos import _prepare_small, prepare_photo
from fashion_cnn.serving.queue import (
    BATCH,
    MAX_DECODING_PIXELS,
    MAX_QUEUED_SECONDS,
    InferenceQueue,
    Overloaded,
)


class FakeClassifier:
    """Returns each image's own number, twice; can be paused, and fails on 255."""

    def __init__(self):
        self.batches = []
        self.resume = threading.Event()
        self.resume.set()

    def outputs(self, images):
        self.resume.wait(5)
        self.batches.append(len(images))
        if (images == 255).any():
            raise RuntimeError("broken")
        return images.astype(np.float32), images[:, 0].astype(np.float32)


def numbers(*values):
    return np.array(values, np.uint8)[:, np.newaxis]


async def wait_until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition never became true")


def test_waiting_requests_share_a_batch_and_get_their_own_results():
    async def run():
        queue, classifier = InferenceQueue(cores=1), FakeClassifier()
        classifier.resume.clear()
        first = asyncio.create_task(queue.outputs(classifier, numbers(1)))
        await wait_until(lambda: queue._workers and not queue._items)
        rest = [asyncio.create_task(queue.outputs(classifier, numbers(k, k))) for k in (2, 3, 4)]
        await asyncio.sleep(0)
        classifier.resume.set()
        results = await asyncio.gather(first, *rest)
        return classifier.batches, [
            (rows.ravel().tolist(), numbers.tolist()) for rows, numbers in results
        ]

    batches, results = asyncio.run(run())
    assert batches == [1, 6]
    assert results == [(each, each) for each in ([1], [2, 2], [3, 3], [4, 4])]


def test_batches_are_limited_and_do_not_mix_models():
    async def run():
        queue, one, other = InferenceQueue(cores=1), FakeClassifier(), FakeClassifier()
        many = np.zeros((BATCH - 1, 1), np.uint8)
        requests = [(one, numbers(0)), (one, many), (one, numbers(1)), (one, numbers(2))]
        requests += [(other, numbers(3)), (one, numbers(4))]
        requests += [(one, np.zeros((3 * BATCH, 1), np.uint8))]
        tasks = [asyncio.create_task(queue.outputs(*request)) for request in requests]
        results = await asyncio.gather(*tasks)
        assert [len(rows) for rows, _ in results] == [len(images) for _, images in requests]
        return one.batches, other.batches

    assert asyncio.run(run()) == ([BATCH, 2, 1, BATCH, BATCH, BATCH], [1])


def test_many_images_are_processed_in_parallel():
    async def run():
        queue, classifier = InferenceQueue(cores=2), FakeClassifier()
        classifier.resume.clear()
        images = np.arange(200, dtype=np.uint8).repeat(2)[:, np.newaxis]
        task = asyncio.create_task(queue.outputs(classifier, images))
        await wait_until(lambda: len(queue._workers) == 2 and len(queue._items) == 2)
        classifier.resume.set()
        np.testing.assert_array_equal((await task)[0], images)
        return classifier.batches

    assert sorted(asyncio.run(run())) == [16, BATCH, BATCH, BATCH]


def test_a_failure_reaches_the_waiting_requests_and_the_queue_continues():
    async def run():
        queue, classifier = InferenceQueue(cores=1), FakeClassifier()
        with pytest.raises(RuntimeError, match="broken"):
            await queue.outputs(classifier, numbers(255))
        return (await queue.outputs(classifier, numbers(7)))[0]

    assert asyncio.run(run()).item() == 7


def test_a_disconnected_client_delays_nobody():
    async def run():
        queue, classifier = InferenceQueue(cores=1), FakeClassifier()
        classifier.resume.clear()
        disconnected = asyncio.create_task(queue.outputs(classifier, numbers(1)))
        connected = asyncio.create_task(queue.outputs(classifier, numbers(2)))
        await wait_until(lambda: queue._workers)
        disconnected.cancel()
        await asyncio.sleep(0)
        classifier.resume.set()
        return (await connected)[0].item()

    assert asyncio.run(run()) == 2


def test_a_request_at_the_moment_that_a_worker_ends_is_answered():
    async def run():
        queue, classifier = InferenceQueue(cores=1), FakeClassifier()
        second, next_batch = queue.outputs(classifier, numbers(2)), queue._next_batch

        def next_batch_before_another_request():
            items = next_batch()
            if not classifier.batches:  # the callback is called before those of the worker's end
                items[0].result.add_done_callback(lambda _: second.send(None))
            return items

        queue._next_batch = next_batch_before_another_request
        await queue.outputs(classifier, numbers(1))
        await wait_until(lambda: classifier.batches == [1, 1])
        second.close()

    asyncio.run(run())


def test_the_queue_is_limited_by_the_duration_of_its_work():
    queue = InferenceQueue(cores=2)
    queue.seconds = {"image": 0.01, "photo": 0.1}
    assert not queue.is_full and MAX_QUEUED_SECONDS == 0.5
    with queue.reserve(image=500):  # the first request is accepted, however long it takes
        assert queue.pending_seconds == pytest.approx(2.5)
        assert queue.is_full
        with (
            pytest.raises(Overloaded, match=r"2.5 s of work are queued") as caught,
            queue.reserve(image=1),
        ):
            pass
        assert caught.value.headers == {"retry-after": "3"}
    assert queue.pending_seconds == pytest.approx(0)
    with (
        queue.reserve(photo=9),
        queue.reserve(image=20),
        pytest.raises(Overloaded),
        queue.reserve(image=1),
    ):
        pass
    with pytest.raises(KeyError), queue.reserve(image=1):
        raise KeyError
    assert queue.pending_seconds == pytest.approx(0)


def test_a_large_picture_is_not_passed_by_small_ones():
    async def run():
        queue, order = InferenceQueue(), []

        async def decode(name, pixels):
            async with queue.decoding(pixels):
                order.append(name)
                await asyncio.sleep(0.01)

        names = {"small": 1000, "large": MAX_DECODING_PIXELS, "later": 1000}
        await asyncio.gather(*(decode(name, pixels) for name, pixels in names.items()))
        return order

    assert asyncio.run(run()) == ["small", "large", "later"]


def test_a_large_picture_is_measured_by_its_megapixels():
    file = io.BytesIO()
    Image.new("L", (4900, 4000), 128).save(file, "PNG", compress_level=1)

    async def run():
        queue = InferenceQueue(cores=1)
        before = dict(queue.seconds)
        await prepare_photo(Classifier.load("standard"), queue, file.getvalue())
        return {kind for kind in before if queue.seconds[kind] != before[kind]}

    assert asyncio.run(run()) == {"photo", "megapixel"}  # reading its header, and decoding it


def test_a_jpeg_costs_what_its_preparation_decodes():
    file = io.BytesIO()
    Image.new("L", (895, 20_000), 128).save(file, "JPEG")  # would be reduced for 56 pixels
    assert _prepare_small(Classifier.load("standard"), file.getvalue()) == (17_900_000,) * 2


def test_estimated_durations_follow_the_measurements(monkeypatch):
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(queue_module.time, "perf_counter", lambda: next(clock))

    async def run():
        queue = InferenceQueue()
        queue.seconds["photo"] = 0.5
        assert await queue.run_in_thread("photo", lambda x: x + 1, 1) == 2
        return queue.seconds["photo"]

    assert asyncio.run(run()) == pytest.approx(0.55)
