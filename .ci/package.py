"""Build the release in dist/, and use it as somebody would who has nothing but Python and pip.

    make package

Builds the source distribution, and from it the wheel; installs the wheel into empty environments
outside this folder; classifies photos, serves, and checks the types from outside. Ends with an
error at the first thing that is not as expected. Writes to dist/ the two distributions and a
software bill of materials (CycloneDX) of the Python packages that the container has. Needs the
package index; Linux and macOS.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from drawn import COLORS, garment
from serving_client import JPEG, request_json

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DIST = ROOT / "dist"
MAX_WHEEL, MAX_INSTALL = 16e6, 200e6  # bytes; the install without byte code
CITATION_TOOL, LICENSE_TOOL = "cffconvert==2.0.0", "reuse==6.2.0"
PHOTOS = {"T-shirt": 1, "trousers": 1, "dress": 0}  # drawn garment -> number of its color
TYPED = """
from fashion_cnn import RECIPES, Classifier, Data, Prediction, Recipe, load_data

prediction: Prediction = Classifier.load("clothes").predict("shirt.jpg")
label: str = prediction.label
probability: float = prediction.probability
sure: bool | None = prediction.sure
recipe: Recipe = RECIPES["sprint"]
epochs: int = recipe.epochs
data: Data = load_data()
"""
WRONG = "number: int = prediction.label\n"  # an error


def clean_environment() -> dict[str, str]:
    """The environment variables, without those that lead Python to this checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program; return what it prints. It sees nothing of this checkout."""
    done = subprocess.run(  # noqa: S603 (our own programs)
        words, cwd=cwd, env=clean_environment() | environment, text=True, capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def report(name: str, value: str) -> None:
    print(f"{name:<36}  {value}", flush=True)


def expect(is_so: bool, message: str) -> None:
    if not is_so:
        raise SystemExit(f"package: {message}")


def build(version: str, work: Path) -> Path:
    """Build dist/; return the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    python = BIN / "python"
    run(python, "-m", "build", "--no-isolation", "--outdir", DIST, ROOT, cwd=work)
    wheel, sdist = DIST / f"fashion_cnn-{version}-py3-none-any.whl", *DIST.glob("*.tar.gz")
    from_checkout = work / "from-checkout"
    run(python, "-m", "build", "--no-isolation", "-w", "--outdir", from_checkout, ROOT, cwd=work)
    same = (from_checkout / wheel.name).read_bytes() == wheel.read_bytes()
    expect(same, "the source distribution builds another wheel than the checkout")
    checked = ("check", "--strict", sdist, wheel)
    print(run(BIN / "twine", *checked, cwd=work, NO_COLOR="1", TERM="dumb").strip())
    size = wheel.stat().st_size
    report("wheel", f"{size / 1e6:.1f} MB (at most {MAX_WHEEL / 1e6:.0f})")
    report("source distribution", f"{sdist.stat().st_size / 1e6:.1f} MB; builds the same wheel")
    expect(size <= MAX_WHEEL, f"the wheel has {size:,} bytes; expected at most {MAX_WHEEL:,.0f}")
    return wheel


def draw_photos(folder: Path) -> list[Path]:
    paths = []
    for name, color in PHOTOS.items():
        paths.append(folder / f"{name}.jpg")
        garment(name, COLORS[color]).save(paths[-1])
    return paths


def new_environment(folder: Path, *packages: str | Path) -> Path:
    """Make a virtual environment with pip; install packages into it; return its bin folder."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    if packages:
        install(folder / "bin", *packages)
    return folder / "bin"


def install(programs: Path, *packages: str | Path) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")
    run(programs / "python", "-m", "pip", "install", *options, *packages, cwd=programs.parent)


def size_of(environment: Path) -> int:
    """Bytes of an environment, without byte code and pip."""
    files = (path for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    kept = (p for p in files if p.suffix != ".pyc" and not {"pip"} & set(p.parts))
    return sum(path.stat().st_size for path in kept)


def use_bare(wheel: Path, version: str, work: Path) -> Path:
    """Install the wheel without extras, and predict; return the bin folder."""
    photos, home = draw_photos(work), work / "home"
    home.mkdir()
    programs = new_environment(work / "bare")
    size, start = size_of(work / "bare"), time.perf_counter()
    install(programs, wheel)
    installed = time.perf_counter()
    program = programs / "fashion-cnn"
    lines = run(program, "predict", *photos, "--format", "jsonl", cwd=home, HOME=str(home))
    predicted = time.perf_counter()
    labels = [json.loads(line)["label"] for line in lines.splitlines()]
    expect(labels == list(PHOTOS), f"predicted {labels}; expected {list(PHOTOS)}")
    report("pip install", f"{installed - start:.1f} s")
    report("first predictions, of three photos", f"{predicted - installed:.1f} s: {labels}")
    size = size_of(work / "bare") - size
    report("install, without byte code", f"{size / 1e6:.0f} MB (at most {MAX_INSTALL / 1e6:.0f})")
    expect(size <= MAX_INSTALL, f"the install has {size:,} bytes")
    printed = run(program, "--version", cwd=home).split()[-1]
    expect(printed == version, f"--version printed {printed}; expected {version}")
    usage = run(programs / "python", "-m", "fashion_cnn", "--help", cwd=home)
    expect("predict" in usage, "python -m fashion_cnn does not list predict")
    report("--version, python -m fashion_cnn", printed)
    return programs


def check_types(programs: Path, work: Path) -> None:
    """A program that uses the installed package passes mypy and pyright, both strict.

    With a wrong type in it, it does not. What it imports can be imported.
    """
    program = work / "typed.py"
    program.write_text(TYPED)
    python = programs / "python"
    options = ("--strict", "--python-executable", python, "--config-file", os.devnull)
    settings = {"include": ["typed.py"], "typeCheckingMode": "strict"}
    (work / "pyrightconfig.json").write_text(json.dumps(settings))
    checks = (BIN / "mypy", *options, program), (BIN / "pyright", "--pythonpath", python)
    for words in checks:
        run(*words, cwd=work)
    program.write_text(TYPED + WRONG)
    for words in checks:
        done = subprocess.run(words, cwd=work, capture_output=True)  # noqa: S603
        expect(done.returncode == 1, f"{words[0].name} does not see a wrong type")
    run(python, "-c", TYPED.strip().splitlines()[0], cwd=work)
    report("types from outside", "mypy --strict and pyright strict: no error; they see a wrong one")


def use_serve(wheel: Path, work: Path) -> None:
    """Install what the container has; serve one request; write the bill of materials."""
    lock = ROOT / "requirements-serve.lock"
    programs = new_environment(work / "serve", "--require-hashes", "-r", lock)
    install(programs, "--no-deps", wheel)
    run(programs / "python", "-m", "pip", "uninstall", "--yes", "pip", "setuptools", cwd=work)
    python = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    bill = DIST / f"{wheel.name.split('-py3')[0]}-container-{python}.cdx.json"
    words = ("--output-reproducible", "--pyproject", ROOT / "pyproject.toml", "-o", bill)
    run(BIN / "cyclonedx-py", "environment", *words, programs / "python", cwd=work)
    components = json.loads(bill.read_text())["components"]
    report("bill of materials", f"{bill.name}, {len(components)} components")
    words = [programs / "fashion-cnn", "serve", "--port", "0"]
    pipe = subprocess.PIPE
    server = subprocess.Popen(words, cwd=work, env=clean_environment(), stderr=pipe, text=True)  # noqa: S603
    try:
        lines = iter(server.stderr or ())
        line = next((x for x in lines if "http://" in x), None)
        if line is None:
            raise SystemExit(f"serve: ended with status {server.wait(5)}, without an address")
        port = int(line.split("127.0.0.1:")[1].split()[0])
        photo = work / f"{next(iter(PHOTOS))}.jpg"
        status, answer = request_json(port, "POST", "/predict", photo.read_bytes(), JPEG)
        expect(answer.get("label") == photo.stem, f"serve: status {status}, {answer}"[:300])
        report("serve", f"POST {photo.name}: {answer['label']}")
        server.terminate()
        server.wait(30)
    finally:
        server.kill()


def check_facts(work: Path) -> None:
    """CITATION.cff is valid, and every file has a license.

    Their tools have an environment of their own: they need older packages than others here.
    """
    programs = new_environment(work / "facts", CITATION_TOOL, LICENSE_TOOL)
    text = run(programs / "cffconvert", "--validate", "-i", ROOT / "CITATION.cff", cwd=work)
    report("CITATION.cff", text.strip())
    text = run(programs / "reuse", "--root", ROOT, "lint", cwd=work)
    report("licenses", text.strip().splitlines()[-1])


def main() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        wheel = build(version, work)
        programs = use_bare(wheel, version, work)
        check_types(programs, work)
        use_serve(wheel, work)
        check_facts(work)


if __name__ == "__main__":
    main()
