"""How much one head can direct: real Ray, Optuna and Parquet, with cores and GPUs that only wait.

    python benchmarks/head.py [--only core|predict|search] [--cores 32 128]

First what one core does: pictures a second of three sizes, by `photo`. Then `predict --output` on a
Ray cluster whose cores wait for as long as a core works, and answer what was answered before: what
is real is Ray, the plan, and the files. Then what a search costs its head once it has seen 100,
1,000 and 10,000 trials, and how much of 1,000 GPUs would be busy if it directed them (simulated
from these costs). One row each into `head.csv`; finished rows are skipped.
"""

import argparse
import heapq
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from _rows import finished_rows, keep
from scale import CLOSED, draw

ROWS = Path(__file__).with_suffix(".csv")
SIZES = {(96, 96): 500, (400, 533): 200, (4000, 3000): 20}  # and how many pictures of it
PART = 500  # pictures
ROUNDS = 48  # parts a core
A_DAY = 1e9 / 86_400  # pictures a second
USD = 0.0425  # for a core's hour, rented by the hour
CORE = ("a_second", "bytes_a_picture", "bytes_an_answer")
BILL = {
    "cores, all busy": lambda rate, _picture, _answer: A_DAY / rate,
    "USD a day for them": lambda rate, _picture, _answer: 24 * USD * A_DAY / rate,
    "Mbit/s of pictures, in all": lambda _rate, picture, _answer: 8e-6 * A_DAY * picture,
    "Mbit/s of them for 96 cores": lambda rate, picture, _answer: 8e-6 * 96 * rate * picture,
    "GB of answers a day": lambda _rate, _picture, answer: answer,
}
LARGER = (1000, 4000, 16_000)  # cores, which are simulated alone
GPUS, TRIALS = 1000, 10_000
SEEN = (100, 1000, TRIALS)  # after how many trials its costs are measured
COSTS = ("ask", "open", "report", "judge", "tell")
EPOCHS = 9  # of the search, of which a trial takes 2.3: two of three stop after 1, 3, ...
Stage = tuple[str, float]  # where, and seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("core", "predict", "search"))
    parser.add_argument("--cores", type=int, nargs="+", default=[32, 128], metavar="N")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def once(kind: str, what: str, measure: Callable[[], dict[str, object]]) -> None:
            done = {(row["kind"], row["what"]) for row in finished_rows(ROWS)}
            if arguments.only in (None, kind) and (kind, what) not in done:
                for figure, value in measure().items():
                    row = {"kind": kind, "what": what, "figure": figure, "value": value}
                    keep(ROWS, row)

        for size in SIZES:
            once("core", "{}x{}".format(*size), lambda size=size: one_core(folder, size))
        once("predict", "no work", lambda: rehearse(folder, 4, 0.0))
        for cores in arguments.cores:
            once("predict", f"{cores} cores", lambda n=cores: rehearse(folder, n, seconds_a_part()))
        for cores in LARGER:
            once("predict", f"{cores} cores, simulated", lambda n=cores: simulated(n))
        once("search", "costs", lambda: search_costs(folder))
        for seconds in (10, 60, 600):
            once("search", f"{seconds} s a training", lambda s=seconds: busy_gpus(s))
    print("\n\n".join(tables(finished_rows(ROWS))))


def figure(kind: str, what: str, name: str) -> float:
    """A figure of an earlier row."""
    for row in finished_rows(ROWS):
        if (row["kind"], row["what"], row["figure"]) == (kind, what, name):
            return float(row["value"])
    raise SystemExit(f"{ROWS}: no {name} of {kind} {what} yet; measure --only {kind} first")


def seconds_a_part() -> float:
    return PART / figure("core", "96x96", "a_second")


def part_of(folder: Path, size: tuple[int, int], count: int) -> list[dict[str, object]]:
    """Photos, as a part of a plan."""
    paths = sorted(draw(folder, count, size).glob("*/*.jpg"))
    return [{"name": str(path), "kind": "file", "row_group": 0} for path in paths]


def one_core(folder: Path, size: tuple[int, int]) -> dict[str, object]:
    """What a core does, files already in memory; the median of five times."""
    from fashion_cnn.inference.batch import predict_part
    from fashion_cnn.inference.classifier import Classifier

    part = part_of(folder / "{}x{}".format(*size), size, SIZES[size])
    content = Classifier.load("photo").content
    predict_part(part[:10], content)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        answers = predict_part(part, content)
        seconds.append(time.process_time() - began)
    held = sum(Path(str(item["name"])).stat().st_size for item in part)
    return {
        "a_second": round(len(part) / statistics.median(seconds), 1),
        "bytes_a_picture": held // len(part),
        "bytes_an_answer": len(answers) // len(part),
    }


def rehearse(folder: Path, cores: int, seconds: float) -> dict[str, object]:
    """Predict parts on a cluster whose cores wait for `seconds` a part; what comes out a second."""
    os.environ |= CLOSED
    from ray.cluster_utils import Cluster

    from fashion_cnn.inference import batch as predict
    from fashion_cnn.inference.classifier import Classifier

    classifier = Classifier.load("photo")
    part = part_of(folder / "part", (96, 96), PART)
    answers = predict.predict_part(part, classifier.content)

    def wait(part: list[dict[str, object]], content: bytes) -> bytes:
        time.sleep(seconds)
        return answers

    size = {"num_cpus": cores, "object_store_memory": 500_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    real, predict.predict_part = predict.predict_part, wait
    try:
        parts = ROUNDS * cores if seconds else 2000
        output = folder / f"{cores} cores"
        began = time.monotonic()
        times, busy = [], []
        with predict.open_batch([str(folder / "part")] * parts, classifier, output) as (todo, _):
            planned = time.monotonic() - began
            for _ in predict.predict_parts(todo, classifier, output, cluster.address):
                times.append(time.monotonic())
                busy.append(time.process_time())
        began = time.monotonic()
        predict.count_pictures(output, parts)
        counted = time.monotonic() - began
    finally:
        predict.predict_part = real
        cluster.shutdown()
    # all are there (to start 128 processes takes 140 s on two cores), and none has ended
    first, last = len(times) * 3 // 4, len(times) - cores
    rate = PART * (last - first) / (times[last] - times[first])
    found = {
        "a_second": round(rate),
        "head_busy": round((busy[last] - busy[first]) / (times[last] - times[first]), 3),
        "head_ms_a_part": round(1e3 * (busy[last] - busy[first]) / (last - first), 2),
        "plan_ms_a_part": round(1e3 * planned / parts, 2),
        "count_ms_a_part": round(1e3 * counted / parts, 2),
    }
    if seconds:
        found |= simulated(cores)
        found["of_the_cores"] = round(rate / (cores * PART / seconds), 3)
    return found


def simulated(cores: int) -> dict[str, object]:
    """What so many cores would answer a second, if the head is as fast as it was without work."""
    seconds, parts = seconds_a_part(), ROUNDS * cores
    stages = [("head", PART / figure("predict", "no work", "a_second")), ("", seconds)]
    rate = PART * parts / simulate(cores, [stages] * parts)
    return {
        "simulated": round(rate),
        "simulated_of_the_cores": round(rate * seconds / cores / PART, 3),
    }


def simulate(workers: int, pieces: Iterable[list[Stage]]) -> float:
    """Seconds until workers have done all pieces, each of which is stages at one place or another.

    A place but the worker's own, "", has room for one at a time: first come, first served.
    """
    free: dict[str, float] = {}
    waiting: list[tuple[float, int, list[Stage]]] = [(0.0, i, []) for i in range(workers)]
    todo, now = iter(pieces), 0.0
    while waiting:
        now, worker, stages = heapq.heappop(waiting)
        if not stages:
            if (stages := next(todo, [])) == []:
                continue  # it has nothing more to do
            stages = list(stages)
        place, seconds = stages.pop(0)
        end = (max(now, free.get(place, 0.0)) if place else now) + seconds
        if place:
            free[place] = end
        heapq.heappush(waiting, (end, worker, stages))
    return now


def search_costs(folder: Path) -> dict[str, object]:
    """What a search does for a trial, once it has seen many; medians, in ms."""
    from fashion_cnn.experiments import search_space, tune
    from fashion_cnn.recipes import find_recipe

    recipe = find_recipe("sprint")
    space = search_space.default_space(recipe)
    place = folder / "search"
    place.mkdir()
    distributions = {key: search_space.distribution(recipe, key, space[key]) for key in space}
    study, found = tune.open_study(place, recipe), {}
    for n, trial in enumerate(past(study, distributions, TRIALS)):
        study.add_trial(trial)
        if n + 1 in SEEN:
            found |= {f"{k} {n + 1}": v for k, v in costs(tune, place, recipe, space).items()}
    return found


def past(study: object, distributions: dict, count: int) -> Iterator[object]:
    """Trials as they could have been."""
    import numpy as np
    import optuna

    random = np.random.default_rng(0)
    sampler = optuna.samplers.RandomSampler(seed=0)
    first = optuna.create_study(sampler=sampler)
    for _ in range(count):
        params = first.ask(distributions).params
        epochs = int(random.choice([1, 3, EPOCHS], p=[6 / 9, 2 / 9, 1 / 9]))
        values = {epoch + 1: float(random.random()) for epoch in range(epochs)}
        about = {"params": params, "distributions": distributions, "intermediate_values": values}
        state = optuna.trial.TrialState.COMPLETE if epochs == EPOCHS else None
        state = state or optuna.trial.TrialState.PRUNED
        about["system_attrs"] = {"completed_rung_0": values[1]}
        yield optuna.create_trial(state=state, value=values[epochs], **about)


def costs(tune, place: Path, recipe, space) -> dict[str, float]:
    """The head asks; a process opens the study, reports and judges; the head is told."""
    from optuna.trial import Trial, TrialState

    from fashion_cnn.experiments.search_space import distribution

    times: dict[str, list[float]] = {what: [] for what in COSTS}
    distributions = {key: distribution(recipe, key, space[key]) for key in space}

    def timed(what: str, call: Callable):
        began = time.monotonic()
        result = call()
        times[what].append(1e3 * (time.monotonic() - began))
        return result

    head = tune.open_study(place, recipe)
    for _ in range(5):
        number = timed("ask", lambda: head.ask(distributions)).number
        other = timed("open", lambda: tune.open_study(place, recipe))
        trial = Trial(other, other.get_trials(deepcopy=False)[number]._trial_id)
        timed("report", lambda trial=trial: trial.report(0.5, 1))
        timed("judge", trial.should_prune)

        def tell(number=number) -> None:
            head.tell(number, 0.5, TrialState.COMPLETE)
            tune.write_results(head, place, recipe, space)

        timed("tell", tell)
    return {what: round(statistics.median(values), 2) for what, values in times.items()}


def busy_gpus(seconds: float) -> dict[str, object]:
    """How much of so many GPUs works if a whole training takes so long there."""

    def cost(what: str, i: int) -> float:  # as measured for the nearest number of trials
        at = min(SEEN, key=lambda n: abs(n - i))
        return figure("search", "costs", f"{what} {at}") / 1e3

    def trial(i: int) -> list[Stage]:
        turn = i % 9  # of nine, six stop at the first rung, two at the second
        epochs = 1 if turn < 6 else 3 if turn < 8 else EPOCHS
        stages = [("head", cost("ask", i)), ("", cost("open", i))]
        for epoch in range(1, epochs + 1):
            stages += [("", seconds / EPOCHS), ("journal", cost("report", i))]
            if epoch in (1, 3):
                stages += [("", cost("judge", i))]
        return [*stages, ("head", cost("tell", i))]

    trials = [trial(i) for i in range(TRIALS)]
    taken = simulate(GPUS, trials)
    busy = sum(stages.count(("", seconds / EPOCHS)) for stages in trials) * seconds / EPOCHS / GPUS
    return {"trials_a_second": round(TRIALS / taken, 2), "of_the_gpus": round(busy / taken, 3)}


def tables(rows: list[dict[str, str]]) -> list[str]:
    """The tables of docs/scale.md."""
    found = {(row["kind"], row["what"], row["figure"]): row["value"] for row in rows}

    def table(kind: str, heads: Sequence[str], columns: Sequence[str], whats: Sequence[str]) -> str:
        lines = [heads, ["---"] * len(heads)]
        for what in whats:
            values = [found.get((kind, what, column), "") for column in columns]
            lines.append([what, *(thousands(value) for value in values)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    sizes = ["{}x{}".format(*size) for size in SIZES]
    core = ["a photo of", "photos a second", "bytes of one", "bytes of its answer"]
    clusters = [what for kind, what, name in found if kind == "predict" and name == "simulated"]
    whole = ["cores", "measured, a second", "of what the cores can", "simulated, a second"]
    whole += ["of what the cores can, simulated"]
    shares = ["a_second", "of_the_cores", "simulated", "simulated_of_the_cores"]
    trials = ["finished trials", *COSTS]
    costs = [trials, ["---"] * len(trials)]
    for n in SEEN:
        costs.append([thousands(str(n)), *(found[("search", "costs", f"{x} {n}")] for x in COSTS)])
    waits = [what for kind, what, name in found if kind == "search" and name == "of_the_gpus"]
    bill = [["", *sizes], ["---"] * (1 + len(sizes))]
    for what, unit in BILL.items():
        amounts = (unit(*(float(found["core", size, x]) for x in CORE)) for size in sizes)
        bill.append([what, *(f"{amount:,.0f}" for amount in amounts)])
    return [
        table("core", core, CORE, sizes),
        "\n".join(f"| {' | '.join(line)} |" for line in bill),
        table("predict", whole, shares, clusters),
        "\n".join(f"| {' | '.join(line)} |" for line in costs),
        table(
            "search",
            ["a whole training", "trials a second", "of the GPUs busy"],
            ["trials_a_second", "of_the_gpus"],
            waits,
        ),
    ]


def thousands(value: str) -> str:
    return f"{int(value):,}" if value.isdecimal() else value


if __name__ == "__main__":
    sys.exit(main())
