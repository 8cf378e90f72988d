"""A model in; a folder for any static web host out, where the visitor's browser runs the model.

The page is the service's own; in place of a server it asks ONNX Runtime's build for browsers.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from fashion_cnn.files import copy_folder_atomically
from fashion_cnn.inference.classifier import Classifier, model_name

PAGE, WEB = (Path(__file__).parents[1] / "serving" / name for name in ("page", "web"))
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
HEAD = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
FROM_DISK = (
    '<p class="card" id="disk">This page has to come from a web server, for browsers run no model '
    "from disk: <code>python -m http.server --bind 127.0.0.1</code> in its folder is one.</p>"
)


def export_web(model: str, output: Path) -> Path:
    """Write a folder that a static web host can serve.

    Args:
        model: what `Classifier.load` takes; for grey pictures of 28x28.
        output: the folder, which must not be there yet.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: no such model.
        ModuleNotFoundError: npm, which fetches the runtime, is not installed.
        ValueError: not a valid model, one of another size, or `output` is there.
        OSError: the runtime cannot be fetched, or is not the one that is expected.
    """
    classifier = Classifier.load(model)
    if classifier.shape != (28, 28, 1):
        raise ValueError(f"{model}: takes {classifier.shape}; the page's models take (28, 28, 1)")
    if output.exists():
        raise ValueError(f"{output}: there already; delete it, or give another --output")
    if not output.parent.is_dir():
        raise ValueError(f"{output}: there is no folder {output.parent}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "web"
        shutil.copytree(PAGE, folder / "static", ignore=shutil.ignore_patterns("index.html"))
        for script in WEB.iterdir():  # in place of the one that asks a server
            shutil.copyfile(script, folder / "static" / script.name)
        _add_runtime(Path(name), folder / "static")
        (folder / "model.onnx").write_bytes(classifier.content)
        card = {"name": model_name(model), "sha256": classifier.sha256, **classifier.card}
        (folder / "model.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
        page = (PAGE / "index.html").read_text(encoding="utf-8")
        page = page.replace('<meta charset="utf-8">', HEAD).replace(
            "<main>", f"<main>\n{FROM_DISK}"
        )
        (folder / "index.html").write_text(page, encoding="utf-8")
        return copy_folder_atomically(folder, output)


def _add_runtime(temporary: Path, folder: Path) -> None:
    """Fetch ONNX Runtime's build for browsers with npm, and unpack what a page needs of it."""
    npm = shutil.which("npm")
    if not npm:
        raise OSError(f"npm is not installed; it fetches {RUNTIME}: install Node.js")
    call = [npm, "pack", RUNTIME, "--pack-destination", str(temporary)]
    done = subprocess.run(call, capture_output=True, text=True)  # noqa: S603 (ours)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it was killed"]
        raise OSError(f"npm cannot fetch {RUNTIME}: {said[0]}")
    (packed,) = temporary.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if found != RUNTIME_SHA512:
        raise OSError(f"{RUNTIME}: got SHA-512 {found[:16]}…; expected {RUNTIME_SHA512[:16]}…")
    with tarfile.open(packed) as files:
        for name in RUNTIME_FILES:
            member = files.extractfile(f"package/dist/{name}")
            if member:
                (folder / name).write_bytes(member.read())
