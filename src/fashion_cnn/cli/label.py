"""`label`: people decide about doubtful labels; what several decided, and a corrected copy."""

import math
from pathlib import Path
from typing import Any

from fashion_cnn.cli import options as opt
from fashion_cnn.console import UsageError, print_message

_MODES = "expected one: a SOURCE to decide about, or several --merge, or --export DIR"


def label(
    source: opt.Labeled = None,
    decisions: opt.NewDecisions = None,
    model: opt.Model = "clothes",
    split: opt.LabeledSplit = "all",
    doubtful: opt.OnlyDoubtful = False,
    blind: opt.Blind = False,
    host: opt.Host = "127.0.0.1",
    port: opt.Port = 8000,
    token: opt.TokenFile = None,
    data: opt.LabeledData = None,
    groups: opt.Groups = "",
    merge: opt.Merged = None,
    export: opt.CorrectedCopy = None,
) -> None:
    """Decide about doubtful labels on a page in the browser."""
    if (modes := sum(map(bool, (source, merge, export)))) != 1:
        raise UsageError(f"label: got {modes} of SOURCE, --merge and --export; {_MODES}")
    if merge or export:
        if decisions is None:
            raise UsageError("--merge and --export need --decisions CSV")
        if merge:
            _merge(merge, decisions)
        elif export:
            _export(data or "fashion-mnist", groups, decisions, export)
        return
    from fashion_cnn.labeling.log import DecisionLog
    from fashion_cnn.labeling.server import label_settings, serve_labels
    from fashion_cnn.labeling.session import LabelSession
    from fashion_cnn.labeling.task import default_decisions, make_task
    from fashion_cnn.serving.server import open_listener
    from fashion_cnn.serving.settings import read_token

    settings = label_settings(host, port, read_token(token) if token else None)
    folder = Path(str(source))
    log = DecisionLog(decisions or default_decisions(folder))
    try:
        with open_listener(settings) as listener:
            task = make_task(folder, model, data or "", split, doubtful)
            serve_labels(LabelSession(task, log, blind), settings, listener)
    finally:
        _print_progress(log)
        log.close()


def _print_progress(log: Any) -> None:
    """What was decided, and what comes next."""
    if not (decided := log.decided):
        return
    corrected = sum(decision.is_correction for decision in decided)
    print(f"Decided: {len(decided):,} pictures, {corrected:,} of them corrected: {log.path}")
    print(log.advice())


def _merge(paths: list[Path], output: Path) -> None:
    from fashion_cnn.labeling.results import merge_decisions

    result = merge_decisions(paths, output)
    changed = sum(decision.is_correction for decision in result.agreed)
    print(f"{result.pictures:>6,} pictures decided by at least one of {len(paths)} people")
    print(f"{len(result.agreed):>6,} have a majority; {changed:,} of these change the label")
    print(f"{result.undecided:>6,} have none, and keep their labels")
    is_defined = not math.isnan(result.kappa)
    agreement = f"Fleiss' kappa {round(result.kappa, 2) + 0:.2f}" if is_defined else "No kappa"
    print(f"{agreement} over the {result.common:,} pictures that all of them decided")
    print(f"Decisions: {output}")


def _export(source: str, groups: str, decisions: Path, folder: Path) -> None:
    from fashion_cnn.data import load_data
    from fashion_cnn.labeling.results import export_corrected

    data = load_data(source, 0, groups, decisions)
    for note in data.notes:
        print_message(note)
    print(f"{export_corrected(data, folder):,} pictures: {folder}")
