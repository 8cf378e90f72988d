"""The structure of the package: imports point one way, and files and functions stay short."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src" / "fashion_cnn"
# a module imports only from those before it, and from its own room
ORDER = [
    "files",
    "machine",
    "console",
    "keras_setup",
    "run",
    "parallel",
    "data",
    "inference",
    "models",
    "recipe",
    "recipes",
    "training",
    "evaluation",
    "export",
    "report",
    "pipeline_messages",
    "pipeline",
    "experiments",
    "serving",
    "labeling",
    "cli",
    "__main__",
]
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 300, 50, 8
# options of networks, which `--set` names, and of the command line are keyword parameters
MANY_PARAMETERS = {
    "residual",
    "train",
    "run_pipeline",
    "predict",
    "serve",
    "tune",
    "audit",
    "label",
}


def modules():
    return {
        path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8"))
        for path in PACKAGE.rglob("*.py")
    }


def room_of(path):
    return path.parts[0].removesuffix(".py")


def imported_rooms(tree):
    """The rooms of the package that a module imports from, anywhere in it."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("fashion_cnn."):
                yield name.split(".")[1]


def test_imports_point_one_way():
    wrong = []
    for path, tree in modules().items():
        room = room_of(path)
        if room == "__init__":
            continue  # imports every public name on first use
        allowed = ORDER[: ORDER.index(room) + 1]
        wrong += [f"{path}: {name}" for name in imported_rooms(tree) if name not in allowed]
    assert not wrong


def test_files_and_functions_are_short():
    long = []
    for path, tree in modules().items():
        lines = len((PACKAGE / path).read_text(encoding="utf-8").splitlines())
        long += [f"{path}: {lines} lines"] * (lines > MAX_FILE_LINES)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node):
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                long += [f"{path}: {node.name}, {lines} lines"] * (lines > MAX_FUNCTION_LINES)
                parameters = len(node.args.args) + len(node.args.kwonlyargs)
                if parameters > MAX_PARAMETERS and node.name not in MANY_PARAMETERS:
                    long.append(f"{path}: {node.name}, {parameters} parameters")
    assert not long
