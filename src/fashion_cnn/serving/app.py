"""The application: the Open Inference Protocol, photos, metrics for operators, and the page."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.serving import protocol, schema
from fashion_cnn.serving.limits import RequestLimits
from fashion_cnn.serving.pages import page_files
from fashion_cnn.serving.photos import (
    InvalidInput,
    errors_of_input,
    explain_photo,
    prepare_photo,
    read_photo,
    to_png,
)
from fashion_cnn.serving.queue import InferenceQueue
from fashion_cnn.serving.settings import Settings
from fashion_cnn.serving.state import ServerState

PAGE = Path(__file__).parent / "page"
MAX_DIGITS = 20  # of a number in a header
MAX_INLINE_MEGABYTES = 0.1  # of JSON that is parsed at once, in a millisecond
VERSION = version("fashion-cnn")

router = APIRouter()
v2 = APIRouter(prefix="/v2", tags=["protocol"])


def make_app(state: ServerState, settings: Settings) -> ASGIApp:
    """The ASGI application."""
    app = FastAPIOffline(
        redoc_url=None,
        title="fashion-cnn",
        version=VERSION,
        summary="Classifies pictures of clothes.",
        root_path=settings.root_path,
        redirect_slashes=False,
        routes=[*v2.routes, *router.routes],  # not included: each request would be matched twice
    )
    app.state.server = state
    app.mount("/static", page_files(PAGE), name="page")
    for kind in (HTTPException, RequestValidationError, InvalidInput, Exception):
        app.add_exception_handler(kind, error_response)
    schema.add_request_models(app)
    limited = RequestLimits(app, state, settings)
    if not settings.origins:
        return limited
    return CORSMiddleware(
        limited,
        settings.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[protocol.HEADER_LENGTH, "retry-after"],
    )


async def error_response(request: Request, error: Exception) -> Response:
    """An error in the protocol's format."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, RequestValidationError):
        return JSONResponse({"error": protocol.validation_message(error.errors())}, 400)
    if isinstance(error, InvalidInput):
        return JSONResponse({"error": str(error).removeprefix("picture: ")}, 400)
    return JSONResponse({"error": "internal error; the server's log has the details"}, 500)


async def _server_state(request: Request) -> ServerState:
    return request.app.state.server


async def _requested_model(request: Request, name: str, version: str | None = None) -> Classifier:
    """The loaded model, if it has the name and version in the path; else 404."""
    state: ServerState = request.app.state.server
    if name != state.name or version not in (None, state.classifier.sha256):
        requested = name if version is None else f"{name}, version {version}"
        available = f"{state.name}, version {state.classifier.sha256}"
        raise HTTPException(404, f"no model {requested[:200]}; available is {available}")
    return state.classifier


State = Annotated[ServerState, Depends(_server_state)]
RequestedModel = Annotated[Classifier, Depends(_requested_model)]
_NO_MODEL: Any = {"responses": {404: schema.ERRORS[404]}}
_INFER: Any = {"responses": schema.INFERRED, "openapi_extra": schema.INFER_BODY}


@v2.head("/health/live", include_in_schema=False)
@v2.get("/health/live")
async def live() -> schema.Live:
    """Whether the server runs."""
    return schema.Live(live=True)


@v2.head("/health/ready", include_in_schema=False)
@v2.get("/health/ready", response_model=schema.Ready, responses={503: schema.ERRORS[503]})
async def ready(state: State) -> Any:
    """Whether the server accepts requests; not while it shuts down."""
    if state.draining:
        return JSONResponse({"ready": False, "error": "shutting down"}, 503)
    return {"ready": True}


@v2.get("")
async def server() -> schema.Server:
    """Name, version and extensions of the server."""
    return schema.Server(name="fashion-cnn", version=VERSION, extensions=protocol.EXTENSIONS)


@v2.get("/models/{name}/versions/{version}", **_NO_MODEL)
@v2.get("/models/{name}", **_NO_MODEL)
async def model_metadata(name: str, model: RequestedModel) -> schema.Model:
    """The input and output tensors of a model; -1 means any number of images."""
    classes = len(model.card["class_names"])
    return schema.Model(
        name=name,
        versions=[model.sha256],
        platform="onnx_onnxv1",
        runtime=model.runtime,
        inputs=[schema.Tensor(name=protocol.INPUT, datatype="UINT8", shape=[-1, *model.shape])],
        outputs=[schema.Tensor(name=protocol.OUTPUT, datatype="FP32", shape=[-1, classes])],
    )


@v2.get("/models/{name}/versions/{version}/ready", **_NO_MODEL)
@v2.get("/models/{name}/ready", **_NO_MODEL)
async def model_ready(name: str, model: RequestedModel) -> schema.ModelReady:
    """Whether a model accepts requests."""
    return schema.ModelReady(name=name, ready=True)


@v2.post("/models/{name}/infer", **_INFER)
async def infer(request: Request, name: str) -> Response:
    """Class probabilities of images of the model's input size."""
    return await _infer(request, name)


@v2.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer_version(request: Request, name: str, version: str) -> Response:
    """Class probabilities by a model whose file has this SHA-256."""
    return await _infer(request, name, version)


async def _infer(request: Request, name: str, version: str | None = None) -> Response:
    # without dependencies, which would take a tenth of the time of one image
    state = await _server_state(request)
    model = await _requested_model(request, name, version)
    parsed = await _parse_infer_request(request, state.queue, model.shape)
    with state.queue.reserve(image=len(parsed.images)):
        outputs = await state.queue.outputs(model, parsed.images)
    state.metrics.count_images(model, parsed.images, outputs)
    body, headers = protocol.write_response(parsed, outputs[0], name, model.sha256)
    return Response(body, headers=headers)


async def _parse_infer_request(
    request: Request, queue: InferenceQueue, shape: tuple[int, int, int]
) -> protocol.InferRequest:
    """The request in the body; a long JSON part is parsed in a thread."""
    header = protocol.HEADER_LENGTH
    length = request.headers.get(header)
    if length is not None and not (length.isdecimal() and len(length) < MAX_DIGITS):
        raise InvalidInput(f"{header}: got {length[:60]!r}; expected a number of bytes")
    body = await request.body()
    json_length = None if length is None else int(length)
    arguments = body, json_length, shape
    megabytes = (len(body) if json_length is None else min(json_length, len(body))) / 1e6
    with errors_of_input():
        if megabytes < MAX_INLINE_MEGABYTES:
            return protocol.parse_infer_request(*arguments)
        with queue.reserve(megabyte=megabytes):
            async with queue.parsing:
                parse = protocol.parse_infer_request
                return await queue.run_in_thread("megabyte", parse, *arguments, amount=megabytes)


@router.get("/metrics", tags=["operators"], response_class=Response)
async def metrics(state: State) -> Response:
    """Metrics for Prometheus."""
    return Response(generate_latest(state.metrics), media_type=CONTENT_TYPE_LATEST)


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(PAGE / "index.html")


@router.get("/model.json", tags=["photos"])
async def card(state: State) -> dict[str, Any]:
    """The model's card: its classes, its accuracy, its training data."""
    return {"name": state.name, "sha256": state.classifier.sha256, **state.classifier.card}


@router.post(
    "/predict", tags=["photos"], responses=schema.PREDICTED, openapi_extra=schema.PHOTO_BODY
)
async def predict(
    request: Request,
    state: State,
    top: Annotated[int, Query(ge=1, le=1000, description="Number of classes.")] = 3,
    seen: Annotated[bool, Query(description="Include the network's input.")] = True,
    explain: Annotated[bool, Query(description="Add images of each processing step.")] = False,
) -> Response:
    """Classify a photo (JPEG, PNG or WebP), sent as the body or as the form field `file`."""
    started, photo = time.perf_counter(), await read_photo(request)
    name, classifier, queue, steps = state.name, state.classifier, state.queue, None
    with queue.reserve(image=1, photo=1):
        prepared = await prepare_photo(classifier, queue, photo)
        prepared_at = time.perf_counter()
        images = prepared.pixels[np.newaxis]
        outputs = await queue.outputs(classifier, images)
        predicted_at = time.perf_counter()
    if explain:
        steps = await queue.explain(explain_photo, classifier, prepared)
    prediction = classifier.to_prediction(outputs[0][0], outputs[1][0], prepared.note)
    state.metrics.count_images(classifier, images, outputs, prepared.note)
    best = list(prediction.probabilities.items())[:top]
    content = {
        "label": prediction.label,
        "probability": prediction.probability,
        "verdict": prediction.verdict,
        "similarity": prediction.similarity,
        "note": prediction.note,
        "top": [{"label": label, "probability": probability} for label, probability in best],
        "model": name,
        "version": classifier.sha256,
        "milliseconds": {
            "prepare": round(1e3 * (prepared_at - started), 3),
            "model": round(1e3 * (predicted_at - prepared_at), 3),
        },
    }
    if seen:
        content["seen"] = to_png(prepared.pixels)
    if explain:
        content["steps"] = steps
    return JSONResponse(content)
