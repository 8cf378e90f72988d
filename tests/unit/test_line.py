import asyncio
import threading

import numpy as np
import pytest

from fashion_cnn.serving import queue as queue_module
from fashion_cnn.serving.queue import BATCH, MAX_QUEUED_SECONDS, Line, Overloaded


class Network:
    """Answers with each image's own number; may be held up, and may fail."""

    def __init__(self):
        self.batches = []
        self.go = threading.Event()
        self.go.set()

    def probabilities(self, images):
        self.go.wait(5)
        self.batches.append(len(images))
        if (images == 255).any():
            raise RuntimeError("broken")
        return images.astype(np.float32)


def numbers(*values):
    return np.array(values, np.uint8)[:, np.newaxis]


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


def test_what_waits_goes_together_and_each_gets_its_own():
    async def ask():
        line, network = Line(cores=1), Network()
        network.go.clear()
        first = asyncio.create_task(line.probabilities(network, numbers(1)))
        await until(lambda: line._working and not line._waiting)
        rest = [asyncio.create_task(line.probabilities(network, numbers(k, k))) for k in (2, 3, 4)]
        await asyncio.sleep(0)
        network.go.set()
        return network.batches, [x.ravel().tolist() for x in await asyncio.gather(first, *rest)]

    batches, answers = asyncio.run(ask())
    assert batches == [1, 6]
    assert answers == [[1], [2, 2], [3, 3], [4, 4]]


def test_a_batch_has_an_end_and_models_are_kept_apart():
    async def ask():
        line, one, other = Line(cores=1), Network(), Network()
        many = np.zeros((BATCH - 1, 1), np.uint8)
        asked = [(one, numbers(0)), (one, many), (one, numbers(1)), (one, numbers(2))]
        asked += [(other, numbers(3)), (one, numbers(4)), (one, np.zeros((3 * BATCH, 1), np.uint8))]
        tasks = [asyncio.create_task(line.probabilities(*x)) for x in asked]
        answers = await asyncio.gather(*tasks)
        assert [len(x) for x in answers] == [len(images) for _, images in asked]
        return one.batches, other.batches

    assert asyncio.run(ask()) == ([BATCH, 2, 1, BATCH, BATCH, BATCH], [1])


def test_many_images_are_worked_on_side_by_side():
    async def ask():
        line, network = Line(cores=2), Network()
        network.go.clear()
        images = np.arange(200, dtype=np.uint8).repeat(2)[:, np.newaxis]
        asked = asyncio.create_task(line.probabilities(network, images))
        await until(lambda: len(line._working) == 2 and len(line._waiting) == 2)
        network.go.set()
        np.testing.assert_array_equal(await asked, images)
        return network.batches

    assert sorted(asyncio.run(ask())) == [16, BATCH, BATCH, BATCH]


def test_a_failure_is_told_to_those_who_wait_and_the_line_goes_on():
    async def ask():
        line, network = Line(cores=1), Network()
        with pytest.raises(RuntimeError, match="broken"):
            await line.probabilities(network, numbers(255))
        return await line.probabilities(network, numbers(7))

    assert asyncio.run(ask()).item() == 7


def test_a_client_that_has_gone_holds_nobody_up():
    async def ask():
        line, network = Line(cores=1), Network()
        network.go.clear()
        gone = asyncio.create_task(line.probabilities(network, numbers(1)))
        stays = asyncio.create_task(line.probabilities(network, numbers(2)))
        await until(lambda: line._working)
        gone.cancel()
        await asyncio.sleep(0)
        network.go.set()
        return (await stays).item()

    assert asyncio.run(ask()) == 2


def test_the_line_is_bounded_by_the_time_it_takes():
    line = Line(cores=2)
    line.seconds = {"image": 0.01, "photo": 0.1}
    assert not line.full and MAX_QUEUED_SECONDS == 0.5
    with line.place(image=500):  # however much it is, for it was first
        assert line.ahead == pytest.approx(2.5)
        assert line.full
        with (
            pytest.raises(Overloaded, match=r"2.5 s of work are in line") as caught,
            line.place(image=1),
        ):
            pass
        assert caught.value.headers == {"retry-after": "3"}
    assert line.ahead == pytest.approx(0)
    with line.place(photo=9), line.place(image=20), pytest.raises(Overloaded), line.place(image=1):
        pass
    with pytest.raises(KeyError), line.place(image=1):
        raise KeyError
    assert line.ahead == pytest.approx(0)


def test_it_learns_what_work_takes(monkeypatch):
    now = iter([0.0, 1.0])
    monkeypatch.setattr(queue_module.time, "perf_counter", lambda: next(now))

    async def ask():
        line = Line()
        line.seconds["photo"] = 0.5
        assert await line.run_in_thread("photo", lambda x: x + 1, 1) == 2
        return line.seconds["photo"]

    assert asyncio.run(ask()) == pytest.approx(0.55)
