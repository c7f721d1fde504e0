"""What every request must pass first: right host, same origin, token. And the headers of every answer."""

import hmac
import ipaddress
import json
import socket
from collections.abc import Iterable
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # Everything is served from here; nothing is loaded from elsewhere, nothing runs that is not a file of the package.
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_BODY = 1 << 20  # bytes of a request that is no upload; the server holds them in memory
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def known_hosts(host: str, more: Iterable[str]) -> set[str]:
    """The names under which the page may be asked for: others are another site's, pointed here (DNS rebinding)."""
    return {*_LOOPBACK, *(name.lower() for name in (host, *more))} | (
        set() if is_loopback(host) else {socket.gethostname().lower()}
    )


class Guard:
    """ASGI middleware.

    Args:
        hosts: from `known_hosts`; addresses: whether any IP address will do as a host, for a server that listens on all
        of them. token: what a visitor must show, None for nothing; token_cookie: where the page keeps it. uploads: the
        paths that bound their bodies themselves.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: set[str],
        addresses: bool,
        token: str | None,
        token_cookie: str,
        uploads: Iterable[str] = (),
    ) -> None:
        self.app, self.hosts, self.addresses = app, hosts, addresses
        self.token, self.token_cookie, self.uploads = token, token_cookie, frozenset(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets here
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {key for key, _ in message["headers"]}
                more = [
                    (key.encode(), value.encode()) for key, value in _HEADERS.items() if key.encode() not in present
                ]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        problem = self._problem(scope, headers)
        if problem is not None:
            await _refuse(dressed, *problem)
            return
        if self.token is not None:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if scope["method"] == "GET" and scope["path"] == "/" and self._right(given):
                cookie = f"{self.token_cookie}={quote(self.token or '', safe='')}; Path=/; HttpOnly; SameSite=Strict"
                await _redirect(dressed, cookie)
                return
            if not self._right(_cookie(headers, self.token_cookie)) and not self._right(_bearer(headers)):
                await _refuse(
                    dressed, 401, "This page needs a token: open it as /?token=TOKEN, as the server printed it."
                )
                return
        if scope["method"] not in ("GET", "HEAD") and scope["path"] not in self.uploads:
            messages = await _bounded(receive, headers)
            if messages is None:
                await _refuse(dressed, 413, f"This request is larger than the {_BODY >> 20} MiB that are read.")
                return
            receive = _again(messages, receive)
        await self.app(scope, receive, dressed)

    def _problem(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = (urlsplit(f"//{host}").hostname or "") if _is_authority(host) else ""
        if not (name in self.hosts or (self.addresses and _is_address(name))):
            return 421, f"This server does not answer to the host {host[:80]!r}; start it with --allow-host to add one."
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope['scheme']}://{host}":
            return 403, "This request comes from another site's page."
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and scope["path"] != "/":
            return 403, "This request comes from another site's page."
        return None

    def _right(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


def _is_authority(host: str) -> bool:
    try:
        urlsplit(f"//{host}").port  # noqa: B018, it raises for what is no port
    except ValueError:
        return False
    return not set(host) & set("/?#@\\ ")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookie(headers: dict[str, str], name: str) -> str:
    # Not http.cookies.SimpleCookie, which gives up at another page's odd cookie.
    return unquote(cookie_parser(headers.get("cookie", "")).get(name, ""))


def _bearer(headers: dict[str, str]) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" else ""


async def _bounded(receive: Receive, headers: dict[str, str]) -> list[Message] | None:
    """All messages of a request's body, None if it is too large: said so or found so, for a length need not be said."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > _BODY:
        return None
    messages, size = [], 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if size > _BODY:
            return None
        messages.append(message)
        if not message.get("more_body", False):
            return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    """What gives the messages that were read already, then those that come."""
    waiting = iter(messages)

    async def receive_again() -> Message:
        for message in waiting:
            return message
        return await receive()

    return receive_again


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": message}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def _redirect(send: Send, cookie: str) -> None:
    head = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": head})
    await send({"type": "http.response.body", "body": b""})
