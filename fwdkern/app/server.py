"""The HTTP side: routes, cookies, and how the server starts and ends."""

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from fwdkern.app import methods
from fwdkern.app.guard import Guard, is_loopback, known_hosts
from fwdkern.app.input_source import SENTENCES, InputSource, samples
from fwdkern.app.limits import Limits
from fwdkern.app.network_source import NetworkSource, named, upload_suffix
from fwdkern.app.process import WorkerError, context
from fwdkern.app.questions import NetworkName, Sample, Sentence, Steps, question
from fwdkern.app.session import Session, label_of
from fwdkern.app.sessions import Sessions
from fwdkern.errors import FwdkernError, InputError
from fwdkern.models import DEFAULT_MODEL, DEFAULT_READER
from fwdkern.preprocessing import Preprocessing
from fwdkern.viz.scale import COLOURS

STATIC = Path(__file__).with_name("static")
_UPLOADS = ("/api/network/upload", "/api/inputs/image")
_TENSORS = "application/octet-stream"
_GONE_AGAIN = "Your session has ended; reload the page to begin another."


@dataclass(frozen=True)
class Settings:
    """How a server runs.

    Attributes:
        token: what visitors must show, needed where others than this machine can reach the server; hosts: more names
        that it answers to; offered: a network of whoever started it, beside the embedded ones; preprocessing: its own,
        None for what is known about it; threads: of each visitor's worker.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    hosts: tuple[str, ...] = ()
    offered: NetworkSource | None = None
    preprocessing: Preprocessing | None = None
    limits: Limits = field(default_factory=Limits)
    threads: int = 1

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.token:
            raise InputError(
                f"Others can reach a server at {self.host}: give --token SECRET, which visitors must know, "
                "or leave --host away to serve this machine alone."
            )


def create_app(settings: Settings) -> FastAPI:
    """The application; its sessions are in ``app.state.sessions``."""
    sessions = Sessions(settings.limits, settings.threads)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context()  # tells the process that workers are forked from what to import
        await sessions.start()
        yield
        sessions.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sessions = sessions
    cookie = f"fwdkern-{settings.port}"
    app.add_middleware(
        Guard,
        hosts=known_hosts(settings.host, settings.hosts),
        addresses=not is_loopback(settings.host),
        token=settings.token,
        token_cookie=f"{cookie}-token",
        uploads=_UPLOADS,
    )
    app.add_exception_handler(WorkerError, _worker_error)
    app.add_exception_handler(FwdkernError, _input_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    _add_routes(app, settings, sessions, cookie)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def _add_routes(app: FastAPI, settings: Settings, sessions: Sessions, cookie: str) -> None:
    limits = settings.limits

    def known(request: Request) -> Session:
        session = sessions.find(request.cookies.get(cookie))
        if session is None:
            raise WorkerError(410, _GONE_AGAIN)
        return session

    Visitor = Annotated[Session, Depends(known)]

    @app.get("/api/state")
    async def state(request: Request, response: Response) -> dict[str, Any]:
        """All that the page begins with; a visitor without a session gets one."""
        session = sessions.find(request.cookies.get(cookie))
        if session is None:
            session = sessions.begin()
            response.set_cookie(cookie, session.identity, httponly=True, samesite="strict")
        return {
            "networks": _catalogue(settings),
            "methods": methods.described(),
            "sentences": SENTENCES,
            "samples": [_shown(source) for source in samples()],
            "colours": _stops(),
            "limits": {"imageBytes": limits.image_bytes, "networkBytes": limits.network_bytes, "inputs": limits.inputs},
            "network": None if session.network is None else json.loads(session.network),
            "inputs": [_shown(source) for source in session.inputs.values()],
        }

    @app.post("/api/network")
    async def choose(asked: NetworkName, request: Request, session: Visitor) -> Response:
        source, preprocessing = named_network(settings, asked.name)
        return await _while_wanted(request, session.open(source, preprocessing), "application/json")

    @app.post(_UPLOADS[0])
    async def upload(request: Request, session: Visitor, architecture: str = "") -> Response:
        label = _label(request)
        suffix = upload_suffix(label)
        if suffix == ".safetensors" and not architecture:
            raise InputError(f"{label} holds weights alone; name the architecture that they belong to.")
        path, digest = await session.receive(request.stream(), limits.network_bytes, suffix)
        try:
            if suffix == ".onnx":
                source = NetworkSource(digest, label, str(path))
                preprocessing = None
            else:
                base, preprocessing = named_network(settings, architecture)
                source = NetworkSource(digest, f"{base.label} with {label}", base.name, str(path), base.classes)
            return await _while_wanted(request, session.open(source, preprocessing), "application/json")
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @app.post("/api/preprocessing")
    async def preprocess(asked: Steps, request: Request, session: Visitor) -> Response:
        return await _while_wanted(request, session.preprocess(asked.arguments()), "application/json")

    @app.post(_UPLOADS[1])
    async def add_image(request: Request, session: Visitor) -> Response:
        label = _label(request)
        path, digest = await session.receive(request.stream(), limits.image_bytes, ".image")
        known = session.inputs.get(digest)
        if known is not None:
            path.unlink()
            return await _while_wanted(request, session.add(known), _TENSORS)
        try:
            source = InputSource(digest, label, "image", path=str(path))
            return await _while_wanted(request, session.add(source), _TENSORS)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @app.post("/api/inputs/sample")
    async def add_sample(asked: Sample, request: Request, session: Visitor) -> Response:
        if asked.number >= len(samples()):
            raise InputError(f"There are {len(samples())} samples, numbered from 0.")
        return await _while_wanted(request, session.add(samples()[asked.number]), _TENSORS)

    @app.post("/api/inputs/text")
    async def add_text(asked: Sentence, request: Request, session: Visitor) -> Response:
        text = asked.text.strip()
        if len(text) > limits.characters:
            raise InputError(f"The sentence has {len(text)} characters; at most {limits.characters} are read.")
        identity = "text-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        return await _while_wanted(request, session.add(InputSource(identity, text[:60], "text", text=text)), _TENSORS)

    @app.delete("/api/inputs/{identity}")
    async def remove(identity: str, session: Visitor) -> dict[str, bool]:
        session.remove(identity)
        return {"removed": True}

    @app.get("/api/inputs/{identity}/file")
    async def original(identity: str, session: Visitor) -> Response:
        """An uploaded image as it came, for a saved view."""
        source = session.inputs.get(identity)
        if source is None or not source.path:
            raise WorkerError(404, "This input is not in your strip, or no file belongs to it.")
        return FileResponse(source.path, media_type="application/octet-stream")

    @app.post("/api/inputs/{identity}/{what}")
    async def ask(identity: str, what: str, asked: dict[str, Any], request: Request, session: Visitor) -> Response:
        """A question of `fwdkern.app.questions` about one input."""
        model = question(what)
        try:
            arguments = model.model_validate(asked).model_dump()
        except ValidationError as error:
            raise InputError(f"{what}: {_first_problem(error.errors())}") from None
        return await _while_wanted(request, session.ask(what, identity, arguments), _TENSORS)

    @app.post("/api/cancel")
    async def cancel(session: Visitor) -> dict[str, bool]:
        session.cancel()
        return {"cancelled": True}

    @app.get("/api/progress")
    async def progress(session: Visitor) -> dict[str, Any]:
        told = session.worker.progress if session.worker is not None else None
        done, total = told or (0, 0)
        return {"busy": session.busy, "done": done, "total": total}


def named_network(settings: Settings, name: str) -> tuple[NetworkSource, dict[str, Any] | None]:
    """A network by name with its own preprocessing, if it has one; raises InputError for what is not offered."""
    offered = settings.offered
    if offered is not None and name == offered.identity:
        own = settings.preprocessing
        return offered, None if own is None else asdict(own)
    return named(name), None


async def _while_wanted(request: Request, work: Awaitable[bytes], media_type: str) -> Response:
    """The answer, or the end of the work as soon as the visitor has gone away."""
    task = asyncio.ensure_future(work)

    async def gone() -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.1)

    waiting = asyncio.create_task(gone())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            raise WorkerError(499, "The visitor has gone away.")
        return Response(task.result(), media_type=media_type)
    finally:
        waiting.cancel()
        task.cancel()


def _catalogue(settings: Settings) -> list[dict[str, Any]]:
    found = [
        {"name": DEFAULT_MODEL, "label": "Digit reader (built in)", "reads": "images"},
        {"name": DEFAULT_READER, "label": "Sentiment reader (built in, text)", "reads": "text"},
    ]
    if settings.offered is not None:
        found.insert(0, {"name": settings.offered.identity, "label": settings.offered.label, "reads": "images"})
    for library in ("torchvision", "timm"):
        if importlib.util.find_spec(library) is not None:
            found.append({"name": f"{library}:", "label": f"{library}, by name", "reads": "images"})
    return found


def _shown(source: InputSource) -> dict[str, Any]:
    return {
        "id": source.identity,
        "label": source.label,
        "kind": source.kind,
        "number": source.number,
        "text": source.text,
    }


def _stops(count: int = 65) -> list[list[int]]:
    """The colour scale of all pictures of the package, as RGB from the most negative to the most positive."""
    return [[round(255 * part) for part in COLOURS(i / (count - 1))[:3]] for i in range(count)]


def _label(request: Request) -> str:
    return label_of(unquote(request.headers.get("x-file-name", "")))


def _first_problem(errors: Sequence[Any]) -> str:
    """The first of pydantic's findings as a sentence."""
    where = ".".join(str(part) for part in errors[0]["loc"])
    return f"{where}: {errors[0]['msg']}" if where else str(errors[0]["msg"])


async def _worker_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, WorkerError)
    return JSONResponse({"error": str(error)}, error.status)


async def _input_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"error": _first_problem(error.errors())}, 422)


class _Server(uvicorn.Server):
    """Ends computations before it waits for their requests to end."""

    async def shutdown(self, sockets: Any = None) -> None:
        self.config.app.state.sessions.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM, which ends it as a success."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
    )
    # After its own shutdown uvicorn sends itself the signal again, for whoever listened before.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config).run()
