"""A recipe and a search space in; the best recipe out, by accuracy on the validation images.

Optuna proposes trials and stops bad ones early. Its journal is a file of the search's folder, so
any machine that sees the folder can report to it, and an interrupted search can be resumed.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from fashion_cnn.experiments.experiment import open_experiment, read_experiment, train_or_resume
from fashion_cnn.experiments.search_space import (
    SearchSpace,
    distribution,
    own_values,
    with_values,
)
from fashion_cnn.files import lock_folder, write_csv, write_text
from fashion_cnn.parallel.pool import ATTEMPTS, Task, open_pool, run_tasks
from fashion_cnn.recipe import Recipe
from fashion_cnn.run import Run

JOURNAL = "journal.log"
COMPLETE, PRUNED, FAIL = "COMPLETE", "PRUNED", "FAIL"  # Optuna's states of a trial, best first
COLUMNS = ("trial", "state", "val_accuracy", "epochs_run", "seconds")
REDUCTION = 3  # of three trials, one passes a rung of successive halving
RUNGS = 9  # the first rung is after this part of all epochs
RANDOM_TRIALS = 8  # before the sampler uses the results


def tune(
    recipe: Recipe,
    origin: Mapping[str, str],
    space: SearchSpace,
    trials: int,
    folder: Path,
    address: str | None = None,
    jobs: int | None = None,
    advance: Callable[[str], Any] = lambda name: None,
) -> list[dict[str, Any]]:
    """Search for a better recipe.

    Args:
        recipe: the first trial has its values, as far as the space includes them.
        origin: `Data.origin` of the data.
        space: as `read_space` returns it.
        trials: how many in all, those of an earlier call included.
        folder: for `trial-<n>`, a run folder each, `trials.csv` and `best.json`. A search that it
            holds is resumed.
        address: of a Ray cluster, whose machines see the folder by the same name. Default: this
            machine.
        jobs: trials at a time. Default: one a core, or a GPU of a cluster that has some.
        advance: called with a label at the beginning, and after each trial.

    Returns:
        A dictionary a trial, best first: `trial`, `state`, `val_accuracy`, `epochs_run`, `seconds`,
        the values, `error`.

    Raises:
        ValueError: the folder belongs to something else, or no trial was completed.
        OSError: a trial could not be written; the same call resumes it.
    """
    if recipe.validation != "validation":
        raise ValueError(
            f"validation: got {recipe.validation}; a search needs validation images: "
            "--validation validation"
        )
    folder = folder.absolute()  # other machines have other working directories
    open_experiment(folder, recipe, {**origin, "space": space})
    with lock_folder(folder), open_pool(address, jobs, training=True) as pool:
        _drop_half_line(folder / JOURNAL)
        study = open_study(folder, recipe)
        if not study.trials:
            study.enqueue_trial(own_values(recipe, space))
        unfinished = _resumable_trials(study, space)
        finished = sum(trial.state.is_finished() for trial in study.trials)
        for _ in range(finished + 1):
            advance("trials")

        def tasks() -> Iterator[Task]:
            for number in unfinished:
                yield Task(number, (folder, number))
            distributions = {key: distribution(recipe, key, space[key]) for key in space}
            for _ in range(trials - len(unfinished) - finished):
                number = study.ask(distributions).number  # only when a process is free for it
                yield Task(number, (folder, number))

        for number, future in run_tasks(tasks(), _run_trial, pool):
            _tell_result(study, number, future)
            best = write_results(study, folder, recipe, space)[0]
            complete = best["state"] == COMPLETE
            advance(f"best {best['val_accuracy']:.2%}" if complete else "trials")
        rows = write_results(study, folder, recipe, space)
    if rows[0]["state"] != COMPLETE:
        errors = {row["error"] for row in rows if row["error"]}
        raise ValueError(f"{folder}: no trial was completed ({', '.join(sorted(errors))})")
    return rows


def importances(folder: Path) -> tuple[dict[str, float], int]:
    """How much of the differences between trials each value explains (fANOVA), 1 in all.

    All trials count, by their accuracy at the first rung. If only complete trials did, values that
    are always bad would have no part in it.

    Returns:
        Key -> its share, empty if there are too few trials; and the epoch of the first rung.
    """
    import optuna

    recipe, _ = read_experiment(folder)
    first_rung = _first_rung(recipe)
    study = optuna.create_study(direction="maximize")
    for trial in open_study(folder, recipe).get_trials(deepcopy=False):
        if first_rung in trial.intermediate_values:
            study.add_trial(
                optuna.create_trial(
                    value=trial.intermediate_values[first_rung],
                    params=trial.params,
                    distributions=trial.distributions,
                )
            )
    with suppress(ValueError, RuntimeError):
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return dict(shares), first_rung
    return {}, first_rung


def _drop_half_line(journal: Path) -> None:
    """Cut off what follows the last line's end: a write that was interrupted."""
    if not journal.exists():
        return
    with open(journal, "r+b") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def open_study(folder: Path, recipe: Recipe) -> Any:
    """The Optuna study of a search's folder; a new one if there is none."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(folder / JOURNAL)
    # Optuna's default lock is a symbolic link, which needs a privilege on Windows
    lock = JournalFileOpenLock(path) if sys.platform == "win32" else None
    study = optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(path, lock)),
        load_if_exists=True,
        direction="maximize",
        # asynchronous successive halving, arXiv:1810.05934
        pruner=optuna.pruners.SuccessiveHalvingPruner(_first_rung(recipe), REDUCTION),
    )
    # a seed that changes when the search is resumed, or the first trials would be repeated
    seed = recipe.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    return study


def _first_rung(recipe: Recipe) -> int:
    return max(1, recipe.epochs // RUNGS)


def _resumable_trials(study: Any, space: SearchSpace) -> list[int]:
    """The trials that were interrupted; those interrupted before they had all values fail."""
    from optuna.trial import TrialState

    numbers = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.params.keys() == space.keys():
            numbers.append(trial.number)
        else:
            study.tell(trial.number, state=TrialState.FAIL)
    return numbers


def _live_trial(study: Any, number: int) -> Any:
    """A trial that can report; `study.trials` holds frozen copies."""
    import optuna

    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _run_trial(folder: Path, number: int) -> tuple[str, float | None]:
    """Train for a trial, in any process; its state, and its accuracy if it is complete."""
    from fashion_cnn.keras_setup import keras

    start, settings = read_experiment(folder)
    study, run = open_study(folder, start), Run(folder / f"trial-{number}")
    frozen = study.get_trials(deepcopy=False)[number]
    trial = _live_trial(study, number)

    def report(epoch: int, logs: dict[str, float]) -> None:
        if epoch + 1 not in frozen.intermediate_values:  # reported before it was interrupted
            trial.report(logs["val_accuracy"], epoch + 1)
        if epoch + 1 < recipe.epochs and trial.should_prune():
            callback.model.stop_training = True

    callback = keras.callbacks.LambdaCallback(on_epoch_end=report)
    try:
        recipe = with_values(start, frozen.params)  # fails if they do not go together
        train_or_resume(recipe, settings, run, [callback])
    except OSError:
        raise  # of the machine, not of the trial
    except Exception as error:  # such as a batch that does not fit into memory
        trial.set_user_attr("error", " ".join(str(error).split())[:200])
        return FAIL, None
    finally:
        trial.set_user_attr("seconds", round(run.train_seconds(), 3))
    history = run.history()
    if len(history["epoch"]) < recipe.epochs:
        return PRUNED, None
    return COMPLETE, history["val_accuracy"][-1]


def _tell_result(study: Any, number: int, future: Future[Any]) -> None:
    """Record the result of a trial in the study; one whose process died has failed."""
    from optuna.trial import TrialState

    if isinstance(error := future.exception(), BrokenExecutor):
        message = f"its process died {ATTEMPTS} times ({error})"
        _live_trial(study, number).set_user_attr("error", message)
        study.tell(number, state=TrialState.FAIL)
    else:
        state, accuracy = future.result()
        study.tell(number, accuracy, TrialState[state])


def write_results(
    study: Any, folder: Path, recipe: Recipe, space: SearchSpace
) -> list[dict[str, Any]]:
    """Write `trials.csv`, in the order in which trials ended, and `best.json`; rows as `tune`'s."""
    rows = []
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    for trial in sorted(finished, key=lambda trial: trial.datetime_complete):
        reported = trial.intermediate_values
        row = {"trial": trial.number, "state": trial.state.name, "epochs_run": len(reported)}
        accuracy = trial.value if trial.value is not None else reported.get(len(reported))
        row |= {"val_accuracy": accuracy, "seconds": trial.user_attrs.get("seconds", 0.0)}
        rows.append({**row, "error": trial.user_attrs.get("error"), **trial.params})
    write_csv(folder / "trials.csv", (*COLUMNS, *space, "error"), rows)
    order = (COMPLETE, PRUNED, FAIL)
    rows.sort(key=lambda row: (order.index(row["state"]), -(row["val_accuracy"] or 0)))
    if rows and rows[0]["state"] == COMPLETE:
        best = with_values(recipe, {key: rows[0][key] for key in space})
        write_text(folder / "best.json", best.to_json())
    return rows
