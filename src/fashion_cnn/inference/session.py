"""The bytes of an exported model in; a function that computes its outputs, and its card, out."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from fashion_cnn.console import error_line
from fashion_cnn.data.photo import SIDE
from fashion_cnn.inference import openvino
from fashion_cnn.inference.onnx_check import reject_external_data
from fashion_cnn.inference.openvino import Run
from fashion_cnn.machine import processor_has_bfloat16, version

RUNTIMES, PRECISIONS = ("auto", "onnxruntime", "openvino"), ("auto", "float32", "bfloat16")
MAX_ACCURACY_LOSS = 0.0015  # in bfloat16, of a model that is run in it without being asked
BATCH = 128  # images of 28x28 in one call of the runtime; fewer large ones
MIN_PROOF_IMAGES = 100  # with fewer, the loss says too little
# how much outputs for noise may differ from ONNX Runtime's; rounded ones differ more
MAX_DIFFERENCE, MAX_ROUNDED_DIFFERENCE = 1e-3, 0.25


class Network(NamedTuple):
    """A network that is ready to run.

    Attributes:
        run: batches of uint8 images -> the outputs for each: probabilities and, if the model
            measures it, similarity.
        card: what the export wrote into the file.
        runtime: the name and version of the runtime, and the precision, for people.
    """

    run: Run
    card: dict[str, Any]
    runtime: str


def open_model(
    content: bytes,
    name: str,
    threads: int = 0,
    runtime: str = "auto",
    precision: str = "auto",
    bulk: bool = False,
) -> Network:
    """Load a network into a runtime, which can read no other file, and read the card.

    Args:
        content: the bytes of an `.onnx` file.
        name: for error messages.
        threads: that compute one batch; 0 for all cores.
        runtime: one of `RUNTIMES`.
        precision: one of `PRECISIONS`.
        bulk: as of `Classifier.load`.

    Raises:
        ModuleNotFoundError: the runtime is not installed.
        ValueError: not a valid model, not one that `fashion-cnn export` wrote, or one that the
            requested runtime cannot compute in the requested precision.
    """
    _check_choice(runtime, precision)
    reject_external_data(content, name)
    try:
        session = start_session(content, threads)
        card = json.loads(session.get_modelmeta().custom_metadata_map["fashion_cnn"])
        _check_card(card, session)
    except KeyError as error:
        raise ValueError(
            f"{name}: not a model exported by fashion-cnn (its metadata lacks {error})"
        ) from None
    except Exception as error:  # the runtime has its own exception types for damaged bytes
        raise ValueError(f"{name}: not a valid model ({error_line(error)})") from None
    network = Network(_runner(session), card, f"ONNX Runtime {version('onnxruntime')}, float32")
    chosen = _choose(runtime, precision, bulk, card)
    if chosen is None:
        return network
    try:
        return _open_in_openvino(content, threads, chosen, network, bulk)
    except Exception as error:  # whatever it is, for OpenVINO has many
        reason = error_line(error, -1)
        if runtime == "auto" and precision == "auto":
            return network._replace(runtime=f"{network.runtime} (OpenVINO: {reason})")
        raise ValueError(f"{name}: cannot run in OpenVINO in {chosen} ({reason})") from None


def batch_size(shape: tuple[int, int, int]) -> int:
    """How many images of a shape to compute at a time."""
    return max(4, BATCH * SIDE**2 // max(SIDE**2, shape[0] * shape[1]))


def _check_choice(runtime: str, precision: str) -> None:
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime: got {runtime!r}; expected {', '.join(RUNTIMES)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}; expected {', '.join(PRECISIONS)}")
    if precision == "bfloat16":
        if runtime == "onnxruntime":
            raise ValueError(
                "precision: got bfloat16; ONNX Runtime computes in float32 on processors; give "
                "the runtime openvino"
            )
        if not processor_has_bfloat16():
            raise ValueError(
                "precision: got bfloat16, but the system names neither AVX512-BF16 nor AMX "
                "for this processor, or ONEDNN_MAX_CPU_ISA forbids them; expected float32"
            )


def _choose(runtime: str, precision: str, bulk: bool, card: Mapping[str, Any]) -> str | None:
    """The precision for OpenVINO; None for ONNX Runtime, which is as fast in float32."""
    if runtime == "onnxruntime":
        return None
    if precision == "auto":
        proof = card.get("bfloat16") or {"images": 0, "accuracy_loss": 0}
        is_proved = int(proof["images"]) >= MIN_PROOF_IMAGES
        is_proved &= float(proof["accuracy_loss"]) <= MAX_ACCURACY_LOSS
        is_faster = bulk and is_proved and processor_has_bfloat16() and find_spec("openvino")
        precision = "bfloat16" if is_faster else "float32"
    if runtime == "auto" and precision == "float32":
        return None
    if find_spec("openvino") is None:
        raise ModuleNotFoundError("openvino", name="openvino")
    return precision


def _open_in_openvino(
    content: bytes, threads: int, precision: str, reference: Network, bulk: bool
) -> Network:
    """Compile the network, and compare what it computes for noise with ONNX Runtime."""
    shape = image_shape(reference.card)
    batch = batch_size(shape)
    run = openvino.start_openvino(content, threads or int(bulk), precision, batch, bulk)
    images = np.random.default_rng(0).integers(0, 256, (batch + 1, *shape), np.uint8)
    batches = [images[:batch], images[batch:]]  # it compiles a network for each of these sizes
    results = zip(run(batches), reference.run(batches), strict=True)
    pairs = [pair for outputs in results for pair in zip(*outputs, strict=True)]
    difference = max(float(np.abs(actual - expected).max()) for actual, expected in pairs)
    is_exact = precision == "float32" and reference.card.get("format") != "onnx-int8"
    if not difference <= (MAX_DIFFERENCE if is_exact else MAX_ROUNDED_DIFFERENCE):
        raise ValueError(f"its outputs differ by {difference:.2g} from ONNX Runtime's")
    return Network(run, reference.card, openvino.describe(precision))


def image_shape(card: dict[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels) of a model's input images, by its card."""
    size = card["input"]
    return int(size["height"]), int(size["width"]), int(size["channels"])


def start_session(content: bytes, threads: int) -> Any:
    """ONNX Runtime's session of a model; see `open_model` for the arguments."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # not its other format, which `reject_external_data` does not check
    options.add_session_config_entry("session.load_model_format", "ONNX")
    folder_entry = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder_entry, f"{__file__}/none")  # cannot exist: in a file
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runner(session: Any) -> Run:
    pixels = session.get_inputs()[0].name
    return lambda batches: [session.run(None, {pixels: images}) for images in batches]


def _check_card(card: dict[str, Any], session: Any) -> None:
    """Raise an error unless the card and the network fit together."""
    (pixels,), (output, *others) = session.get_inputs(), session.get_outputs()
    shape, classes = image_shape(card), len(tuple(map(str, card["class_names"])))
    if (pixels.type, tuple(pixels.shape[1:])) != ("tensor(uint8)", shape):
        raise ValueError(f"input {pixels.type} {pixels.shape}; its card says {shape}")
    if output.shape[1:] != [classes]:
        raise ValueError(f"output {output.shape} for {classes} classes")
    if [(x.type, len(x.shape)) for x in others] not in ([], [("tensor(float)", 1)]):
        raise ValueError(f"{1 + len(others)} outputs; expected probabilities and similarity")
    limit = card.get("unknown_below")
    if limit is not None and not (others and -1 <= float(limit) <= 1):
        raise ValueError(f"unknown_below {limit}; expected -1..1, and an output similarity")
    threshold = card.get("threshold")
    if threshold is not None and not 0 <= float(threshold) <= 1:
        raise ValueError(f"threshold {threshold}; expected 0..1")
    if proof := card.get("bfloat16"):
        float(proof["accuracy_loss"]), int(proof["images"])  # raise if they are no numbers
    for coverage, probability in (card.get("prediction_sets") or {}).items():
        if not (0 < float(coverage) < 1 and 0 <= float(probability) <= 1):
            raise ValueError(f"prediction_sets {coverage}: {probability}; expected shares of 1")
