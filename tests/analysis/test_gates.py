"""What was recorded is what the engine did; what follows something is judged where it was not chosen."""

import numpy as np
import pytest

from charlstm.analysis import correlated_units as follow
from charlstm.analysis import gates
from charlstm.cells import CELLS
from charlstm.errors import SettingsError
from charlstm.inference import Engine
from charlstm.settings import ModelSettings
from charlstm.text.vocabulary import CODE_POINTS, Vocab, build_vocab, code_points
from charlstm.weights import weight_shapes

V, E, H, L, T = 11, 5, 7, 3, 23
BYTES = Vocab(unit="byte", symbols=(), unknown="error", newline="keep", has_unknown_symbol=False)


def engine_of(cell, *, layers=L, hidden=H, vocab_size=V, seed=1):
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=hidden, num_layers=layers)
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(settings, vocab_size)
    return Engine({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}, settings)


def ids_of(length=T, *, vocab_size=V, seed=2):
    return np.random.default_rng(seed).integers(vocab_size, size=length)


def vocab_of(text):
    counts = np.bincount(code_points(text), minlength=CODE_POINTS)
    return build_vocab(counts, unit="char", min_count=1, unknown="error", newline="keep")


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


def test_gates_are_those_of_the_engine_stepped_by_hand(cell):
    engine, ids = engine_of(cell), ids_of()
    trace = gates.record(engine, ids)
    assert (trace.shape, trace.gates, trace.state) == ((T, L, H), engine.cell.gates, engine.cell.state)
    state = engine.zero_state(1)
    for t in range(T):
        _, state, of_layers = engine.step_gates(ids[t : t + 1], state)
        for name, part in zip(engine.cell.state, state, strict=True):
            np.testing.assert_array_equal(trace.values[name][t], part[:, 0])
        for layer in range(L):
            for name, value in zip(engine.cell.gates, of_layers[layer], strict=True):
                np.testing.assert_array_equal(trace.values[name][t, layer], value[0])


def test_gates_rebuild_the_hidden_state(cell):
    values = gates.record(engine_of(cell), ids_of()).values
    before = {name: np.concatenate([np.zeros_like(values[name][:1]), values[name][:-1]]) for name in values}
    if cell == "rnn":
        rebuilt = values["n"]
    elif cell == "gru":
        rebuilt = (1 - values["z"]) * values["n"] + values["z"] * before["h"]
    else:
        memory = values["f"] * before["c"] + values["i"] * values["g"]
        np.testing.assert_allclose(memory, values["c"], atol=1e-6)
        rebuilt = values["o"] * np.tanh(memory)
    np.testing.assert_allclose(rebuilt, values["h"], atol=1e-6)


def test_gates_that_open_and_shut_stay_between_0_and_1(cell):
    trace = gates.record(engine_of(cell), ids_of())
    assert set(trace.gates) - set(trace.sigmoid_gates) == set(trace.gates) & {"g", "n"}
    for name in trace.sigmoid_gates:
        assert 0 <= trace.values[name].min() <= trace.values[name].max() <= 1
    assert all(name in gates.NAMES and name in gates.MEANINGS for name in trace.values)


def test_gates_surprise_is_minus_log2_of_what_the_step_before_gave(cell):
    engine, ids = engine_of(cell), ids_of(300)  # longer than a block of logits
    trace = gates.record(engine, ids, guesses=4)
    assert np.isnan(trace.surprise[0])
    state = engine.zero_state(1)
    for t in range(len(ids) - 1):
        logits, state = engine.step(ids[t : t + 1], state)
        probabilities = np.exp(logits[0].astype(np.float64))
        probabilities /= probabilities.sum()
        assert trace.surprise[t + 1] == pytest.approx(-np.log2(probabilities[ids[t + 1]]), abs=1e-4)
        assert trace.guess_ids[t].tolist() == np.argsort(-probabilities)[:4].tolist()
        np.testing.assert_allclose(trace.guess_probs[t], np.sort(probabilities)[::-1][:4], atol=1e-5)


def test_gates_mean_surprise_is_the_bits_per_char_that_eval_reports(cell):
    torch = pytest.importorskip("torch")
    from charlstm.evaluation.evaluate import evaluate
    from charlstm.networks.models import CharLM

    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L)
    model = CharLM(V, settings, seed=3)
    with torch.no_grad():
        model.output.weight.normal_(generator=torch.Generator().manual_seed(4))
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    ids = ids_of(700)
    assert gates.record(Engine(weights, settings), ids).bits_per_char == pytest.approx(
        evaluate(model, ids).bits_per_char, abs=1e-4
    )


def test_gates_memory_alone_is_that_of_the_trace(cell):
    engine, ids = engine_of(cell), ids_of()
    trace = gates.record(engine, ids)
    np.testing.assert_array_equal(gates.read_memory(engine, ids), trace.values[trace.memory])
    assert trace.memory == ("c" if "c" in trace.values else "h")


def test_gates_open_and_shut_are_shares_of_the_time():
    values = np.array([0.95, 0.95, 0.5, 0.05, 0.9], dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    is_open, is_shut = gates.open_and_shut(values)
    assert (is_open.shape, is_shut.shape) == ((2, 3), (2, 3))
    np.testing.assert_allclose([is_open[1, 2], is_shut[1, 2]], [0.4, 0.2])


def test_gates_refuse_a_text_whose_trace_would_not_fit(monkeypatch):
    engine = engine_of("lstm")
    monkeypatch.setattr(gates, "MOST_NUMBERS", 10 * 6 * L * H)
    assert gates.record(engine, ids_of(10)).shape[0] == 10
    with pytest.raises(SettingsError, match="--length 10 or less"):
        gates.record(engine, ids_of(11))
    assert gates.read_memory(engine, ids_of(60)).shape[0] == 60
    with pytest.raises(SettingsError, match="--study 60 or less"):
        gates.read_memory(engine, ids_of(61))


def test_gates_of_a_single_character_have_no_mean_surprise():
    assert np.isnan(gates.record(engine_of("gru"), ids_of(1)).bits_per_char)


def test_gates_text_has_one_character_an_id():
    text = "a\n\té\u0301😀\r"
    vocab = vocab_of(text)
    assert gates.text_of(vocab, vocab.encode_text(text, where="it")) == text
    assert gates.text_of(BYTES, np.array([0xC3, 0xA9, 10])) == "Ã©\n"


def test_gates_symbols_can_all_be_seen():
    vocab = vocab_of("a \n\t\r\x1b\x7f\x85é\u0301\u200b\u2028\u202e😀")
    assert gates.visible_symbols(vocab) == (
        ["⇥", "↵", "␍", "␛", " ", "a", "U+007F", "U+0085", "é", "◌\u0301", "U+200B", "U+2028", "U+202E", "😀"]
    )
    shown = gates.visible_symbols(BYTES)
    assert (shown[10], shown[65], shown[255], shown[0]) == ("↵", "A", "\\xff", "\\x00")


TEXT = '''def f(a, b="x)"):  # it isn't (
    return 'y' + r'\\'' # "
"""A Doc
don't "stop" """
<!-- http://a.b --> // End
\tx = [1, {2: 30}]
'''


def where(mark, text):
    """The characters at which a yes-or-no mark is on."""
    on = follow.text_marks(text)[mark]
    return "".join(character if value else "·" for character, value in zip(text, on, strict=True))


@pytest.mark.parametrize(
    ("text", "mark", "on"),
    [
        ("a 'b' c", "inside quotes", "··'b···"),
        ("don't 'go'", "inside quotes", "······'go·"),
        ('x = r"a\\"b" + "c"', "inside quotes", '·····"a\\"b····"c·'),
        ("“hi” «ho» ‘", "inside quotes", "“hi··«ho···"),
        ("it 'tis\nno", "inside quotes", "···'tis···"),
        ('say "one\ntwo" end', "inside quotes", '····"one\ntwo·····'),
        ('never "closed\n\nnew', "inside quotes", '······"closed\n····'),
        ('a = """b"c""" d', "inside triple quotes", '······"b"c""··'),
        ('a = "" + b', "inside triple quotes", "··········"),
        ("f(a[1], {2}) x", "inside brackets", "·(a[1], {2}··"),
        (":-) (x\n\n) y", "inside brackets", "····(x\n····"),
        ("a # b\nc", "in a comment", "··# b··"),
        ("http://x // y\nz", "in a comment", "··········/ y··"),
        ("'#' # '", "in a comment", "····# '"),
        ("aB Cd e", "after a capital in the word", "·B·Cd··"),
        ("a12 3", "in a number", "·12·3"),
        ("  a b\n\tc", "in leading white space", "  ····\t·"),
        ("a\tb c", "between words", "·\t· ·"),
    ],
)
def test_follow_marks_what_a_person_would(text, mark, on):
    assert where(mark, text) == on.ljust(len(text), "·")


def test_follow_marks_places():
    marks = follow.text_marks("ab  cd\n  x\n")
    assert marks["place in the line"].tolist() == [1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 0]
    assert marks["place in the word"].tolist() == [1, 2, 0, 0, 1, 2, 0, 0, 0, 1, 0]
    assert marks["indentation"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0]


def test_follow_marks_know_nothing_of_the_future():
    whole = follow.text_marks(TEXT)
    for length in range(len(TEXT)):
        for name, mark in follow.text_marks(TEXT[:length]).items():
            assert mark.tolist() == whole[name][:length].tolist(), name


def square_wave(length, *, period, seed):
    rng = np.random.default_rng(seed)
    steps = rng.integers(period // 2, period * 2, size=length)
    return np.repeat(np.arange(length) % 2, steps)[:length].astype(np.float32)


def test_follow_finds_the_unit_that_follows_and_its_sign():
    rng = np.random.default_rng(5)
    mark = square_wave(2000, period=20, seed=6)
    memory = rng.standard_normal((2000, 2, 50)).astype(np.float32)
    memory[:, 1, 17] -= 3 * mark
    (best,) = follow.followers(memory, {"a mark": mark})
    assert (best.mark, best.layer, best.unit) == ("a mark", 1, 17)
    expected = np.corrcoef(memory[1000:, 1, 17], mark[1000:])[0, 1]
    assert best.held_out == pytest.approx(expected, abs=1e-5)
    assert best.found == pytest.approx(np.corrcoef(memory[:1000, 1, 17], mark[:1000])[0, 1], abs=1e-5)
    assert best.agreement > 0.7 > 0.3 > best.chance


def test_follow_is_not_fooled_by_a_thousand_units_that_follow_nothing():
    rng = np.random.default_rng(7)
    # slow units against slow marks: on one half the best of a thousand correlates well by luck alone
    memory = np.cumsum(rng.standard_normal((3000, 1, 1000)), axis=0).astype(np.float32)
    marks = {str(seed): square_wave(3000, period=200, seed=seed) for seed in range(20)}
    found = follow.followers(memory, marks)
    assert np.mean([abs(follower.found) for follower in found]) > 0.4
    assert np.mean([follower.agreement for follower in found]) < 0.15
    assert sum(follower.agreement > follower.chance for follower in found) <= 3
    assert [follower.agreement for follower in found] == sorted([f.agreement for f in found], reverse=True)


def test_follow_leaves_out_what_does_not_vary_in_both_halves():
    memory = np.random.default_rng(8).standard_normal((100, 1, 3)).astype(np.float32)
    late = (np.arange(100) > 60).astype(np.float32)
    assert follow.followers(memory, {"never": np.zeros(100, np.float32), "late": late}) == []
    assert follow.followers(memory[:1], {"short": late[:1]}) == []


def test_follow_takes_a_unit_that_never_moves():
    (best,) = follow.followers(np.ones((100, 1, 2), np.float32), {"m": square_wave(100, period=6, seed=1)})
    assert (best.found, best.held_out) == (0.0, 0.0)
