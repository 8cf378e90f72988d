"""Claim: one head node keeps three quarters of 1,000 GPUs busy in a search of 10-minute trainings.

    python benchmarks/search_head.py

Measures the costs of a search (Optuna, with its journal file) for its head node and its processes
with 100, 1,000 and 10,000 finished trials, and simulates from them how many of 1,000 GPUs would be
busy. Each figure is a row of `search_head.csv`; finished settings are skipped. Prints the tables of
docs/scale-limits.md about a search.
Seeds: one run. Machine: 1 CPU core. Duration: 10 minutes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import _results as results
from _simulation import Stage, simulate
from head import measure_once, metric_table, read_value, with_commas

ROWS = Path(__file__).with_suffix(".csv")
GPUS, TRIALS = 1000, 10_000
TRIAL_COUNTS = (100, 1000, TRIALS)  # of finished trials, at which the costs are measured
CALLS = {  # name -> what it does
    "ask": "propose a trial",
    "open": "open the study",
    "report": "report an epoch",
    "should_prune": "decide whether to stop",
    "tell": "record a result",
}
REPEATS = 5
EPOCHS = 9  # of a whole training; of nine trials six stop after 1 epoch and two after 3


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for count in TRIAL_COUNTS:
            path = Path(folder) / f"{count}"
            measure_once(ROWS, "costs", f"{count}", lambda n=count, p=path: measure_costs(p, n))
    for seconds in (10, 60, 600):
        setting = f"{seconds} s per training"
        measure_once(ROWS, "simulation", setting, lambda s=seconds: simulate_search(s))
    print("\n\n".join(tables(results.read_rows(ROWS))))


def measure_costs(folder: Path, count: int) -> dict[str, object]:
    """Measure the calls of a search with this number of finished trials; medians in ms.

    The head node asks for a trial; a process opens the study, reports a value and asks whether it
    should stop; the head node is told the result.
    """
    from optuna.trial import Trial, TrialState

    from fashion_cnn.experiments import search_space, tune
    from fashion_cnn.recipes import find_recipe

    folder.mkdir()
    recipe = find_recipe("sprint")
    space = search_space.default_space(recipe)
    distributions = {key: search_space.distribution(recipe, key, space[key]) for key in space}
    study = tune.open_study(folder, recipe)
    for trial in finished_trials(distributions, count):
        study.add_trial(trial)
    times: dict[str, list[float]] = {name: [] for name in CALLS}

    def timed(name: str, call: Callable):
        start = time.monotonic()
        result = call()
        times[name].append(1e3 * (time.monotonic() - start))
        return result

    def tell(number: int) -> None:
        study.tell(number, 0.5, TrialState.COMPLETE)
        tune.write_results(study, folder, recipe, space)

    study = tune.open_study(folder, recipe)
    for _ in range(REPEATS):
        number = timed("ask", lambda: study.ask(distributions)).number
        opened = timed("open", lambda: tune.open_study(folder, recipe))
        trial = Trial(opened, opened.get_trials(deepcopy=False)[number]._trial_id)
        timed("report", lambda trial=trial: trial.report(0.5, 1))
        timed("should_prune", trial.should_prune)
        timed("tell", lambda number=number: tell(number))
    return {f"{name}_ms": round(statistics.median(x), 2) for name, x in times.items()}


def finished_trials(distributions: dict, count: int) -> Iterator[object]:
    """Generate trials with random parameters and results."""
    import numpy as np
    import optuna

    rng = np.random.default_rng(0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(count):
        epochs = int(rng.choice([1, 3, EPOCHS], p=[6 / 9, 2 / 9, 1 / 9]))
        values = {epoch + 1: float(rng.random()) for epoch in range(epochs)}
        states = optuna.trial.TrialState
        yield optuna.create_trial(
            state=states.COMPLETE if epochs == EPOCHS else states.PRUNED,
            value=values[epochs],
            params=study.ask(distributions).params,
            distributions=distributions,
            intermediate_values=values,
            system_attrs={"completed_rung_0": values[1]},
        )


def simulate_search(seconds: float) -> dict[str, object]:
    """Simulate the search on all GPUs, where a whole training takes `seconds`."""
    costs = {  # number of trials -> call -> seconds
        count: {x: read_value(ROWS, "costs", f"{count}", f"{x}_ms") / 1e3 for x in CALLS}
        for count in TRIAL_COUNTS
    }

    def stages_of(trial: int) -> list[Stage]:
        cost = costs[min(costs, key=lambda count: abs(count - trial))]
        turn = trial % 9
        epochs = 1 if turn < 6 else 3 if turn < 8 else EPOCHS
        stages = [("head", cost["ask"]), ("", cost["open"])]
        for epoch in range(1, epochs + 1):
            stages += [("", seconds / EPOCHS), ("journal", cost["report"])]
            if epoch in (1, 3):
                stages += [("", cost["should_prune"])]
        return [*stages, ("head", cost["tell"])]

    trials = [stages_of(trial) for trial in range(TRIALS)]
    duration = simulate(GPUS, trials)
    epochs = sum(stages.count(("", seconds / EPOCHS)) for stages in trials)
    busy = epochs * seconds / EPOCHS / GPUS
    return {
        "trials_per_second": round(TRIALS / duration, 2),
        "gpu_utilization": round(busy / duration, 3),
    }


def tables(rows: list[results.Row]) -> list[str]:
    """Return the tables of docs/scale-limits.md about a search."""
    costs = results.select(rows, measurement="costs")
    costs = [{**row, "setting": with_commas(row["setting"])} for row in costs]
    simulations = results.select(rows, measurement="simulation")
    simulations = [{**row, "setting": row["setting"].split()[0]} for row in simulations]
    columns = {"trials_per_second": "trials per second"}
    columns["gpu_utilization"] = "utilization of the GPUs"
    return [
        metric_table(costs, "finished trials", {f"{x}_ms": f"{y}, ms" for x, y in CALLS.items()}),
        metric_table(simulations, "seconds of a full training", columns),
    ]


if __name__ == "__main__":
    main()
