"""`charlstm inspect`: its table, its mistakes, its files, and its page in a real browser."""

import io
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from charlstm.analysis import correlated_units as follow
from charlstm.analysis import gates
from charlstm.analysis.page import gates_page
from charlstm.cli import app, gates_view
from charlstm.inference import Engine
from charlstm.runs import checkpoints
from charlstm.runs import folder as runs
from charlstm.settings import DataSettings, ModelSettings, Settings
from charlstm.text.vocabulary import CODE_POINTS, Vocab, build_vocab, code_points
from charlstm.weights import weight_shapes

H, L, E = 9, 2, 4
TEXT = (
    "It said \"be </script><b>here</b> & 'now'\" (or not),\n\tthen\u00a0left: é, 😀.\n\n"
    + 'The [old] keeper "wound" the clock;\n  nothing (much) moved. She said "no" twice.\n' * 9
)
BYTES = Vocab(unit="byte", symbols=(), unknown="error", newline="keep", has_unknown_symbol=False)


def vocab_of(text, *, unknown="error"):
    counts = np.bincount(code_points(text), minlength=CODE_POINTS)
    return build_vocab(counts, unit="char", min_count=1, unknown=unknown, newline="keep")


def weights_of(model, vocab):
    rng = np.random.default_rng(1)
    shapes = weight_shapes(model, vocab.size)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def make_run(folder, *, vocab, **model):
    model = ModelSettings(**{"embedding_size": E, "hidden_size": H, "num_layers": L, **model})
    settings = Settings(model=model, data=DataSettings(unit=vocab.unit))
    run = runs.create_run(folder, settings, vocab, name="made")
    progress = {"step": 1, "text_sha256": "none"}
    checkpoints.save_checkpoint(
        run, step=1, weights=weights_of(model, vocab), training={}, progress=progress, is_best=True
    )
    return run


def trace_of(text, vocab, **model):
    model = ModelSettings(**{"embedding_size": E, "hidden_size": H, "num_layers": L, **model})
    return gates.record(Engine(weights_of(model, vocab), model), vocab.encode_text(text, where="it"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a run and the text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARLSTM_RUN", "run")
    make_run(tmp_path / "run", vocab=vocab_of(TEXT))
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    return tmp_path


def call(*arguments, **options):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], **options)


# ---- the table, the view and the files -------------------------------------------------------------------------


@pytest.mark.usefixtures("place")
def test_inspect_prints_a_line_a_character_with_the_arrays_values():
    result = call("text.txt", "--layer", 1, "--unit", 4)
    assert result.exit_code == 0, result.stderr
    header, *lines = result.stdout_bytes.decode().removesuffix("\n").split("\n")
    assert header.split("\t") == (
        ["position", "char", "surprise_bits", "i", "f", "g", "o", "h", "c", "expected_next", "probability"]
    )
    trace = trace_of(TEXT, vocab_of(TEXT))
    assert len(lines) == len(TEXT)
    for t, line in enumerate(lines):
        position, _, surprise, *values, _, probability = line.split("\t")
        assert int(position) == t
        expected = [trace.surprise[t], *(trace.values[name][t, 1, 4] for name in "ifgohc"), trace.guess_probs[t, 0]]
        np.testing.assert_allclose(list(map(float, [surprise, *values, probability])), expected, atol=1e-5)
    shown = "".join(line.split("\t")[1] for line in lines)
    assert shown == TEXT.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.stdout)


@pytest.mark.parametrize("cell", ["peephole", "peephole-full", "gru", "rnn"])
def test_inspect_takes_every_cell(place, cell):
    make_run(place / cell, vocab=vocab_of(TEXT), cell=cell)
    result = call("text.txt", "--run", cell, "--html", "page.html", "--npz", "arrays.npz")
    assert result.exit_code == 0, result.stderr
    assert call("text.txt", "--run", cell).stdout.count("\n") == len(TEXT) + 1


def test_inspect_takes_bytes(place):
    make_run(place / "bytes", vocab=BYTES)
    result = call("-", "--run", "bytes", input=b"a\xff\n\xc3\xa9")
    assert [line.split("\t")[1] for line in result.stdout.splitlines()[1:]] == ["a", "\\xff", "↵", "\\xc3", "\\xa9"]


@pytest.mark.usefixtures("place")
def test_inspect_lists_the_units_that_follow_something():
    result = call("text.txt", "--units")
    header, *lines = result.stdout.splitlines()
    assert header == "mark\tlayer\tunit\tr_held_out\tr_found\tr_chance"
    trace = trace_of(TEXT, vocab_of(TEXT))
    expected = follow.followers(trace.values["c"], follow.text_marks(TEXT))
    assert [line.split("\t")[:3] for line in lines] == [[f.mark, str(f.layer), str(f.unit)] for f in expected]
    assert len(expected) > 5


@pytest.mark.usefixtures("place")
def test_inspect_studies_more_than_it_shows():
    whole, part = call("text.txt", "--units"), call("text.txt", "--units", "--length", 50)
    assert part.stdout == whole.stdout
    assert call("text.txt", "--units", "--length", 50, "--study", 300).stdout != whole.stdout
    shown = call("text.txt", "--length", 50)
    assert shown.stdout.count("\n") == 51
    assert "showing the first 50 chars; --length shows more" in shown.stderr


@pytest.mark.usefixtures("place")
def test_inspect_saves_the_arrays():
    assert call("text.txt", "--npz", "arrays.npz").exit_code == 0
    trace = trace_of(TEXT, vocab_of(TEXT))
    with np.load("arrays.npz", allow_pickle=False) as arrays:
        assert arrays["text"].item() == TEXT
        np.testing.assert_array_equal(arrays["ids"], trace.ids)
        np.testing.assert_array_equal(arrays["surprise"], trace.surprise)
        for name in "ifgohc":
            np.testing.assert_allclose(arrays[name], trace.values[name], atol=1e-6)


def test_inspect_draws_a_picture(place):
    pytest.importorskip("matplotlib")
    assert call("text.txt", "--png", "picture.png", "--show", 200).exit_code == 0
    assert (place / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_writes_over_an_older_file_but_not_over_it_by_halves(place, monkeypatch):
    (place / "page.html").write_text("older")
    (place / "link.html").symlink_to("page.html")
    assert call("text.txt", "--html", "link.html").exit_code == 0
    assert (place / "link.html").is_symlink()
    whole = (place / "page.html").read_bytes()
    assert whole.startswith(b"<!doctype html>")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = call("text.txt", "--html", "page.html", "--length", 9)
    assert (result.exit_code, (place / "page.html").read_bytes()) == (6, whole)
    assert "--html: could not write page.html: No space left on device" in result.stderr
    assert not list(place.glob(".unfinished*"))


def test_inspect_writes_into_a_pipe(place):
    command = [sys.executable, "-m", "charlstm", "inspect", "text.txt", "--html", "/dev/stdout"]
    done = subprocess.run(command, cwd=place, capture_output=True, check=True)
    assert done.stdout.startswith(b"<!doctype html>")
    assert done.stdout.endswith(b"</html>\n")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nothing.txt"], 3, "nothing.txt"),
        (["text.txt", "--layer", "2"], 2, "--layer 2: the model has 2 layers, so 0 to 1"),
        (["text.txt", "--unit", "9"], 2, "--unit 9: a layer has 9 units, so 0 to 8"),
        (["text.txt", "--units", "--html", "x"], 2, "--units prints a table"),
        (["text.txt", "--run", "missing"], 4, "missing is not a run folder"),
        (["text.txt", "--html", "no/such/folder.html"], 6, "--html: could not write no/such/folder.html"),
        (["empty.txt"], 3, "empty"),
        (["foreign.txt"], 3, "unknown to the vocabulary"),
    ],
)
def test_inspect_refuses_in_one_sentence(place, arguments, code, sentence):
    (place / "empty.txt").touch()
    (place / "foreign.txt").write_text("Ж", encoding="utf-8")
    result = call("--run", "run", *arguments)
    assert result.exit_code == code, result.output
    assert sentence in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_inspect_refuses_a_model_that_fills_gaps(place):
    make_run(place / "cloze", vocab=vocab_of(TEXT), objective="cloze", bidirectional=True)
    result = call("text.txt", "--run", "cloze")
    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert "fill gaps" in result.stderr


@pytest.mark.usefixtures("place")
def test_inspect_names_the_extra_that_pictures_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = call("text.txt", "--png", "picture.png")
    assert result.exit_code == 2
    assert "--png needs matplotlib, which is not installed: pip install 'charlstm[plot]'" in result.stderr


def test_inspect_loads_no_torch(place):
    program = (
        "import sys; from charlstm.cli import app; app(['inspect', 'text.txt', '--html', 'p.html'], prog_name='x', "
    )
    program += "standalone_mode=False); assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=place)


def test_inspect_view_puts_each_gate_under_its_character():
    text = "ab\n漢x\u0301" + "w" * 90
    vocab = vocab_of(text)
    trace, symbols = trace_of(text, vocab), gates.visible_symbols(vocab)
    shown = gates_view.view(
        trace, [symbols[k] for k in trace.ids], layer=0, unit=1, count=len(text), file=io.StringIO()
    ).decode()  # 80 columns wide and without colours, as a file is
    blocks = [shown.splitlines()[k : k + 8] for k in range(0, len(shown.splitlines()), 8)]
    assert "".join(block[0][5:] for block in blocks) == "ab↵漢x◌\u0301" + "w" * 90
    assert [line[:5].strip() for line in blocks[0]] == ["", "c", "i", "f", "g", "o", "h", "bits"]
    assert {len(line) - 5 for line in blocks[0][1:]} == {3}
    assert {len(line) - 5 for line in blocks[1][1:]} == {75}  # 漢 takes two columns
    i = trace.values["i"][:, 0, 1]
    assert blocks[0][2][5:] == "".join(" ▁▂▃▄▅▆▇█"[round(float(share) * 8)] for share in i[:3])


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_inspect_colours_on_a_terminal_unless_told_not_to(place, no_color):
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": no_color}
    command = [sys.executable, "-m", "charlstm", "inspect", "text.txt", "--show", "30"]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # the other side is closed
            pass
    os.close(ours)
    assert process.returncode == 0
    assert (b"\x1b[" in shown) == (not no_color)
    assert b"bits " in shown
    assert b"48;2;" in shown or no_color


# ---- the page ---------------------------------------------------------------------------------------------------

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
    """Open the page of a trace; afterwards nothing may have gone wrong in it or left the machine."""
    opened, wrong = [], []

    def open_page(text=TEXT, *, vocab=None, scheme="light", at="", **model):
        vocab = vocab or vocab_of(text)
        trace = trace_of(text, vocab, **model)
        marks = follow.text_marks(gates.text_of(vocab, trace.ids))
        found = follow.followers(trace.values[trace.memory], marks)
        path = tmp_path / "page.html"
        path.write_bytes(
            gates_page(
                trace, vocab, marks=marks, followers=found, studied=len(text), title="a </script><b> & c", model="made"
            )
        )
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1400, "height": 900})
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: request.url.startswith("file:") or wrong.append(request.url))
        page.goto(f"file://{path}{at}")
        page.wait_for_selector("html[data-ready=yes]")
        return SimpleNamespace(page=page, trace=trace, followers=found, vocab=vocab)

    yield open_page
    for context in opened:
        context.close()
    assert not wrong


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def spans(page):
    return page.locator("#text > span")


def backgrounds(page):
    found = page.evaluate("() => spans.map(span => getComputedStyle(span).backgroundColor)")
    return np.array([list(map(int, re.findall(r"\d+", colour)[:3])) for colour in found])


def blend(values, scale, *, zero=(255, 255, 255), plus=(0xF5, 0x9E, 0x42), minus=(0x5A, 0xA5, 0xE6)):
    """The colours that values should have, (T, 3)."""
    share = values[:, None] / scale
    return np.array(zero) + np.where(share < 0, np.array(minus) - zero, np.array(plus) - zero) * np.abs(share)


def assert_shows(opened, *, layer, unit, t):
    """The panel's numbers are those of the arrays, to what a byte holds."""
    for name, values in opened.trace.values.items():
        shown = float(opened.page.locator(f"#value-{name}").inner_text())
        scale = max(1.0, float(np.abs(values[:, layer, unit]).max()))
        assert shown == pytest.approx(float(values[t, layer, unit]), abs=scale / 200), name


def test_page_colours_the_text_by_the_unit_chosen(show):
    opened = show()
    page, values = opened.page, opened.trace.values
    page.locator("#layer").select_option("1")
    page.locator("#unit").fill("6")
    settle(page)
    c = values["c"][:, 1, 6]
    np.testing.assert_allclose(backgrounds(page), blend(c, np.abs(c).max()), atol=3)
    page.get_by_label("Colour by").select_option("f")
    settle(page)
    np.testing.assert_allclose(backgrounds(page), blend(values["f"][:, 1, 6], 1.0), atol=3)
    assert page.locator("#high").inner_text() == "1"


def test_page_shows_the_text_as_it_is_and_runs_none_of_it(show):
    opened = show()
    assert opened.page.locator("#text").text_content() == (TEXT.replace("\t", "⇥").replace("\n", "↵\n"))
    assert spans(opened.page).count() == len(TEXT)
    assert opened.page.locator("h1").inner_text() == "a </script><b> & c"


def test_page_shows_what_the_pointer_is_over(show):
    opened = show(at="#layer=1&unit=3&at=2")
    page, trace = opened.page, opened.trace
    assert_shows(opened, layer=1, unit=3, t=2)
    guessed = [t for t in range(len(TEXT) - 1) if trace.ids[t + 1] in trace.guess_ids[t]]
    for t in (17, 60, *guessed[3:5]):
        spans(page).nth(t).hover()
        settle(page)
        assert_shows(opened, layer=1, unit=3, t=t)
        assert f"surprise {trace.surprise[t]:.2f} bits" in page.locator("#surprise").inner_text()
        names = [page.locator(f"#guess-{k}").inner_text() for k in range(5)]
        symbols = gates.visible_symbols(opened.vocab)
        assert names == [symbols[k].replace(" ", "␣") for k in trace.guess_ids[t]]
        came = [page.locator(f"#guess-{k}.came").count() for k in range(5)]
        assert came == [int(k == trace.ids[t + 1]) for k in trace.guess_ids[t]]
    page.locator("h1").hover()
    settle(page)
    assert_shows(opened, layer=1, unit=3, t=2)


def test_page_works_by_keyboard(show):
    opened = show(at="#layer=0&unit=3&at=0")
    page = opened.page
    page.locator("#text").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert_shows(opened, layer=0, unit=3, t=4)
    page.keyboard.press("ArrowDown")
    settle(page)
    assert page.evaluate("pick.at") == TEXT.index("\n") + 1 + 4
    page.keyboard.press("ArrowUp")
    page.keyboard.press("End")
    settle(page)
    assert page.evaluate("pick.at") == TEXT.index("\n")
    page.keyboard.press("Home")
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.keyboard.press("p")
    settle(page)
    assert_shows(opened, layer=0, unit=4, t=0)
    assert "unit 4" in page.locator("#live").inner_text()


def test_page_lets_the_tab_key_reach_every_control(show):
    page = show().page
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached[:6] == ["layer", "unit", "slide", "show", "mark", "text"]
    assert {"order", "map", "scatter-i", "scatter-f", "scatter-o", "inside quotes"} <= set(reached)
    unnamed = "() => [...document.querySelectorAll('select, input, button, [tabindex]')]"
    unnamed += ".filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).length"
    assert page.evaluate(unnamed) == 0


def test_page_map_draws_and_picks_units_and_characters(show):
    opened = show(at="#layer=1&unit=0&at=0&show=o")
    page, o = opened.page, opened.trace.values["o"][:, 1]
    pixels = "() => { const {width, height} = $('map'); return [width, height, ...$('map').getContext('2d')"
    pixels += ".getImageData(0, 0, width, height).data]; }"
    width, height, *data = page.evaluate(pixels)
    assert (width, height) == (len(TEXT), H)
    drawn = np.array(data).reshape(height, width, 4)[:, :, :3]
    for unit in range(H):
        np.testing.assert_allclose(drawn[unit], blend(o[:, unit], 1.0), atol=3)
    box = page.locator("#map").bounding_box()
    page.locator("#map").click(position={"x": box["width"] * (200.5 / len(TEXT)), "y": box["height"] * (5.5 / H)})
    settle(page)
    assert page.evaluate("[pick.unit, pick.at]") == [5, 200]
    assert_shows(opened, layer=1, unit=5, t=200)
    page.get_by_label("Rows by").select_option("mean")
    settle(page)
    assert page.evaluate("rows") == np.argsort(-o.mean(axis=0)).tolist()


def test_page_opens_what_a_unit_follows(show):
    opened = show()
    page = opened.page
    rows = page.locator("#follow tbody tr")
    assert rows.count() == len(opened.followers)
    for k in (1, 3):
        follower = opened.followers[k]
        rows.nth(k).locator("button").click()
        settle(page)
        assert page.evaluate("[pick.layer, pick.unit, pick.show]") == [follower.layer, follower.unit, "c"]
        marked = page.evaluate("() => spans.map(span => span.style.boxShadow !== '')")
        mark = follow.text_marks(TEXT)[follower.mark]
        assert marked == (np.round(mark * 255 / mark.max()) / 255 > 0.02).tolist()
        assert f"{abs(follower.held_out):.2f}" in rows.nth(k).inner_text()


def test_page_says_how_often_the_gates_are_open_and_shut(show):
    opened = show(at="#layer=1&unit=7")
    for name in "ifo":
        is_open, is_shut = gates.open_and_shut(opened.trace.values[name])
        found = re.findall(r"<?([\d.]+)\s%", opened.page.locator(f"#share-{name}").inner_text())
        np.testing.assert_allclose(np.array(found, float), [is_open[1, 7] * 100, is_shut[1, 7] * 100], atol=0.51)
    x, y = opened.page.evaluate("scatterPoint('f', 2)")
    opened.page.locator("#scatter-f").click(position={"x": x, "y": y})
    settle(opened.page)
    same = opened.page.evaluate("[scatterPoint('f', pick.unit), scatterPoint('f', 2)]")
    np.testing.assert_allclose(same[0], same[1], atol=1.0)


@pytest.mark.parametrize("model", [{"cell": "gru"}, {"cell": "rnn", "num_layers": 1}, {"cell": "peephole-full"}])
def test_page_takes_every_cell(show, model):
    opened = show(at="#unit=3&at=30", **model)
    opened.page.locator("#layer").focus()
    assert_shows(opened, layer=opened.page.evaluate("pick.layer"), unit=3, t=30)
    assert opened.page.locator("#scatters canvas").count() == len(opened.trace.sigmoid_gates)


def test_page_takes_bytes_and_a_text_of_one_character(show):
    assert show("aé\n", vocab=BYTES).page.locator("#text").text_content() == "a\\xc3\\xa9↵\n"
    opened = show("x")
    assert opened.page.locator("#surprise").inner_text() == "nothing came before it"
    assert "too short" in opened.page.locator("#follow").inner_text()


def test_page_changes_with_the_scheme_of_the_system(show):
    opened = show(scheme="dark", at="#layer=0&unit=2&show=f")
    f = opened.trace.values["f"][:, 0, 2]
    dark = {"zero": (0x17, 0x1A, 0x21), "plus": (0xA8, 0x54, 0x00)}
    np.testing.assert_allclose(backgrounds(opened.page), blend(f, 1.0, **dark), atol=3)
    opened.page.emulate_media(color_scheme="light")
    settle(opened.page)
    np.testing.assert_allclose(backgrounds(opened.page), blend(f, 1.0), atol=3)


def test_page_text_can_be_read_on_every_colour():
    template = resources.files("charlstm.analysis").joinpath("page.html").read_text(encoding="utf-8")

    def luminance(colour):
        channels = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    schemes = re.findall(r":root \{(.*?)\}", template, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink, ground in [*(("ink", end) for end in ("plus", "minus", "zero", "ground")), ("soft", "card")]:
            low, high = sorted([luminance(colours[ink]), luminance(colours[ground])])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3
