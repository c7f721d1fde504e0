"""A real server under use and misuse."""

import io
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import fwdkern
from fwdkern.digits import digits_net, examples
from tests.app.running import Running, Visitor, refused, running, tensors
from tests.graph.onnx.files import network

_LONG = {"method": "mask", "parameters": {"iterations": 100_000}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(scope="module")
def visitor(server: Running) -> Visitor:
    """Somebody who looks at the digit reader and its first sample; tests leave it so."""
    found = Visitor(server)
    found.open()
    assert found.sample() == "sample-0"
    return found


def picture(format: str = "PNG", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), format, **options)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def in_background(work: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    return thread, answers


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start_long_work(visitor: Visitor, identity: str) -> tuple[threading.Thread, list[httpx.Response]]:
    """A computation that would take hours; returns once it has begun."""
    thread, answers = in_background(lambda: visitor.ask(identity, "saliency", **_LONG))
    watch = httpx.Client(base_url=visitor.http.base_url, cookies=visitor.http.cookies)
    wait_until(lambda: watch.get("/api/progress").json()["done"] > 0)
    return thread, answers


def test_the_page_loads_nothing_from_elsewhere(server: Running) -> None:
    answer = httpx.get(server.url)
    assert answer.status_code == 200 and "fwdkern" in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';") and "unsafe" not in policy
    assert "style=" not in answer.text and "onclick" not in answer.text
    static = Path(fwdkern.__file__).parent / "app" / "static"
    for path in static.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "innerHTML" not in text, path


def test_a_units_answer_is_attribute_units(visitor: Visitor) -> None:
    layers = {layer["name"]: layer for layer in visitor.http.get("/api/state").json()["network"]["layers"]}
    identity = visitor.sample(2)
    image = examples().images[2:3]
    net = fwdkern.fuse(digits_net(), image)
    for layer, channel, row, column in (("relu_2", 9, 5, 5), ("pool@2", 7, 3, 2), ("classifier", 4, 0, 0)):
        unit = [channel, row, column][: len(layers[layer]["shape"])]
        arrays, about = visitor.answer(identity, "unit", layer=layer, channel=channel, row=row, column=column, target=5)
        expected = net.attribute_units(image, layer, torch.tensor([unit]))
        np.testing.assert_allclose(arrays["map"], expected.scores[0, 0].numpy(), atol=1e-5)
        assert about["value"] == pytest.approx(float(expected.outputs[0, 0]), abs=1e-5)
        assert about["field"] == net.receptive_field(layer, torch.tensor([unit]))[0].tolist()
        assert abs(about["delta"]) < 1e-4
        if layer != "classifier":
            shares = net.contributions(image, 5, layer).shares[0]
            assert about["share"] == pytest.approx(float(shares[tuple(unit)]), abs=1e-5)
        below = about["below"]
        assert below["sum"] + below["bias"] == pytest.approx(about["value"], abs=1e-4)
        for part in below["units"]:
            assert part["layer"] != layer and (part["layer"] in layers or part["layer"] == "input")


def test_channels_are_sorted_and_paged(visitor: Visitor) -> None:
    identity = visitor.sample()
    net = fwdkern.fuse(digits_net(), examples().images[:1])
    shares = net.contributions(examples().images[:1], None, "relu_2").shares[0].flatten(1).sum(1)
    arrays, about = visitor.answer(identity, "channels", layer="relu_2", sort="relevance")
    assert about["pages"] == 2 and about["channels"] == 32 and arrays["maps"].shape == (24, 16, 16)
    assert arrays["channel"].tolist() == shares.argsort(descending=True, stable=True)[:24].tolist()
    more, _ = visitor.answer(identity, "channels", layer="relu_2", sort="relevance", page=1)
    assert sorted([*arrays["channel"], *more["channel"]]) == list(range(32))
    found, _ = visitor.answer(identity, "channels", layer="relu_2", sort="activation")
    assert np.all(np.diff(found["activation"]) <= 0)


def test_a_channels_map_is_attribute_units(visitor: Visitor) -> None:
    arrays, about = visitor.answer(visitor.sample(), "channel_map", layer="pool@1", channel=3)
    expected = fwdkern.fuse(digits_net(), examples().images[:1]).attribute_units(
        examples().images[:1], "pool@1", "channels"
    )
    np.testing.assert_allclose(arrays["map"], expected.scores[0, 3].numpy(), atol=1e-4)
    assert about["value"] == pytest.approx(float(expected.outputs[0, 3]), rel=1e-5)


def test_sentences(server: Running) -> None:
    visitor = Visitor(server)
    assert visitor.open("sentiment")["reads"] == "text"
    answer = visitor.http.post("/api/inputs/text", json={"text": "A gripping, funny film"})
    _, about = tensors(answer)
    assert about["tokens"] == ["a", "gripping", ",", "funny", "film"]
    arrays, told = visitor.answer(about["id"], "class_map")
    assert arrays["map"].shape == (5,) and arrays["map"].sum() == pytest.approx(told["value"], abs=1e-4)
    assert "sentences" in refused(visitor.http.post("/api/inputs/sample", json={"number": 0}))
    assert "characters" in refused(visitor.http.post("/api/inputs/text", json={"text": "word " * 2000}))
    assert "empty" in refused(visitor.http.post("/api/inputs/text", json={"text": " "}))


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bit", "palette", "webp", "jpeg"])
def test_pictures_of_all_kinds(kind: str, visitor: Visitor) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (80, 80), dtype=np.uint8)
    made = {
        "grey": lambda: encoded(Image.fromarray(grey)),
        "alpha": lambda: encoded(Image.fromarray(grey).convert("RGBA")),
        "16 bit": lambda: encoded(Image.fromarray(grey.astype(np.uint16) * 257)),
        "palette": lambda: encoded(Image.fromarray(grey).convert("P")),
        "webp": lambda: picture("WEBP"),
        "jpeg": lambda: picture("JPEG"),
    }[kind]()
    arrays, about = tensors(visitor.upload("/api/inputs/image", made, "a.png"))
    assert arrays["picture"].shape == (64, 64, 3) and about["label"] == "a.png"


def test_the_exif_orientation_is_applied(visitor: Visitor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:32] = 255
    turned = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    arrays, _ = tensors(visitor.upload("/api/inputs/image", turned, "turned.png"))
    assert arrays["picture"][:30].max() == 0 and arrays["picture"][34:].min() == 255


def test_names_of_uploads_are_never_paths(server: Running, visitor: Visitor) -> None:
    _, about = tensors(visitor.upload("/api/inputs/image", picture(compress_level=1), "..%2F..%2F..%2Fescaped%0A.png"))
    assert about["label"] == "escaped.png"
    _, about = tensors(visitor.upload("/api/inputs/image", picture(compress_level=2), "C:%5Cescaped-too.png"))
    assert about["label"] == "escaped-too.png"
    assert not [path for path in server.folder.parent.rglob("*escaped*")]
    assert "no name" in refused(visitor.upload("/api/inputs/image", picture(), "..%2F"))
    for path in ("/../server.log", "/%2e%2e/server.log", "/..%2f..%2fetc/passwd", "/static/../../pyproject.toml"):
        assert visitor.http.get(path).status_code == 404


def bomb() -> bytes:
    """A PNG of 30 000 × 30 000 pixels in a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_decompression_bombs_and_damaged_pictures(server: Running, visitor: Visitor) -> None:
    before = len(list(server.folder.rglob("*.image")))
    assert "too many pixels" in refused(visitor.upload("/api/inputs/image", bomb(), "bomb.png"))
    # Between the two limits: Pillow alone would only warn.
    large = encoded(Image.new("1", (9000, 9000)))
    assert "81 million pixels" in refused(visitor.upload("/api/inputs/image", large, "large.png"))
    assert "complete" in refused(visitor.upload("/api/inputs/image", picture()[:2000], "half.png"))
    nan = encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    message = refused(visitor.upload("/api/inputs/image", nan, "nan.png"))
    assert message == "nan.png is not a PNG, JPEG or WebP picture."
    assert "empty" in refused(visitor.upload("/api/inputs/image", b"", "empty.png"))
    assert "32 MiB" in refused(visitor.upload("/api/inputs/image", bytes((32 << 20) + 1), "zeros.png"), 413)
    assert len(list(server.folder.rglob("*.image"))) == before, "refused uploads stay nowhere"


def test_networks_that_are_never_opened(server: Running, visitor: Visitor) -> None:
    for name in ("net.pt", "net.pth", "net.pt2", "net.pkl", "NET.PTH"):
        assert "pickled" in refused(visitor.upload("/api/network/upload", b"\x80\x04", name))
    assert "not a network" in refused(visitor.upload("/api/network/upload", b"", "net.h5"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(50 << 20))
    message = refused(visitor.upload("/api/network/upload", archive.getvalue(), "bomb.onnx"))
    assert "bomb.onnx" in message and str(server.folder) not in message
    assert "architecture" in refused(visitor.upload("/api/network/upload", b"0", "w.safetensors"))
    refused(visitor.upload("/api/network/upload", b"\xff" * 100, "w.safetensors", architecture="digits"))
    for name in ("os:getcwd", "tests.networks.squeezenet:squeezenet1_1", "../x.onnx", "sentiment:/etc"):
        assert "There is no network" in refused(visitor.http.post("/api/network", json={"name": name}))
    assert not list(server.folder.rglob("*.onnx")) and not list(server.folder.rglob("*.safetensors"))
    assert visitor.answer(visitor.sample(), "class_map")[1]["class"] == 0, "the network before is still open"


def test_an_onnx_file_and_weights(server: Running) -> None:
    visitor = Visitor(server)
    answer = visitor.upload("/api/network/upload", network().SerializeToString(), "made%20here.onnx")
    assert answer.status_code == 200, answer.text
    opened = answer.json()
    assert opened["label"] == "made here.onnx" and all(not layer["reason"] for layer in opened["layers"])
    weights = Path(fwdkern.__file__).parent / "digits" / "digits.safetensors"
    answer = visitor.upload("/api/network/upload", weights.read_bytes(), "w.safetensors", architecture="digits")
    assert answer.status_code == 200 and answer.json()["classes"] == 10


def test_numbers_that_are_none(visitor: Visitor) -> None:
    identity = visitor.sample()
    steps = '{"resize": 64, "crop": [64, 64], "mean": [%s], "std": [%s]}'
    for mean, std in (("NaN", "1"), ("0", "Infinity"), ("0", "0"), ("0", "-1"), ("1e999", "1")):
        answer = visitor.http.post(
            "/api/preprocessing", content=steps % (mean, std), headers={"content-type": "application/json"}
        )
        refused(answer)
    for bad in ({"channel": -1}, {"channel": 99}, {"row": 1 << 40}, {"target": 10}, {"layer": "nowhere"}, {"more": 1}):
        refused(visitor.ask(identity, "unit", **{"layer": "relu_2", "channel": 0, "row": 0, "column": 0, **bad}))
    assert "no parameter" in refused(visitor.ask(identity, "saliency", method="gradcam", parameters={"x": 1}))
    assert "There is no method" in refused(visitor.ask(identity, "saliency", method="__class__"))
    assert "no question" in refused(visitor.ask(identity, "describe"))
    assert visitor.answer(identity, "class_map")[1]["class"] == 0


def test_preprocessing_is_changed(visitor: Visitor) -> None:
    identity = visitor.sample()
    answer = visitor.http.post("/api/preprocessing", json={"size": [48, 40], "mean": [0.5], "std": [2.0]})
    assert "48×40" in answer.json()["preprocessing"]["text"]
    assert visitor.answer(identity, "look")[0]["picture"].shape == (48, 40, 3)
    assert visitor.answer(identity, "class_map")[0]["map"].shape == (48, 40)
    visitor.http.post("/api/preprocessing", json={"resize": 64, "crop": [64, 64], "mean": [0], "std": [1]})


def test_other_hosts_and_origins(server: Running, visitor: Visitor) -> None:
    evil = {"host": "evil.example"}
    assert "does not answer to the host" in refused(httpx.get(server.url + "/api/state", headers=evil), 421)
    post = visitor.http.post("/api/cancel", headers={"origin": "https://evil.example"})
    assert "another site" in refused(post, 403)
    assert "another site" in refused(visitor.http.get("/api/state", headers={"sec-fetch-site": "cross-site"}), 403)
    assert visitor.http.post("/api/cancel", headers={"origin": server.url}).status_code == 200


def test_two_visitors_at_once(server: Running) -> None:
    first, second = Visitor(server), Visitor(server)
    cookie = httpx.get(server.url + "/api/state").headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    first.open()
    second.open()
    own = tensors(first.upload("/api/inputs/image", picture(), "secret.png"))[1]["id"]
    assert "not in your strip" in refused(second.ask(own, "look"), 404)
    refused(second.http.get(f"/api/inputs/{own}/file"), 404)
    assert "secret" not in second.http.get("/api/state").text
    assert first.http.get(f"/api/inputs/{own}/file").content == picture()
    ids = first.sample(0), second.sample(3)
    threads = [
        in_background(lambda who=who, identity=identity, layer=layer: who.ask(identity, "channels", layer=layer))
        for who, identity in zip((first, second), ids, strict=True)
        for layer in ("relu", "relu_2", "relu_4")
    ]
    for thread, _ in threads:
        thread.join()
    for number, answers in ((0, threads[:3]), (3, threads[3:])):
        net = fwdkern.fuse(digits_net(), examples().images[number : number + 1])
        for (_, (answer,)), layer in zip(answers, ("relu", "relu_2", "relu_4"), strict=True):
            arrays, _ = tensors(answer)
            value = net.tape(examples().images[number : number + 1])
            expected = value.steps[value.find(layer)].value[0]
            np.testing.assert_allclose(arrays["maps"], expected[arrays["channel"]].numpy(), atol=1e-5)
    stranger = httpx.Client(base_url=server.url, cookies={"fwdkern": "guess"})
    assert "session has ended" in refused(stranger.post("/api/cancel"), 410)


def test_a_cancelled_computation(server: Running, visitor: Visitor) -> None:
    identity = visitor.sample()
    before = {worker.pid for worker in server.workers()}
    thread, answers = start_long_work(visitor, identity)
    httpx.post(server.url + "/api/cancel", cookies=visitor.http.cookies)
    thread.join(30)
    assert refused(answers[0], 409) == "The computation was cancelled."
    assert visitor.answer(identity, "class_map")[1]["class"] == 0
    assert before <= {worker.pid for worker in server.workers()}, "the worker itself was not lost"


def test_a_client_that_disconnects(server: Running, visitor: Visitor) -> None:
    identity = visitor.sample()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/api/inputs/{identity}/saliency", json=_LONG, cookies=visitor.http.cookies, timeout=1.5
        )
    wait_until(lambda: not visitor.http.get("/api/progress").json()["busy"])
    assert visitor.answer(identity, "class_map")[1]["class"] == 0


def test_a_killed_worker(server: Running) -> None:
    before = {worker.pid for worker in server.workers()}
    visitor = Visitor(server)
    visitor.open()
    identity = visitor.sample()
    (own,) = [worker for worker in server.workers() if worker.pid not in before]
    thread, answers = start_long_work(visitor, identity)
    own.send_signal(signal.SIGKILL)
    thread.join(30)
    assert "was stopped: it ended by signal 9" in refused(answers[0], 503)
    assert visitor.answer(identity, "class_map")[1]["class"] == 0, "another worker opens the network again"


def test_sigterm_during_work(tmp_path: Path) -> None:
    with running(tmp_path / "server") as server:
        visitor = Visitor(server)
        visitor.open()
        thread, answers = start_long_work(visitor, visitor.sample())
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.send_signal(signal.SIGTERM)
        thread.join(20)
        assert "the server is closing" in refused(answers[0], 503)
        assert server.process.wait(20) == 0
        wait_until(lambda: not any(child.is_running() for child in children), 10)
        assert not list(server.folder.glob("fwdkern-serve-*"))
        assert "Traceback" not in (server.folder / "server.log").read_text()


def test_beyond_this_machine_a_token_is_needed() -> None:
    code = "from fwdkern.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "--token" in ended.stderr
