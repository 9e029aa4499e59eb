"""The built page as files: every path of a view is index.html, since the page reads its state from the address."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from otel_ebpf.errors import UnsupportedError

FOLDER = Path(__file__).parent / "_page"
# The list's name with one thing's is what people type: the page takes both.
VIEWS = (
    *("/", "/map", "/services", "/service/{name:path}", "/services/{name:path}"),
    *("/traces", "/trace/{id}", "/traces/{id}", "/live", "/agent"),
)
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
_FOREVER, _ANEW = "public, max-age=31536000, immutable", "no-cache"


def routes(folder: Path = FOLDER) -> list[BaseRoute]:
    """A route for each file and each view.

    UnsupportedError: the page was not built. Files are looked for among those that are there (the page may be built
    anew while it is served): what a client sends never becomes a path.
    """
    index = folder / "index.html"
    if not index.is_file():
        raise UnsupportedError("the page is not built: run `make page`, or install the wheel")

    async def view(_request: Request) -> Response:
        return _send(index, _ANEW)

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        found = next((path for path in folder.iterdir() if path.name == name and path.suffix in _TYPES), None)
        if found is None:
            return PlainTextResponse("no such page", 404)
        return _send(found, _FOREVER if found.name.startswith("app-") else _ANEW)

    return [*(Route(path, view) for path in VIEWS), Route("/{name}", file)]


def _send(path: Path, cache: str) -> Response:
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"cache-control": cache})
