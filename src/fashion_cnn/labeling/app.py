"""The page on which people decide, and what it asks the server for."""

import io
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from fashion_cnn.data.pictures import read_on_white
from fashion_cnn.labeling.session import AlreadyDecided, LabelSession
from fashion_cnn.serving.app import error_response
from fashion_cnn.serving.limits import RequestLimits
from fashion_cnn.serving.pages import page_files
from fashion_cnn.serving.settings import Settings

PAGE = Path(__file__).parent / "page"
SHARED = Path(__file__).parents[1] / "serving" / "page"  # the style of both pages
MAX_EDGE, SMALL_EDGE = 1024, 160  # pixels of a picture on the page; of a neighbor
MAX_NAME = 4096  # characters
Text = Annotated[str, Field(max_length=MAX_NAME)]
router = APIRouter()


class LabelState:
    """The session, and what `RequestLimits` needs to know."""

    def __init__(self, session: LabelSession) -> None:
        self.session = session
        self.draining = False

    def overload(self) -> None:
        """Deciding takes no time."""

    def count_response(self, route: str, status: int, seconds: float) -> None:
        """There are no metrics."""


class Person(BaseModel):
    """Who asks: an identifier that the page makes up once for each browser."""

    by: Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]


class Choice(Person):
    """A decision about a picture."""

    name: Text
    decision: Literal["label", "none", "skip"]
    label: Text = ""


async def _same_site(request: Request) -> None:
    """Refuse what a page of another site could make a browser send."""
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "requests of other sites are refused")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "expected the Content-Type application/json")


async def _session(request: Request) -> LabelSession:
    return request.app.state.label.session


Session = Annotated[LabelSession, Depends(_session)]
_OWN_PAGE = [Depends(_same_site)]


def make_label_app(session: LabelSession, settings: Settings) -> ASGIApp:
    """The ASGI application.

    Args:
        session: the task and its decisions.
        settings: those of a server; its limits hold here, too.
    """
    app = FastAPI(openapi_url=None, redirect_slashes=False, routes=router.routes)
    app.state.label = state = LabelState(session)
    app.mount("/static/shared", page_files(SHARED), name="shared")
    app.mount("/static", page_files(PAGE), name="page")
    for kind in (HTTPException, RequestValidationError, ValueError, OSError, Exception):
        app.add_exception_handler(kind, _error_response)
    return RequestLimits(app, state, settings)


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, AlreadyDecided):
        return JSONResponse({"error": str(error)}, 409)
    if isinstance(error, ValueError) and not isinstance(error, RequestValidationError):
        return JSONResponse({"error": str(error)}, 400)
    if isinstance(error, OSError):  # such as a full disk
        return JSONResponse({"error": str(error)}, 507)
    return await error_response(request, error)


@router.api_route("/", methods=["GET", "HEAD"])
async def page() -> Response:
    """The page."""
    return FileResponse(PAGE / "index.html")


@router.get("/task.json")
async def task(session: Session) -> dict[str, Any]:
    """What does not change: the classes and the instructions."""
    examples = {k: list(names) for k, names in session.task.examples.items()}
    return {
        "title": session.task.title,
        "class_names": session.task.class_names,
        "instructions": dict(session.task.instructions),
        "examples": examples,
        "decisions": session.log.path.name,
        "blind": session.blind,
    }


@router.post("/next", dependencies=_OWN_PAGE)
async def next_item(person: Person, session: Session) -> dict[str, Any]:
    """The picture to decide about, and the progress."""
    return await run_in_threadpool(session.next_item, person.by)


@router.post("/decide", dependencies=_OWN_PAGE)
async def decide(choice: Choice, session: Session) -> dict[str, Any]:
    """Write a decision to the disk; the next picture."""
    words = choice.by, choice.name, choice.decision, choice.label
    return await run_in_threadpool(session.decide, *words)


@router.post("/undo", dependencies=_OWN_PAGE)
async def undo(person: Person, session: Session) -> dict[str, Any]:
    """Take back the last decision of this person; shows its picture."""
    return await run_in_threadpool(session.undo, person.by)


@router.get("/picture")
async def picture(
    session: Session,
    name: Annotated[str, Query(max_length=MAX_NAME)],
    small: bool = False,
) -> Response:
    """A picture of the task, or a neighbor, as PNG or JPEG."""
    content = await run_in_threadpool(_encode, session, name, SMALL_EDGE if small else MAX_EDGE)
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return Response(content, media_type=f"image/{kind}", headers={"cache-control": "no-store"})


def _encode(session: LabelSession, name: str, edge: int) -> bytes:
    """A picture for a browser, whatever the file contains besides pixels."""
    if not session.is_shown(name):
        raise HTTPException(404, "no such picture in this task")
    original = session.task.read(name)
    image = Image.fromarray(read_on_white(original, edge))
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if isinstance(original, np.ndarray):
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=90)
    return file.getvalue()
