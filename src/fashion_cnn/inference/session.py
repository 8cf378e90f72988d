"""The bytes of an exported model in; an ONNX Runtime session and the model's card, checked, out."""

import json
from typing import Any

from fashion_cnn.inference.onnx_check import reject_external_data


def open_model(content: bytes, name: str, threads: int) -> tuple[Any, dict[str, Any]]:
    """Create an ONNX Runtime session, which can read no other file, and read the card.

    Args:
        content: the bytes of an `.onnx` file.
        name: for error messages.
        threads: that compute one batch; 0 for all cores.

    Raises:
        ValueError: not a valid model, or not one that `fashion-cnn export` wrote.
    """
    reject_external_data(content, name)
    try:
        session = _start_session(content, threads)
        card = json.loads(session.get_modelmeta().custom_metadata_map["fashion_cnn"])
        _check_card(card, session)
        return session, card
    except KeyError as error:
        raise ValueError(
            f"{name}: not a model exported by fashion-cnn (its metadata lacks {error})"
        ) from None
    except Exception as error:  # the runtime has its own exception types for damaged bytes
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{name}: not a valid model ({reason})") from None


def image_shape(card: dict[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels) of a model's input images, by its card."""
    size = card["input"]
    return int(size["height"]), int(size["width"]), int(size["channels"])


def _start_session(content: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # not its other format, which `reject_external_data` does not check
    options.add_session_config_entry("session.load_model_format", "ONNX")
    folder_entry = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder_entry, f"{__file__}/none")  # cannot exist: in a file
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


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
    for coverage, probability in (card.get("prediction_sets") or {}).items():
        if not (0 < float(coverage) < 1 and 0 <= float(probability) <= 1):
            raise ValueError(f"prediction_sets {coverage}: {probability}; expected shares of 1")
