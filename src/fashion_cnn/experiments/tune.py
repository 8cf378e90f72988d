"""A recipe and what may change in it in; the best recipe out, by accuracy on validation images.

Optuna proposes and stops trials; its journal is in the folder, so any machine that sees the folder
can report, and the same command goes on after whatever happened.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fashion_cnn.experiments.runs import (
    TASK,
    open_experiment,
    require_shared_folder,
    train_or_resume,
)
from fashion_cnn.files import lock_folder, read_json, write_csv, write_text
from fashion_cnn.models import model_options
from fashion_cnn.parallel.pool import ATTEMPTS, Piece, run_tasks, tasks
from fashion_cnn.recipe import Recipe, recipe_from_dict, with_settings
from fashion_cnn.run import Run

JOURNAL = "journal.log"
STUDY = "tune"
COMPLETE, PRUNED, FAIL = "COMPLETE", "PRUNED", "FAIL"  # Optuna's states of a trial
DIED = f"its process died {ATTEMPTS} times"
COLUMNS = ("trial", "state", "val_accuracy", "epochs_run", "seconds")
REDUCTION = 3  # of trials, at each rung of ASHA
RUNGS = 9  # the first rung is at this part of all epochs
STARTUP = 8  # trials at random, before what they showed is used

Space = dict[str, Any]


def default_space(recipe: Recipe) -> Space:
    """What is worth a search in any recipe: a factor of five and more round what it says."""
    rate, decay, batch = recipe.learning_rate, recipe.weight_decay, recipe.batch_size
    space: Space = {
        "learning_rate": {"low": rate / 5, "high": rate * 5, "log": True},
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "batch_size": [max(1, batch // 2), batch, batch * 2],
    }
    if decay:
        space["weight_decay"] = {"low": decay / 10, "high": min(decay * 10, 0.5), "log": True}
    return space


def read_space(path: Path, recipe: Recipe) -> Space:
    """What a search may change, from a JSON file.

    Args:
        path: of an object: fields of the recipe, or options of its model, each with a list of
            choices, or with `{"low": …, "high": …}`, and `"log": true` or a `"step"` if it should.
        recipe: whose they are.

    Raises:
        ValueError: it is not that; each end and each choice is tried on the recipe.
    """
    try:
        space = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(space, dict) or not space:
        raise ValueError(f'{path}: expected an object such as {{"dropout": [0.0, 0.3]}}')
    for key, about in space.items():
        try:
            if key == "validation":
                raise ValueError("a search is judged on images that are held out")
            ends = about if isinstance(about, list) else [about["low"], about["high"]]
            for value in ends:
                _with(recipe, {key: value})
            _distribution(recipe, key, about)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: {key}: {json.dumps(about)}: expected a list of choices, or "
                f'{{"low": …, "high": …}} ({" ".join(str(error).split())})'
            ) from None
    return space


def tune(
    recipe: Recipe,
    source: str,
    space: Space,
    trials: int,
    folder: Path,
    address: str | None = None,
    jobs: int | None = None,
    advance: Callable[[str], Any] = lambda what: None,
) -> list[dict[str, Any]]:
    """Search for a better recipe.

    Args:
        recipe: where it begins; its first trial is the recipe itself if the space holds it.
        source: of the data.
        space: as `read_space` returns it.
        trials: in all, those of an earlier call included.
        folder: for `trial-<n>`, a run folder each, `trials.csv` and `best.json`. Where it has
            trials of the same task, it goes on with them.
        address: of a Ray cluster, whose machines see the folder by the same name.
        jobs: trials at a time; one a core without, of a cluster one a GPU if it has some.
        advance: called with a word at the beginning, and after each trial.

    Returns:
        A row a trial, the best first: `trial`, `state`, `val_accuracy`, `epochs_run`, `seconds`,
        the values, `error`.

    Raises:
        ValueError: the folder holds something else, or no trial came to its end.
        OSError: a trial could not be written; it goes on when the same is called again.
    """
    if recipe.validation != "validation":
        raise ValueError(
            f"validation: got {recipe.validation}; a search is judged on images that are held out: "
            "--validation validation"
        )
    from optuna.trial import TrialState

    folder = folder.absolute()  # another process may be elsewhere
    open_experiment(folder, recipe, {"source": source, "space": space})
    with lock_folder(folder), tasks(address, jobs, long=True) as (submit, room):
        study = _study(folder, recipe)
        found = study.get_trials(deepcopy=False)
        if not found:
            study.enqueue_trial(_beginning(recipe, space))
        running = [trial for trial in found if trial.state.name == "RUNNING"]
        for trial in [x for x in running if x.params.keys() != space.keys()]:
            running.remove(trial)  # killed before all its values were there
            study.tell(trial.number, state=TrialState.FAIL)
        ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
        choices = {key: _distribution(recipe, key, about) for key, about in space.items()}

        def pieces() -> Iterator[Piece]:
            for trial in running:
                yield trial.number, (folder, trial.number)
            for _ in range(trials - len(running) - ended):
                number = study.ask(choices).number
                yield number, (folder, number)

        for _ in range(ended + 1):
            advance("trials")
        for number, future in run_tasks(pieces(), _try, submit, room):
            if isinstance(error := future.exception(), BrokenExecutor):
                state, value = FAIL, None
                _trial(study, number).set_user_attr("error", f"{DIED} ({error})")
            else:
                state, value = future.result()
            study.tell(number, value, TrialState[state])
            rows = _write(study, folder, recipe, space)
            advance(
                f"best {rows[0]['val_accuracy']:.2%}" if rows[0]["state"] == COMPLETE else "trials"
            )
        rows = _write(study, folder, recipe, space)
    if rows[0]["state"] != COMPLETE:
        errors = {row["error"] for row in rows if row["error"]}
        raise ValueError(f"{folder}: no trial came to its end ({', '.join(sorted(errors))})")
    return rows


def importances(folder: Path) -> tuple[dict[str, float], int]:
    """How much of the differences between trials each value explains (fANOVA), 1 in all.

    All trials count, by their accuracy after the first epoch at which some were stopped; by that of
    trials that came to their end alone, values that are always bad would never be seen.

    Returns:
        Value -> its share, nothing where there are too few trials to say; and that epoch.
    """
    import optuna

    recipe = recipe_from_dict(read_json(folder / TASK)["recipe"])
    study, first = _study(folder, recipe), _first_rung(recipe)
    level = optuna.create_study(direction="maximize")
    for trial in study.get_trials(deepcopy=False):
        if first in (seen := trial.intermediate_values):
            about = {"params": trial.params, "distributions": trial.distributions}
            level.add_trial(optuna.create_trial(value=seen[first], **about))
    with suppress(ValueError, RuntimeError):
        judge = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(level, evaluator=judge)), first
    return {}, first


def _first_rung(recipe: Recipe) -> int:
    return max(1, recipe.epochs // RUNGS)


def _study(folder: Path, recipe: Recipe) -> Any:
    """The study of a folder, begun if there is none."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    study = optuna.create_study(
        study_name=STUDY,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        # asynchronous successive halving, arXiv:1810.05934
        pruner=optuna.pruners.SuccessiveHalvingPruner(_first_rung(recipe), REDUCTION),
    )
    # another seed each time it goes on, or the first trials' values would come again
    seed = recipe.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    return study


def _try(folder: Path, number: int) -> tuple[str, float | None]:
    """Train for a trial, in any process: it reports to the journal, and is stopped by it.

    Returns:
        The trial's state, and what it is judged by if it came to its end.
    """
    from fashion_cnn.keras_setup import keras

    require_shared_folder(folder)
    task, run = read_json(folder / TASK), Run(folder / f"trial-{number}")
    recipe = recipe_from_dict(task["recipe"])
    study = _study(folder, recipe)
    known = study.get_trials(deepcopy=False)[number]
    trial = _trial(study, number)

    class Judge(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch + 1 not in known.intermediate_values:  # of the time before it was broken off
                trial.report(logs["val_accuracy"], epoch + 1)
            if epoch + 1 < chosen.epochs and trial.should_prune():
                self.model.stop_training = True

    try:
        chosen = _with(recipe, known.params)  # some values do not go together
        train_or_resume(chosen.to_json(), task["source"], run, [Judge()])
    except OSError:
        raise  # of the machine, not of the trial
    except Exception as error:  # such as a batch that no memory holds
        trial.set_user_attr("error", " ".join(str(error).split())[:200])
        return FAIL, None
    finally:
        trial.set_user_attr("seconds", round(run.train_seconds(), 3))
    history = run.history()
    if len(history["epoch"]) < chosen.epochs:
        return PRUNED, None
    return COMPLETE, history["val_accuracy"][-1]


def _trial(study: Any, number: int) -> Any:
    import optuna

    return optuna.trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _distribution(recipe: Recipe, key: str, about: Any) -> Any:
    """Optuna's, of choices, or of numbers of the type that the recipe has there."""
    from optuna import distributions

    if isinstance(about, list):
        return distributions.CategoricalDistribution(about)
    numbers = [about.get(key, 1) for key in ("low", "high", "step")]
    like = _values(recipe)[key]
    if isinstance(like, bool) or not {type(x) for x in numbers} <= {int, float}:
        raise TypeError("low, high and step are numbers")
    whole = isinstance(like, int)
    return (distributions.IntDistribution if whole else distributions.FloatDistribution)(**about)


def _with(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items()}
    return with_settings(recipe, texts)


def _values(recipe: Recipe) -> dict[str, Any]:
    """What a search may change; options with their defaults, whose types are theirs."""
    return asdict(recipe) | model_options(recipe.model)


def _beginning(recipe: Recipe, space: Space) -> dict[str, Any]:
    """The recipe's own values, as far as the space holds them."""
    own = _values(recipe) | recipe.options
    own = {k: ",".join(v) if isinstance(v, tuple) else v for k, v in own.items() if k in space}
    return {
        key: value
        for key, value in own.items()
        if (
            value in about
            if isinstance(about := space[key], list)
            else about["low"] <= value <= about["high"]
        )
    }


def _write(study: Any, folder: Path, recipe: Recipe, space: Space) -> list[dict[str, Any]]:
    """Write `trials.csv`, in the order of their ends, and `best.json`; the rows, the best first."""
    rows = []
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    for trial in sorted(ended, key=lambda trial: trial.datetime_complete):
        seen = trial.intermediate_values
        row = {"trial": trial.number, "state": trial.state.name, "epochs_run": len(seen)}
        row["val_accuracy"] = trial.value if trial.value is not None else seen.get(len(seen))
        row["seconds"] = trial.user_attrs.get("seconds", 0.0)  # nothing, if its process died
        rows.append({**row, "error": trial.user_attrs.get("error"), **trial.params})
    write_csv(folder / "trials.csv", (*COLUMNS, *space, "error"), rows)
    order = (COMPLETE, PRUNED, FAIL)
    rows.sort(key=lambda row: (order.index(row["state"]), -(row["val_accuracy"] or 0)))
    if rows and rows[0]["state"] == COMPLETE:
        best = _with(recipe, {key: rows[0][key] for key in space})
        write_text(folder / "best.json", best.to_json())
    return rows
