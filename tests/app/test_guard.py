"""Hosts, origins and tokens."""

from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from fwdkern.app.guard import is_loopback
from fwdkern.app.server import Settings, create_app
from fwdkern.errors import InputError


def client(**options: object) -> TestClient:
    return TestClient(create_app(Settings(**options)), base_url="http://127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.1:9000", "[::1]:8765", "LOCALHOST"])
def test_names_of_this_machine(host: str) -> None:
    assert client().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost@evil.example", "localhost:x", "a/b"]
)
def test_other_names(host: str) -> None:
    answer = client().get("/", headers={"host": host})
    assert answer.status_code == 421 and "content-security-policy" in answer.headers


def test_more_names_are_allowed_by_whoever_starts_it() -> None:
    for allowed in ("notebook.lan", "Notebook.LAN"):
        assert client(hosts=(allowed,)).get("/", headers={"host": "notebook.lan"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1", "http://127.0.0.1:81", "null"])
def test_other_origins(origin: str) -> None:
    answer = client().post("/api/network", json={"name": "digits"}, headers={"origin": origin})
    assert answer.status_code == 403


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
def test_large_bodies_are_for_uploads(kind: str) -> None:
    page, headers = client(), {"content-type": kind}
    page.get("/api/state")
    for path in ("/api/network", "/api/inputs/text", "/api/inputs/x/look"):
        assert page.post(path, content=b" " * (1 << 20) + b"1", headers=headers).status_code == 413
        parts = (b" " * (1 << 19) for _ in range(3))  # without a length
        answer = page.post(path, content=parts, headers=headers)
        assert answer.status_code == 413 and "1 MiB" in answer.json()["error"]
    assert page.post("/api/network", content=b" " * (1 << 20), headers=headers).status_code == 422
    answer = page.post("/api/inputs/image", content=b" " * (1 << 21), headers={**headers, "x-file-name": "a.png"})
    assert answer.status_code != 413


@pytest.mark.parametrize(("host", "own"), [("::1", True), ("127.8.8.8", True), ("0.0.0.0", False), ("x.lan", False)])
def test_loopback(host: str, own: bool) -> None:
    assert is_loopback(host) is own
    if own:
        Settings(host=host)
    else:
        with pytest.raises(InputError, match="--token"):
            Settings(host=host)


def test_a_token() -> None:
    page = client(host="0.0.0.0", token="secret")
    for path in ("/", "/main.js", "/api/state", "/?token=wrong"):
        assert page.get(path).status_code == 401
    assert page.get("/api/state?token=secret").status_code == 401, "only the page itself takes it from the address"
    assert page.get("/api/state", headers={"authorization": "Bearer secret"}).status_code == 200
    answer = page.get("/?token=secret", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "HttpOnly; SameSite=Strict" in answer.headers["set-cookie"]
    assert page.get("/").status_code == 200, "the cookie will do from now on"
    assert page.get("/", headers={"host": "192.168.1.7"}).status_code == 200
    assert page.get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("token", ["secret", "a&b=c;d+e %41#", '"quoted"', "schlüssel"])
def test_tokens_of_any_characters_beside_odd_cookies(token: str) -> None:
    page = client(host="0.0.0.0", token=token)
    answer = page.get(f"/?token={quote(token, safe='')}", follow_redirects=False)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].partition(";")[0]
    for odd in ('prefs={"a":1}', "=", "a b=c"):
        assert client(host="0.0.0.0", token=token).get("/", headers={"cookie": f"{odd}; {cookie}"}).status_code == 200
