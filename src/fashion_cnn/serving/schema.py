"""What requests and answers look like, for the OpenAPI description at /docs."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Error(BaseModel):
    error: str = Field(description="What was found, and what was expected.")


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
    model_config = ConfigDict(protected_namespaces=())
    name: str
    versions: list[str] = Field(description="One: the SHA-256 of the model's file.")
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Share(BaseModel):
    label: str
    probability: float = Field(ge=0, le=1)


class Step(BaseModel):
    caption: str
    png: str = Field(description="A PNG in base 64.")


class Prediction(BaseModel):
    label: str
    probability: float = Field(ge=0, le=1)
    verdict: str = Field(description="sure, unsure, or empty where the model has no threshold.")
    note: str = Field(description="What the user of the photo should know, or nothing.")
    top: list[Share]
    seen: str = Field(description="What the network saw: a PNG in base 64.")
    steps: list[Step] | None = Field(default=None, description="With explain=true.")
    model: str
    version: str = Field(description="The SHA-256 of the model's file.")
    milliseconds: dict[str, float] = Field(
        description="prepare: decoding and finding the garment; model: in line and in the network."
    )


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error, "description": text}
    for status, text in {
        400: "Not what is expected; the error says what is.",
        401: "The server wants a token.",
        404: "No such model or version.",
        408: "The body took too long.",
        413: "The body is too large.",
        415: "Of a kind that is not read.",
        503: "Too much in line, or not ready; see Retry-After.",
    }.items()
}

_PARAMETERS = {"type": "object"}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string", "enum": ["UINT8"]},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "description": "Nested, or in one row; 0..255.", "items": {}},
    },
}
INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": _PARAMETERS,
                        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1, "maxItems": 1},
                        "outputs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "parameters": _PARAMETERS,
                                },
                            },
                        },
                    },
                }
            },
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "The JSON, its length in Inference-Header-Content-Length, and "
                    "after it the bytes of the tensor.",
                }
            },
        },
    }
}
INFERRED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Probabilities.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    **ERRORS,
}
_FILE = {"type": "string", "format": "binary"}
PHOTO: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}
            },
            **{f"image/{kind}": {"schema": _FILE} for kind in ("jpeg", "png", "webp")},
        },
    }
}
PREDICTED: dict[int | str, dict[str, Any]] = {
    200: {"model": Prediction, "description": "What is on the photo."},
    **ERRORS,
}
