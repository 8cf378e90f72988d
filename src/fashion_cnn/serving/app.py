"""The application: the Open Inference Protocol, photos, figures for operators, and the page."""

import base64
import io
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware.cors import CORSMiddleware

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.serving import schema
from fashion_cnn.serving.limits import MAX_BODY_BYTES, RequestLimits
from fashion_cnn.serving.protocol import (
    EXTENSIONS,
    HEADER_LENGTH,
    read_request,
    write_response,
)
from fashion_cnn.serving.queue import Overloaded
from fashion_cnn.serving.state import LoadedModel, Service

PAGE = Path(__file__).parent / "page"
KINDS = "JPEG, PNG or WebP"


def make_app(service: Service, token: str | None = None, origins: Sequence[str] = ()) -> Any:
    """The ASGI application.

    Args:
        service: the model and what goes with it.
        token: what clients have to show, if anything.
        origins: of pages elsewhere that may ask, such as `https://shop.example`.
    """
    app = FastAPIOffline(
        redoc_url=None,
        title="fashion-cnn",
        version=version("fashion-cnn"),
        summary="Says what kind of garment is on a picture.",
    )
    _add_protocol(app, service)
    _add_photos(app, service)
    _add_page(app, service)
    _add_health(app, service)
    for kind in (AnyHTTPException, RequestValidationError, ValueError, Overloaded, Exception):
        app.add_exception_handler(kind, _say)
    guard = RequestLimits(app, service, token)
    if not origins:
        return guard
    return CORSMiddleware(guard, list(origins), allow_methods=["GET", "POST"], allow_headers=["*"])


async def _say(request: Request, error: Exception) -> Response:
    """An error as the protocol wants it."""
    if isinstance(error, RequestValidationError):
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return JSONResponse({"error": told}, 400)
    if isinstance(error, AnyHTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, Overloaded):
        return JSONResponse({"error": str(error)}, 503, error.headers)
    if isinstance(error, ValueError):
        return JSONResponse({"error": str(error).removeprefix("picture: ")}, 400)
    return JSONResponse({"error": "something is wrong here; the server's log says what"}, 500)


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/v2/health/live", tags=["protocol"], response_model=schema.Live)
    async def live() -> Any:
        """Whether the process answers; the model is not touched."""
        return {"live": True}

    @app.get("/v2/health/ready", tags=["protocol"], response_model=schema.Ready, responses=_NOT_YET)
    async def ready() -> Any:
        """Whether requests should be sent here."""
        if service.draining:
            return JSONResponse({"ready": False, "error": "shutting down"}, 503)
        return {"ready": True}

    @app.get("/metrics", tags=["operators"], response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        content, kind = service.metrics.text()
        return Response(content, media_type=kind)


def _add_protocol(app: FastAPI, service: Service) -> None:
    @app.get("/v2", tags=["protocol"], response_model=schema.Server)
    async def server() -> Any:
        """What this server is."""
        return {"name": "fashion-cnn", "version": app.version, "extensions": EXTENSIONS}

    @app.get("/v2/models/{name}/versions/{version}", **_MODEL)
    @app.get("/v2/models/{name}", **_MODEL)
    async def model(name: str, version: str | None = None) -> Any:
        """What a model takes and gives."""
        served = _find(service, name, version)
        about = {"name": served.name, "versions": [served.version], "platform": "onnx_onnxv1"}
        return about | served.tensors.metadata()

    @app.get("/v2/models/{name}/versions/{version}/ready", **_MODEL_READY)
    @app.get("/v2/models/{name}/ready", **_MODEL_READY)
    async def model_ready(name: str, version: str | None = None) -> Any:
        """Whether a model can be asked."""
        return {"name": _find(service, name, version).name, "ready": True}

    @app.post("/v2/models/{name}/versions/{version}/infer", **_INFER)
    @app.post("/v2/models/{name}/infer", **_INFER)
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        """Probabilities of raw pixels."""
        served = _find(service, name, version)
        length = request.headers.get(HEADER_LENGTH)
        if length is not None and not length.isdecimal():
            raise ValueError(f"{HEADER_LENGTH}: got {length[:60]!r}; expected a number of bytes")
        json_length = None if length is None else int(length)
        asked = read_request(await request.body(), json_length, served.tensors)
        with service.line.place(image=len(asked.images)):
            rows = await service.line.probabilities(served.classifier, asked.images)
        service.metrics.seen(asked.images, rows, served.classifier.card["class_names"])
        body, headers = write_response(asked, rows, served.name, served.version)
        return Response(body, headers=headers)


def _find(service: Service, name: str, wanted: str | None) -> LoadedModel:
    """The model of this name and version, or 404."""
    served = service.served
    if name != served.name or wanted not in (None, served.version):
        has = f"{served.name}, version {served.version}"
        asked = name if wanted is None else f"{name}, version {wanted}"
        raise HTTPException(404, f"no model {asked[:200]}; there is {has}")
    return served


def _add_photos(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict", tags=["photos"], responses={**schema.PREDICTED}, openapi_extra=schema.PHOTO
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="How many classes.")] = 3,
        explain: Annotated[
            bool, Query(description="Every step, and where the evidence is.")
        ] = False,
    ) -> Response:
        """What is on a photo: JPEG, PNG or WebP, as the body or as a form's `file`."""
        began, photo = time.perf_counter(), await _photo(request)
        served, line = service.served, service.line
        with line.place(image=1, photo=1, explanation=int(explain)):
            seen = await line.run_in_thread("photo", served.classifier.prepare, io.BytesIO(photo))
            prepared = time.perf_counter()
            rows = await line.probabilities(served.classifier, seen.pixels[np.newaxis])
            answered = time.perf_counter()
            steps = None
            if explain:
                steps = await line.run_in_thread("explanation", _steps, served.classifier, seen)
        answer = served.classifier.to_prediction(rows[0], seen.note)
        service.metrics.seen(seen.pixels[np.newaxis], rows, served.classifier.card["class_names"])
        service.metrics.said(answer.verdict)
        shares = list(answer.probabilities.items())[:top]
        found = {
            "label": answer.label,
            "probability": answer.probability,
            "verdict": answer.verdict,
            "note": answer.note,
            "top": [{"label": name, "probability": share} for name, share in shares],
            "seen": _png(seen.pixels),
            "model": served.name,
            "version": served.version,
            "milliseconds": {
                "prepare": round(1e3 * (prepared - began), 3),
                "model": round(1e3 * (answered - prepared), 3),
            },
        }
        return JSONResponse(found | ({"steps": steps} if explain else {}))


async def _photo(request: Request) -> bytes:
    """The bytes of a photo of a kind that is read; 415 for others."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8)
        parser.spool_max_size = MAX_BODY_BYTES  # nothing uploaded is put on disk
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError) as error:
            raise ValueError(f"form: {getattr(error, 'message', error)}") from None
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise ValueError("form: no file; expected one, named 'file'")
        photo = await file.read()
        await form.close()
    else:
        photo = await request.body()
    if not photo:
        raise ValueError(f"an empty body; expected a photo, {KINDS}")
    webp = photo.startswith(b"RIFF") and photo[8:12] == b"WEBP"
    if not webp and not photo.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        raise HTTPException(415, f"not a photo of a kind that is read; expected {KINDS}")
    return photo


def _steps(classifier: Classifier, seen: Any) -> list[dict[str, str]]:
    from fashion_cnn.inference.drawing import explanation_steps

    images = explanation_steps(seen, classifier.occlusion_map(seen))
    return [{"caption": caption, "png": _png(np.asarray(image))} for caption, image in images]


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(flat).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _add_page(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE), name="page")

    @app.get("/model.json", tags=["photos"])
    async def card() -> dict[str, Any]:
        """The model's card: its classes, how good it is, what it learnt from."""
        served = service.served
        return {"name": served.name, "sha256": served.version, **served.classifier.card}


_NOT_YET: dict[int | str, dict[str, Any]] = {503: schema.ERRORS[503]}
_NAMED: dict[str, Any] = {"tags": ["protocol"], "responses": {404: schema.ERRORS[404]}}
_MODEL: dict[str, Any] = {**_NAMED, "response_model": schema.Model}
_MODEL_READY: dict[str, Any] = {**_NAMED, "response_model": schema.ModelReady}
_INFER: dict[str, Any] = {
    "tags": ["protocol"],
    "responses": schema.INFERRED,
    "openapi_extra": schema.INFER,
}
