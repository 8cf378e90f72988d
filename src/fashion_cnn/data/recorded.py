"""A run in; where the data that it was trained on is now, and whether loaded data is the same."""

from pathlib import Path

from fashion_cnn.data.dataset import ARRAYS, Data
from fashion_cnn.run import Run


def find_source(run: Run, source: str | None = None) -> str:
    """The source of a run's data, as `load_data` takes it.

    Args:
        run: a run.
        source: where the data is now. Default: where it was during the training.

    Raises:
        FileNotFoundError: nothing is there any more, or there is no run.
        ValueError: the run was trained on arrays.
    """
    recorded = run.data_source()["source"]
    if source or recorded == "fashion-mnist":
        return source or recorded
    if recorded == ARRAYS:
        raise ValueError(
            f"{run}: trained on arrays, which a run does not keep; save them with np.savez('data."
            "npz', x_train=…, y_train=…, x_test=…, y_test=…), and give --data data.npz"
        )
    if not Path(recorded).exists():
        raise FileNotFoundError(
            f"{run}: its data is no longer at {recorded}; give --data the place where it is now"
        )
    return recorded


def find_origin(run: Run, source: str | None = None) -> dict[str, str]:
    """What `reload_data` loads a run's data from; the arguments and errors are `find_source`'s."""
    recorded = run.data_source()
    origin = {"source": find_source(run, source), "groups": recorded.get("groups", "")}
    if sha256 := recorded["sha256"].get("decisions"):
        origin |= {"decisions": str(run.decisions_path), "decisions_sha256": sha256}
    return origin


def require_same_data(run: Run, data: Data) -> None:
    """Raise ValueError unless data has the checksums and classes of what a run was trained on."""
    source = run.data_source()
    recorded = source["sha256"]
    names = {**recorded, **data.sha256}
    different = [name for name in names if recorded.get(name) != data.sha256.get(name)]
    different += ["class names"] * (list(source["class_names"]) != list(data.class_names))
    if different:
        used = [name for name in ("groups", "decisions") if source.get(name)]
        options = "".join(f" with --{name} {source[name]}" for name in used)
        raise ValueError(
            f"{run}: {data.location} is not what this run was trained on{options}, or has changed "
            f"since ({', '.join(different)} differ); restore it, give --data the right place, or "
            "train again"
        )
