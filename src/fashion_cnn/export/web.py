"""The format `web`: a folder for any static web host, where the visitor's browser runs the model.

The page is that of `serving/page`; in place of a server it uses ONNX Runtime's build for browsers.
"""

import base64
import hashlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from fashion_cnn.export import require_new_path, run_command
from fashion_cnn.files import copy_folder_atomically
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import model_name

PAGE, WEB = (Path(__file__).parents[1] / "serving" / name for name in ("page", "web"))
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA512 = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = {  # name in the package -> with an ending that every web server knows
    "ort.wasm.bundle.min.mjs": "ort.wasm.bundle.min.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
CHARSET = '<meta charset="utf-8">'
HEAD = f'{CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
FROM_DISK = (
    '<p class="card" id="disk">The program of this page has not started. This page needs a web '
    "server, because browsers do not run models from disk. For example, run <code>python -m "
    "http.server --bind 127.0.0.1</code> in its folder. If it comes from a server already, some "
    "of its files are missing there.</p>"
)


def export_web(model: str, output: Path) -> Path:
    """Write a folder that a static web host can serve, for any model of gray or color pictures.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: its inputs are not of 1 or 3 channels, or `output` exists already.
        OSError: npm is missing, or cannot download what the page needs.
    """
    classifier = Classifier.load(model)
    if classifier.shape[2] not in (1, 3):
        raise ValueError(f"{model}: takes {classifier.shape[2]} channels; the page's models 1 or 3")
    require_new_path(output)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "web"
        shutil.copytree(PAGE, folder / "static", ignore=shutil.ignore_patterns("index.html"))
        for script in WEB.iterdir():  # replaces the one that sends requests to a server
            shutil.copyfile(script, folder / "static" / script.name)
        _add_runtime(Path(name), folder / "static")
        (folder / "model.onnx").write_bytes(classifier.content)
        card = {"name": model_name(model), "sha256": classifier.sha256, **classifier.card}
        (folder / "model.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
        page = (PAGE / "index.html").read_text(encoding="utf-8")
        page = page.replace(CHARSET, HEAD).replace("<main>", f"<main>\n{FROM_DISK}")
        (folder / "index.html").write_text(page, encoding="utf-8")
        return copy_folder_atomically(folder, output)


def _add_runtime(temporary: Path, folder: Path) -> None:
    """Download ONNX Runtime's build for browsers with npm, and unpack the files a page needs."""
    npm = shutil.which("npm")
    if not npm:
        raise OSError(f"npm: not installed; it downloads {RUNTIME}; install Node.js")
    if error := run_command([npm, "pack", RUNTIME, "--pack-destination", str(temporary)]):
        raise OSError(f"npm: cannot download {RUNTIME} ({error[0]})")
    (archive,) = temporary.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != RUNTIME_SHA512:
        raise OSError(f"{RUNTIME}: got SHA-512 {digest[:16]}…; expected {RUNTIME_SHA512[:16]}…")
    with tarfile.open(archive) as files:
        for member, name in RUNTIME_FILES.items():
            file = files.extractfile(f"package/dist/{member}")
            if file:
                (folder / name).write_bytes(file.read())
