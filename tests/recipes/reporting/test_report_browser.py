"""The report as a reader has it: in a browser, on desk and phone, by mouse and key, on paper."""

import shutil

import numpy as np
import pytest

from vasculora.recipes.reporting.report import GalleryCase, RunFacts, write_report

pytestmark = pytest.mark.slow

NUM = 32
SIDE = 512
LONG = "a_case_with_a_very_long_name_" * 4


@pytest.fixture(scope="module")
def path(make_card, tmp_path_factory):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    case = {
        "image": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
        "mask": (rows + 9 * np.sin(columns / 9)) % 40 < 4,
        "pred": (rows + 9 * np.sin(columns / 8)) % 40 < 5,
    }
    gallery = [
        GalleryCase(case_id=LONG + str(n), group=f"g{n}", rank=rank, dice=0.5, **case)
        for rank, members in (("best", 11), ("median", 10), ("worst", 11))
        for n in range(members)
    ]
    row = {"epoch": 1, "train_dice": 0.6, "val_dice": 0.7}
    run = RunFacts(metrics={"epochs": [row]}, audit=None, config="x: " + "y" * 300, parts={})
    card = make_card(case_id=LONG + "{}", model=LONG)
    out = tmp_path_factory.mktemp("report")
    return write_report(out, card, gallery, run=run, command="z" * 500, data=None)


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, path):
    """Open the report as asked; whatever it says or fetches fails the test."""
    contexts, said, fetched = [], [], []

    def open_(width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in fetched if not url.startswith("data:")} == {path.as_uri()}


def seen(page):
    """What the first case's layers show: how much of truth and prediction is cut off, in words."""
    return page.evaluate(
        """() => {
          const cut = (kind) => getComputedStyle(document.querySelector(`.layer.${kind}`)).clipPath;
          return [cut("truth"), cut("prediction"),
                  document.querySelector(".case input").getAttribute("aria-valuetext")];
        }"""
    )


def cut(share):
    return f"inset(0px {share}% 0px 0px)"


def test_32_noisy_cases_are_one_small_file(path):
    assert path.stat().st_size <= 5_000_000


def test_nothing_stands_out_of_the_page_and_dark_is_dark(opened):
    grounds = {}
    for width, scheme in ((1280, "light"), (390, "dark")):
        page = opened(width, color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}


def test_the_slider_wipes_from_image_to_truth_to_prediction(opened):
    page = opened()
    slider = page.locator(".case input").first
    assert seen(page) == [cut(0), cut(0), "prediction"]
    slider.focus()
    page.keyboard.press("Home")
    assert seen(page) == [cut(100), cut(100), "image"]
    page.keyboard.press("ArrowRight")
    assert seen(page) == [cut(90), cut(100), "truth on the left 10 % of the image"]
    page.keyboard.press("PageUp")
    assert seen(page) == [cut(0), cut(90), "prediction on the left 10 % of the truth"]
    page.keyboard.press("End")
    assert seen(page)[2] == "prediction"

    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert seen(page) == [cut(0), cut(100), "truth"]

    view = page.locator(".case .view").first.bounding_box()
    page.mouse.move(view["x"] + view["width"] * 0.9, view["y"] + 20)
    page.mouse.down()
    page.mouse.move(view["x"] + view["width"] / 4, view["y"] + 20)
    assert seen(page) == [cut(50), cut(100), "truth on the left 50 % of the image"]
    page.mouse.up()
    page.mouse.move(view["x"] + view["width"] * 0.9, view["y"] + 20)  # let go: nothing moves
    assert seen(page)[2] == "truth on the left 50 % of the image"

    page.locator(".case .stops button").first.click()
    assert seen(page)[2] == "image"


def panes(page):
    """Left edges of the first case's three pictures, and whether its slider is there."""
    edges = [box["x"] for box in (p.bounding_box() for p in page.locator(".pane").all()[:3])]
    return edges, page.locator(".case input").first.is_visible()


def test_without_a_script_and_on_paper_three_pictures_stand_side_by_side(opened):
    page = opened(java_script_enabled=False)
    edges, slider = panes(page)
    assert sorted(set(edges)) == edges
    assert not slider

    page = opened(color_scheme="dark")
    page.locator(".case input").first.focus()
    page.keyboard.press("Home")
    assert panes(page) == ([panes(page)[0][0]] * 3, True)
    page.emulate_media(media="print")
    edges, slider = panes(page)
    assert sorted(set(edges)) == edges
    assert not slider
    assert page.evaluate("getComputedStyle(document.querySelector('.layer.truth')).clipPath") == (
        "none"
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
