"""The static files of the pages, with the media types that browsers expect."""

import mimetypes
from pathlib import Path

from fastapi.staticfiles import StaticFiles

# by file name; not from Windows' registry, where programs register other types
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page_files(folder: Path) -> StaticFiles:
    """Serve the files of a folder."""
    for suffix, media_type in _TYPES.items():
        mimetypes.add_type(media_type, suffix)
    return StaticFiles(directory=folder)
