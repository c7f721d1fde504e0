"""The whole story in a real browser, from upload to click to download; screenshots go to build/screenshots."""

import base64
import json
import os
import re
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from safetensors.torch import load_file

import fwdkern
from fwdkern.digits import digits_net, examples
from tests.app.running import Running, running
from tests.data import shared_data
from tests.graph.onnx.files import model

CHROMIUM = shutil.which("chromium")
# Continuous integration installs a browser and must not pass without one.
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("FWDKERN_REQUIRE_BROWSER") != "1",
    reason="there is no chromium; FWDKERN_REQUIRE_BROWSER=1 makes that a failure",
)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
_SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
_PATIENCE = 150_000  # milliseconds; on a busy machine a network takes a minute to be parsed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    assert CHROMIUM is not None, "FWDKERN_REQUIRE_BROWSER=1, but there is no chromium"
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=_FLAGS, viewport={"width": 1280, "height": 900}
        )
        context.set_default_timeout(_PATIENCE)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext, server: Running) -> Iterator[Page]:
    """An open page; it must have asked nobody but the server, and met no error."""
    browser.clear_cookies()  # every test is another visitor
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    # What the server refuses is logged by the browser, too.
    page.on(
        "console",
        lambda said: problems.append(said.text) if said.type == "error" and "status of" not in said.text else 0,
    )
    page.on(
        "request", lambda asked: problems.append(asked.url) if not asked.url.startswith((server.url, "blob:")) else 0
    )
    begin(page, server.url)
    yield page
    page.close()
    assert not problems


def begin(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector("[data-ready]", state="attached")
    page.wait_for_selector("#map-relevance canvas, #map-relevance .words")


def open_unit(page: Page, layer: str) -> None:
    """The strongest position of the first channel of a layer."""
    page.locator("#layers input").fill(layer)
    page.locator("#layers input").press("Enter")
    expect(page.locator("#channels .layer-title strong")).to_have_text(layer)
    page.locator(".cell").first.click()
    expect(page.locator("#channels h3")).to_contain_text(f"of {layer}")
    page.locator("#positions").press("Enter")
    expect(page.locator("#unit-name")).to_contain_text(layer)


def figures(page: Page) -> dict[str, str]:
    names = page.locator("#unit .figures dt").all_inner_texts()
    return dict(zip(names, page.locator("#unit .figures dd").all_inner_texts(), strict=True))


def saved(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_from_the_sample_to_the_files(page: Page, server: Running, tmp_path: Path) -> None:
    assert page.locator(".class.selected").inner_text().startswith("class 0")
    page.get_by_role("checkbox", name="GradCAM", exact=True).check()
    page.get_by_role("checkbox", name="Forward relevance, saliency").check()
    for name in ("gradcam", "fwdkern"):
        page.wait_for_selector(f"#map-{name} canvas")
    open_unit(page, "relu_2")
    place = re.match(r"relu_2, channel (\d+), row (\d+), column (\d+)", page.locator("#unit-name").inner_text())
    assert place is not None
    unit = torch.tensor([[int(part) for part in place.groups()]])
    net = fwdkern.fuse(digits_net(), examples().images[:1])
    expected = net.attribute_units(examples().images[:1], "relu_2", unit)
    told = figures(page)
    assert float(told["value"]) == pytest.approx(float(expected.outputs), rel=1e-3)
    assert "% of the score" in told["share of the class"] and "rows" in told["receptive field"]
    assert page.locator("#unit .frame").is_visible()

    array = np.load(saved(page, ".npy", tmp_path))
    np.testing.assert_allclose(array, expected.scores[0, 0].numpy(), atol=1e-5)
    tensors = load_file(saved(page, ".safetensors", tmp_path))
    np.testing.assert_array_equal(tensors["map"].numpy(), array)
    with Image.open(saved(page, "PNG", tmp_path)) as picture:
        assert min(picture.size) >= 512 and np.asarray(picture.convert("RGB")).std() > 5

    page.locator("button.below").first.click()
    expect(page.locator("#unit-name")).to_contain_text("pool@1")
    page.locator(".trail button").first.click()
    expect(page.locator("#unit-name")).to_contain_text("relu_2")
    page.locator("#channel-map").click()
    expect(page.locator("#unit-name")).to_contain_text("sum over all positions")

    for width, scheme in ((1280, "light"), (1280, "dark"), (800, "light"), (800, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "nothing is cut off at the side"
        _SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=_SCREENSHOTS / f"digits-{width}-{scheme}.png", full_page=True)


def dropped(page: Page, picture: Path) -> None:
    """Drop a file on the strip of inputs."""
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
            return data;
        }""",
        [picture.name, base64.b64encode(picture.read_bytes()).decode()],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#inputs", event, {"dataTransfer": transfer})


def test_a_link_and_a_saved_view_show_the_same_again(page: Page, server: Running, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90), dtype=np.uint8)).save(photo)
    dropped(page, photo)
    expect(page.locator(".item.selected .label")).to_have_text("photo.png")
    page.get_by_role("checkbox", name="Input × gradient").check()
    page.wait_for_selector("#map-input-x-gradient canvas")
    page.locator(".class").nth(1).click()
    open_unit(page, "relu_4")
    title, told, link = page.locator("#unit-name").inner_text(), figures(page), page.url
    with page.expect_download() as waiting:
        page.locator("#save-view").click()
    waiting.value.save_as(tmp_path / "view.json")

    other = page.context.new_page()
    begin(other, link)
    expect(other.locator("#unit-name")).to_have_text(title)
    assert figures(other) == told
    assert other.locator(".class").nth(1).get_by_role("radio").is_checked()
    other.close()

    page.context.clear_cookies()  # another visitor, who has neither the picture nor the network
    begin(page, server.url)
    expect(page.locator(".item")).to_have_count(6)
    page.locator("#open-view").set_input_files(tmp_path / "view.json")
    expect(page.locator("#unit-name")).to_have_text(title)
    assert figures(page) == told
    expect(page.locator(".item.selected .label")).to_have_text("photo.png")

    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"a": 1}))
    page.locator("#open-view").set_input_files(broken)
    expect(page.locator("#problem")).to_contain_text("not a saved view")


def test_an_onnx_file(page: Page, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {
        "first": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "left": random.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
        "right": random.normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32),
        "head": random.normal(0, 1, (4, 16)).astype(np.float32),
    }
    proto = model(
        [
            ("Conv", ["x", "first"], ["a"], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
            ("Relu", ["a"], ["b"], {}),
            ("Conv", ["b", "left"], ["c"], {"pads": [1, 1, 1, 1]}),
            ("Relu", ["c"], ["d"], {}),
            ("Conv", ["b", "right"], ["e"], {}),
            ("Relu", ["e"], ["f"], {}),
            ("Concat", ["d", "f"], ["g"], {"axis": 1}),
            ("GlobalAveragePool", ["g"], ["h"], {}),
            ("Flatten", ["h"], ["i"], {}),
            ("Gemm", ["i", "head"], ["y"], {"transB": 1}),
        ],
        ["batch", 3, 48, 48],
        weights,
    )
    (tmp_path / "branches.onnx").write_bytes(proto.SerializeToString())
    page.locator("#upload-network input").set_input_files(tmp_path / "branches.onnx")
    expect(page.locator("#network-about")).to_contain_text("branches.onnx")
    photo = tmp_path / "photo.webp"
    Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(photo)
    page.locator("#add-images input").set_input_files(photo)
    page.wait_for_selector("#map-relevance canvas")
    assert page.locator("#layers path").count() >= 11, "two branches that meet again"
    open_unit(page, "d")
    assert float(figures(page)["completeness error"].replace("−", "-")) < 1e-3
    page.screenshot(path=_SCREENSHOTS / "onnx-1280-light.png", full_page=True)

    (tmp_path / "net.pth").write_bytes(b"\x80\x04")
    page.locator("#upload-network input").set_input_files(tmp_path / "net.pth")
    expect(page.locator("#problem")).to_contain_text("pickled")
    expect(page.locator("#network-about")).to_contain_text("branches.onnx")


def test_sentences(page: Page) -> None:
    page.locator("#network-choice").select_option("sentiment")
    expect(page.locator(".item")).to_have_count(3)
    page.locator("#sentence").fill("a dull story, but a wonderful cast")
    page.locator("#sentence").press("Enter")
    expect(page.locator(".item")).to_have_count(4)
    expect(page.locator("#map-relevance .word")).to_have_count(8)
    page.locator("#layer-list").focus()
    for key in ("ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".cell")
    page.locator(".cell").first.click()
    page.wait_for_selector("#channels h3")
    page.locator("#positions").press("Enter")
    expect(page.locator("#unit .word")).to_have_count(8)
    page.screenshot(path=_SCREENSHOTS / "sentences-1280-light.png", full_page=True)


def test_without_a_mouse(page: Page) -> None:
    """From the top of the page to a unit by Tab, arrow keys, Enter and Space."""
    page.locator("body").press("Tab")
    reached: list[str] = []

    def tab_to(selector: str) -> None:
        for _ in range(80):
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            reached.append(page.evaluate("document.activeElement.tagName"))
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached: {reached}")

    tab_to("#layer-list")
    for _ in range(9):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cell")
    tab_to(".cell")
    page.keyboard.press("Space")
    page.wait_for_selector("#channels h3")
    tab_to("#positions")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#unit-name")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas[tabindex]')].filter(e => e.checkVisibility() && "
        "!(e.ariaLabel || e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label'))).length"
    )
    assert nameless == 0, "everything that can be reached has a name"


def test_a_graph_of_ten_thousand_layers(page: Page) -> None:
    """Long skips included; only what is on the screen becomes elements."""
    told = page.evaluate(
        """async () => {
          const { LayerGraph } = await import("/layer_graph.js");
          const place = document.createElement("section");
          place.id = "deep";
          document.body.append(place);
          const graph = new LayerGraph(place, () => {});
          const layers = Array.from({ length: 10_000 }, (_, i) => ({
            name: `layer.${i}`, operator: "conv2d", shape: [8, 4, 4], reason: "",
            parents: i === 0 ? ["input"] : [`layer.${i - 1}`, ...(i > 200 && i % 7 === 0 ? [`layer.${i - 150}`] : [])],
          }));
          const started = performance.now();
          graph.show(layers);
          const shown = performance.now() - started;
          graph.select("layer.9000");
          const selected = performance.now() - started - shown;
          const visible = place.querySelector(".row.selected .name").textContent;
          return { shown, selected, visible, elements: place.querySelectorAll("*").length };
        }"""
    )
    print(f"10 000 layers: laid out and drawn in {told['shown']:.0f} ms, jump in {told['selected']:.0f} ms")
    assert told["visible"] == "layer.9000" and told["elements"] < 1000


def test_clicks(browser: BrowserContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Times are printed, for the reader of the log; what they are depends on the machine."""
    weights = shared_data("weights/squeezenet1_1_imagenet_fp16.safetensors")
    photo = shared_data("imagenet_samples/290_n02128925_jaguar.jpg")
    options = ["-m", "tests.networks.squeezenet:squeezenet1_1", "-w", weights, "--resize", 256, "--crop", 224]
    options += ["--classes", shared_data("imagenet_classes.json")]
    options += ["--mean", ".485,.456,.406", "--std", ".229,.224,.225"]
    with running(tmp_path / "s", *options) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_selector("[data-ready]", state="attached")
        page.locator("#add-images input").set_input_files(photo)
        page.wait_for_selector("#map-relevance canvas")
        for name in ("Forward relevance, saliency", "GradCAM", "GradCAM++", "Input × gradient"):
            page.get_by_role("checkbox", name=name, exact=True).check()
        for name in ("fwdkern", "gradcam", "gradcam\\+\\+", "input-x-gradient"):
            page.wait_for_selector(f"#map-{name} canvas")
        for layer in ("features.9.cat", "features.6.cat"):
            open_unit(page, layer)
            for step in range(4):
                page.locator("#positions").press("ArrowRight" if step % 2 else "ArrowDown")
                before = page.locator("#unit-name").inner_text()
                page.locator("#positions").press("Enter")
                expect(page.locator("#unit-name")).not_to_have_text(before)
        times = page.evaluate("performance.getEntriesByName('click to map').map((entry) => entry.duration)")
        page.set_viewport_size({"width": 1280, "height": 1840})
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=_SCREENSHOTS / "squeezenet-1280-light.png")
    said = (
        f"SqueezeNet 1.1 at 224²: a click answered within {statistics.median(times):.0f} ms (median of "
        f"{len(times)}), the first of each layer included, at most {max(times):.0f} ms\n"
    )
    (_SCREENSHOTS / "click-times.txt").write_text(said, encoding="utf-8")
    with capsys.disabled():
        print(f"\n{said}", end="")
