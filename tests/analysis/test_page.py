"""The page shows the arrays it was made from: its colours, numbers and controls in a real browser."""

import re
import shutil
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest

from charlstm.analysis import gates_page, inspect_text, open_and_shut, text_features, visible_symbols
from charlstm.cells import LETTERS

from .small_models import BYTES, TEXT, H, run_of, vocab_of, weights_of

BROWSER = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if BROWSER is None:
        pytest.skip("there is no browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open the page of an inspection; afterwards it must have raised no error and made no request."""
    opened, wrong = [], []

    def open_page(text=TEXT, *, vocab=None, scheme="light", at="", **model):
        run = run_of(vocab or vocab_of(text), **model)
        ids = run.vocab.encode_text(text, where="it")
        inspection = inspect_text(run, weights_of(run.settings.model, run.vocab.size), ids, length=len(ids))
        path = tmp_path / "page.html"
        path.write_bytes(gates_page(inspection, title="a </script><b> & c"))
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1400, "height": 900})
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: request.url.startswith("file:") or wrong.append(request.url))
        page.goto(f"file://{path}{at}")
        page.wait_for_selector("html[data-ready=yes]")
        return SimpleNamespace(page=page, inspection=inspection, activity=inspection.activity)

    yield open_page
    for context in opened:
        context.close()
    assert not wrong


def wait_for_drawing(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def spans(page):
    return page.locator("#text > span")


def backgrounds(page):
    found = page.evaluate("() => spans.map(span => getComputedStyle(span).backgroundColor)")
    return np.array([list(map(int, re.findall(r"\d+", colour)[:3])) for colour in found])


def blend(values, scale, *, zero=(255, 255, 255), plus=(0xF5, 0x9E, 0x42), minus=(0x5A, 0xA5, 0xE6)):
    """The colours that values should have, (T, 3)."""
    fraction = values[:, None] / scale
    end = np.where(fraction < 0, np.array(minus) - zero, np.array(plus) - zero)
    return np.array(zero) + end * np.abs(fraction)


def assert_shows(opened, *, layer, unit, t):
    """The panel's numbers are those of the arrays, to what a byte holds."""
    for name, values in opened.activity.values.items():
        shown = float(opened.page.locator(f"#value-{name}").inner_text())
        scale = max(1.0, float(np.abs(values[:, layer, unit]).max()))
        assert shown == pytest.approx(float(values[t, layer, unit]), abs=scale / 200), name


def test_page_colours_the_text_by_the_unit_chosen(show):
    opened = show()
    page, values = opened.page, opened.activity.values
    page.locator("#layer").select_option("1")
    page.locator("#unit").fill("6")
    wait_for_drawing(page)
    c = values["c"][:, 1, 6]
    np.testing.assert_allclose(backgrounds(page), blend(c, np.abs(c).max()), atol=3)
    page.get_by_label("Colour by").select_option("f")
    wait_for_drawing(page)
    np.testing.assert_allclose(backgrounds(page), blend(values["f"][:, 1, 6], 1.0), atol=3)
    assert page.locator("#high").inner_text() == "1"


def test_page_shows_the_text_as_it_is_and_runs_none_of_it(show):
    opened = show()
    assert opened.page.locator("#text").text_content() == (TEXT.replace("\t", "⇥").replace("\n", "↵\n"))
    assert spans(opened.page).count() == len(TEXT)
    assert opened.page.locator("h1").inner_text() == "a </script><b> & c"


def test_page_shows_what_the_pointer_is_over(show):
    opened = show(at="#layer=1&unit=3&at=2")
    page, activity = opened.page, opened.activity
    assert_shows(opened, layer=1, unit=3, t=2)
    guessed = [t for t in range(len(TEXT) - 1) if activity.ids[t + 1] in activity.guess_ids[t]]
    for t in (17, 60, *guessed[3:5]):
        spans(page).nth(t).hover()
        wait_for_drawing(page)
        assert_shows(opened, layer=1, unit=3, t=t)
        assert f"surprisal {activity.surprisal[t]:.2f} bits" in page.locator("#surprisal").inner_text()
        names = [page.locator(f"#guess-{k}").inner_text() for k in range(5)]
        symbols = visible_symbols(opened.inspection.run.vocab)
        assert names == [symbols[k].replace(" ", "␣") for k in activity.guess_ids[t]]
        came = [page.locator(f"#guess-{k}.came").count() for k in range(5)]
        assert came == [int(k == activity.ids[t + 1]) for k in activity.guess_ids[t]]
    page.locator("h1").hover()
    wait_for_drawing(page)
    assert_shows(opened, layer=1, unit=3, t=2)


def test_page_works_by_keyboard(show):
    opened = show(at="#layer=0&unit=3&at=0")
    page = opened.page
    for _ in range(5):  # the text takes them at once
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    wait_for_drawing(page)
    assert_shows(opened, layer=0, unit=3, t=4)
    page.keyboard.press("ArrowDown")
    wait_for_drawing(page)
    assert page.evaluate("pick.at") == TEXT.index("\n") + 1 + 4
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    wait_for_drawing(page)
    assert page.evaluate("pick.at") == TEXT.index("\n")
    page.keyboard.press("Home")
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.keyboard.press("p")
    wait_for_drawing(page)
    assert_shows(opened, layer=0, unit=4, t=0)
    assert "unit 4" in page.locator("#live").inner_text()


def test_page_lets_the_tab_key_reach_every_control(show):
    page = show().page
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    first = reached.index("layer")  # the text has the focus at the beginning
    assert reached[first : first + 6] == ["layer", "unit", "slide", "show", "underline", "text"]
    assert {"order", "map", "scatter-i", "scatter-f", "scatter-o", "inside quotes"} <= set(reached)
    unnamed = "() => [...document.querySelectorAll('select, input, button, [tabindex]')]"
    unnamed += ".filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).length"
    assert page.evaluate(unnamed) == 0


def test_page_opens_where_the_memory_changes_most(show):
    opened = show()
    layer, unit, at = opened.page.evaluate("[pick.layer, pick.unit, pick.at]")
    changes = np.abs(np.diff(opened.activity.values["c"][:, layer, unit], prepend=np.nan))
    changes[0] = 0
    sums = [changes[end - 79 : end + 1].sum() for end in range(79, len(TEXT))]
    begin = int(np.argmax(sums))
    assert begin <= at < begin + 80
    assert changes[at] > 0.95 * changes[begin : begin + 80].max()  # a byte a value
    page = show("a\n" * 60 + TEXT).page  # not at the beginning of what can be seen
    assert page.evaluate("pick.at") > 100
    box, span = (page.locator(where).bounding_box() for where in ("#text", "#text .at"))
    assert box["y"] <= span["y"] <= box["y"] + box["height"] - span["height"]
    assert show(at="#layer=1&unit=2&at=7").page.evaluate("pick.at") == 7


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_page_explains_its_names_before_it_uses_them(show, cell):
    opened = show(cell=cell)
    page = opened.page
    names = page.locator("#names").inner_text()
    for name in opened.activity.values:
        assert f"{LETTERS[name].label} ({name})" in names
        assert LETTERS[name].meaning in names
    assert ("gates" in names) == bool(opened.activity.sigmoid_gates)
    assert page.locator("#names").bounding_box()["y"] < page.locator("#controls").bounding_box()["y"]


def test_page_fits_a_phone_and_says_where_its_table_goes_on(show):
    page = show().page
    assert not page.locator("#more").is_visible()
    page.set_viewport_size({"width": 390, "height": 844})
    wait_for_drawing(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("$('correlated').scrollWidth > $('correlated').clientWidth")
    assert page.locator("#more").is_visible()


def test_page_map_draws_and_picks_units_and_characters(show):
    opened = show(at="#layer=1&unit=0&at=0&show=o")
    page, o = opened.page, opened.activity.values["o"][:, 1]
    pixels = "() => { const {width, height} = $('map'); return [width, height, ...$('map').getContext('2d')"
    pixels += ".getImageData(0, 0, width, height).data]; }"
    width, height, *data = page.evaluate(pixels)
    assert (width, height) == (len(TEXT), H)
    drawn = np.array(data).reshape(height, width, 4)[:, :, :3]
    for unit in range(H):
        np.testing.assert_allclose(drawn[unit], blend(o[:, unit], 1.0), atol=3)
    box = page.locator("#map").bounding_box()
    page.locator("#map").click(position={"x": box["width"] * (200.5 / len(TEXT)), "y": box["height"] * (5.5 / H)})
    wait_for_drawing(page)
    assert page.evaluate("[pick.unit, pick.at]") == [5, 200]
    assert_shows(opened, layer=1, unit=5, t=200)
    page.get_by_label("Rows by").select_option("mean")
    wait_for_drawing(page)
    assert page.evaluate("rows") == np.argsort(-o.mean(axis=0)).tolist()


def test_page_shows_a_correlated_unit_with_its_feature(show):
    opened = show()
    page, correlated = opened.page, opened.inspection.correlated_units
    rows = page.locator("#correlated tbody tr")
    assert rows.count() == len(correlated)
    for k in (1, 3):
        rows.nth(k).locator("button").click()
        wait_for_drawing(page)
        assert page.evaluate("[pick.layer, pick.unit, pick.show]") == [correlated[k].layer, correlated[k].unit, "c"]
        underlined = page.evaluate("() => spans.map(span => span.style.boxShadow !== '')")
        values = text_features(TEXT)[correlated[k].feature]
        assert underlined == (np.round(values * 255 / values.max()) / 255 > 0.02).tolist()
        assert f"{abs(correlated[k].r_held_out):.2f}" in rows.nth(k).inner_text()


def test_page_says_how_often_the_gates_are_open_and_shut(show):
    opened = show(at="#layer=1&unit=7")
    for name in "ifo":
        is_open, is_shut = open_and_shut(opened.activity.values[name])
        found = re.findall(r"<?([\d.]+)\s%", opened.page.locator(f"#fraction-{name}").inner_text())
        np.testing.assert_allclose(np.array(found, float), [is_open[1, 7] * 100, is_shut[1, 7] * 100], atol=0.51)
    x, y = opened.page.evaluate("scatterPoint('f', 2)")
    opened.page.locator("#scatter-f").click(position={"x": x, "y": y})
    wait_for_drawing(opened.page)
    same = opened.page.evaluate("[scatterPoint('f', pick.unit), scatterPoint('f', 2)]")
    np.testing.assert_allclose(same[0], same[1], atol=1.0)


@pytest.mark.parametrize("model", [{"cell": "gru"}, {"cell": "rnn", "num_layers": 1}, {"cell": "peephole-full"}])
def test_page_takes_every_cell(show, model):
    opened = show(at="#unit=3&at=30", **model)
    opened.page.locator("#layer").focus()
    assert_shows(opened, layer=opened.page.evaluate("pick.layer"), unit=3, t=30)
    assert opened.page.locator("#scatters canvas").count() == len(opened.activity.sigmoid_gates)


def test_page_takes_bytes_and_a_text_of_one_character(show):
    assert show("aé\n", vocab=BYTES).page.locator("#text").text_content() == "a\\xc3\\xa9↵\n"
    opened = show("x")
    assert f"surprisal {opened.activity.surprisal[0]:.2f} bits" in opened.page.locator("#surprisal").inner_text()
    assert "too short" in opened.page.locator("#correlated").inner_text()


def test_page_changes_with_the_scheme_of_the_system(show):
    opened = show(scheme="dark", at="#layer=0&unit=2&show=f")
    f = opened.activity.values["f"][:, 0, 2]
    dark = {"zero": (0x17, 0x1A, 0x21), "plus": (0xA8, 0x54, 0x00)}
    np.testing.assert_allclose(backgrounds(opened.page), blend(f, 1.0, **dark), atol=3)
    opened.page.emulate_media(color_scheme="light")
    wait_for_drawing(opened.page)
    np.testing.assert_allclose(backgrounds(opened.page), blend(f, 1.0), atol=3)


def test_page_text_can_be_read_on_every_colour():
    style = resources.files("charlstm.analysis").joinpath("page.css").read_text(encoding="utf-8")

    def luminance(colour):
        channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink, ground in [*(("ink", end) for end in ("plus", "minus", "zero", "ground")), ("soft", "card")]:
            low, high = sorted([luminance(colours[ink]), luminance(colours[ground])])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3
