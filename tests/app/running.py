"""A real server in a process of its own, and visitors of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from safetensors import numpy as safetensors

_START = 120  # seconds to import torch on a busy machine


@dataclass
class Running:
    """A server; folder: where it keeps what visitors upload."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    def workers(self) -> list[psutil.Process]:
        """Processes that compute for visitors."""
        mine = psutil.Process(self.process.pid).children(recursive=True)
        # The process that workers are forked from, and the one that cleans up behind it, are not among them.
        helpers = {child.pid for child in psutil.Process(self.process.pid).children()}
        return [child for child in mine if child.pid not in helpers]


@contextmanager
def running(folder: Path, *options: object) -> Iterator[Running]:
    """`fwdkern serve` on a free port; stopped at the end. The folder's name must be short: the server's socket to its
    workers lies in it, whose path has 107 characters at most."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    code = "from fwdkern.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", str(port), *map(str, options)]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(folder)}, stdout=log, stderr=log)
    server = Running(f"http://127.0.0.1:{port}", process, folder)
    try:
        deadline = time.monotonic() + _START
        while True:
            try:
                httpx.get(server.url, timeout=5)
                break
            except httpx.HTTPError:
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


class Visitor:
    """A browser without a page."""

    def __init__(self, server: Running) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=120)
        self.state = self.http.get("/api/state").json()

    def open(self, name: str = "digits") -> dict[str, Any]:
        """Choose a network by name."""
        answer = self.http.post("/api/network", json={"name": name})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, path: str, content: bytes, name: str, **query: str) -> httpx.Response:
        """Send a file."""
        return self.http.post(path, content=content, headers={"x-file-name": name}, params=query)

    def sample(self, number: int = 0) -> str:
        """Add a built-in picture; returns its identity."""
        answer = self.http.post("/api/inputs/sample", json={"number": number})
        assert answer.status_code == 200, answer.text
        return tensors(answer)[1]["id"]

    def ask(self, identity: str, what: str, **content: Any) -> httpx.Response:
        """A question about an input."""
        return self.http.post(f"/api/inputs/{identity}/{what}", json=content)

    def answer(self, identity: str, what: str, **content: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Its answer, which must be one."""
        response = self.ask(identity, what, **content)
        assert response.status_code == 200, response.text
        return tensors(response)


def tensors(response: httpx.Response) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of an answer and what is told about them."""
    content = response.content
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return safetensors.load(content), json.loads(header["__metadata__"]["about"])


def refused(response: httpx.Response, status: int = 422) -> str:
    """The sentence that says why a request was refused."""
    assert response.status_code == status, response.text
    return response.json()["error"]
