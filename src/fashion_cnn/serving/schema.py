"""Requests and responses as Pydantic models, which make the OpenAPI description at /docs."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from fashion_cnn.serving.protocol import InferBody


class Error(BaseModel):
    error: str = Field(description="What was received, and what was expected.")


class Server(BaseModel):
    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    name: str
    ready: bool


class Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class Model(BaseModel):
    name: str
    versions: list[str] = Field(description="One: the SHA-256 of the model's file.")
    platform: str
    runtime: str = Field(description="Name, version and precision of what computes it.")
    inputs: list[Tensor]
    outputs: list[Tensor]


class OutputTensor(Tensor):
    parameters: dict[str, Any] | None = Field(None, description="The number of raw bytes, if any.")
    data: list[float] | None = Field(None, description="Probabilities, image by image.")


class Inferred(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class ClassProbability(BaseModel):
    label: str
    probability: float = Field(ge=0, le=1)


class Step(BaseModel):
    caption: str
    png: str = Field(description="A PNG image, base64.")


class Prediction(BaseModel):
    label: str
    probability: float = Field(ge=0, le=1)
    verdict: str = Field(description="sure, unsure, unknown, or empty without thresholds.")
    similarity: float | None = Field(
        ge=-2, le=1, description="To the training images of the class; null if it is not measured."
    )
    note: str = Field(description="Advice on the photo, or empty.")
    top: list[ClassProbability]
    seen: str | None = Field(
        None, description="The network's input: a PNG image, base64. Not with seen=false."
    )
    steps: list[Step] | None = Field(None, description="Only with explain=true.")
    model: str
    version: str = Field(description="The SHA-256 of the model's file.")
    milliseconds: dict[str, float] = Field(
        description="prepare: decoding and finding the garment; model: queue and network."
    )


_DESCRIPTIONS = {
    400: "The request is invalid; the error says what is expected.",
    401: "The token is missing or wrong.",
    404: "There is no such model or version.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The type of the file or its encoding is not supported.",
    503: "The server is overloaded or not ready; see Retry-After.",
}
ERRORS: Any = {k: {"model": Error, "description": v} for k, v in _DESCRIPTIONS.items()}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_RAW = {"application/octet-stream": _BYTES}
_PROBABILITIES = {"model": Inferred, "description": "Probabilities.", "content": _RAW}
INFERRED = {200: _PROBABILITIES, **ERRORS}
PREDICTED = {200: {"model": Prediction, "description": "A prediction."}, **ERRORS}
_RAW_TENSOR = (
    "JSON, followed by the raw bytes of the tensor. The header "
    "Inference-Header-Content-Length gives the length of the JSON."
)
_INFER_BODIES = {
    "application/json": {"schema": {"$ref": "#/components/schemas/InferBody"}},
    "application/octet-stream": {"schema": {**_BYTES["schema"], "description": _RAW_TENSOR}},
}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _BYTES["schema"]}}
_PHOTOS = dict.fromkeys(("image/jpeg", "image/png", "image/webp"), _BYTES)
_PHOTO_BODIES = {"multipart/form-data": {"schema": _FORM}, **_PHOTOS}
# the `openapi_extra` of the routes that read their body themselves
INFER_BODY = {"requestBody": {"required": True, "content": _INFER_BODIES}}
PHOTO_BODY = {"requestBody": {"required": True, "content": _PHOTO_BODIES}}


def add_request_models(app: FastAPI) -> None:
    """Describe the bodies that routes read themselves, which FastAPI cannot know."""
    template = "#/components/schemas/{model}"
    _, definitions = models_json_schema([(InferBody, "validation")], ref_template=template)
    app.openapi()["components"]["schemas"].update(definitions["$defs"])
