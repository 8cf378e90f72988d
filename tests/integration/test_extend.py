"""docs/extend.md: its code goes into a copy of the package, and its tests pass there.

A block with a title is a file: `python` is a new one, `diff` changes one that exists.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```(\w+) title="([^"]+)"\n(.*?)^```', PAGE, re.S | re.M)
PRESETS = Path("src", "fashion_cnn", "presets")
# existing tests of the tables and of the structure of the package
CHECKS = (
    "tests/unit/test_layout.py",
    "tests/unit/test_cli.py::test_every_export_format_can_be_chosen",
    "tests/unit/test_plots.py::test_every_run_gets_four_charts_and_names_are_unique",
)


def apply_diff(text, diff):
    """The text with the hunks of a diff applied, which have no line numbers: `@@` separates them.

    The context and the removed lines of each hunk must be in the text exactly once.
    """
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        assert all(line[0] in " +-\n" for line in lines), hunk
        old = "".join(line[line != "\n" :] for line in lines if line[0] != "+")
        new = "".join(line[line != "\n" :] for line in lines if line[0] != "-")
        assert old != new and text.count(old) == 1, f"found {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    return text


def extended_copy(folder):
    """Copy the package and its tests, and apply the page to the copy."""
    ignore = shutil.ignore_patterns("__pycache__", PRESETS.name)
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    (folder / PRESETS).symlink_to(ROOT / PRESETS)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for language, name, content in BLOCKS:
        path = folder / name
        assert path.exists() == (language == "diff"), name
        text = apply_diff(path.read_text(encoding="utf-8"), content) if path.exists() else content
        path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_the_extensions_of_the_page_work(tmp_path):
    extended_copy(tmp_path)
    tests = [name for _, name, _ in BLOCKS if Path(name).parent == Path("tests", "unit")]
    assert len(tests) == 5  # a network, an augmentation, a format, a metric, a chart
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *CHECKS]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take seconds to import
    pipes = {"capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run(call, cwd=tmp_path, env=environment, **pipes)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("text", ["import sys\n", "import os\nimport os\n"])
def test_a_diff_that_does_not_fit_is_reported(text):
    with pytest.raises(AssertionError, match=r"found [02] times"):
        apply_diff(text, " import os\n+import re\n")
