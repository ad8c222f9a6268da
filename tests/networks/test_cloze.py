"""The model of gaps, which reads in both directions, and what fills them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from charlstm.cells import CELLS
from charlstm.errors import TextError
from charlstm.evaluation import Tally
from charlstm.evaluation import evaluate as evaluate_model
from charlstm.inference import Engine, SamplingParameters, build_directions, fill_gaps, fill_text
from charlstm.networks import OBJECTIVES, ClozeLM
from charlstm.settings import ModelSettings
from charlstm.text import Vocab

T, B, E, H, V = 7, 3, 5, 4, 11
LIKELIEST = SamplingParameters(temperature=0.0)


def settings(cell: str, num_layers: int = 2, *, skip_connections: bool = True) -> ModelSettings:
    sizes = {
        "embedding_size": E,
        "hidden_size": H,
        "num_layers": num_layers,
        "skip_connections": skip_connections,
    }
    return ModelSettings(cell=cell, bidirectional=True, objective="cloze", **sizes)  # type: ignore[arg-type]


def cloze_model(cell: str, num_layers: int = 2, *, skip_connections: bool = True) -> ClozeLM:
    torch.manual_seed(5)
    chosen = settings(cell, num_layers, skip_connections=skip_connections)
    model = OBJECTIVES["cloze"].build_model(V, chosen).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    assert isinstance(model, ClozeLM)
    return model


def engines_of(model: ClozeLM, cell: str) -> tuple[Engine, Engine]:
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    return build_directions(weights, settings(cell, skip_connections=model.core.forwards.skip_connections))


def evaluate(model: ClozeLM, ids: np.ndarray, **how: Any) -> Tally:
    return evaluate_model(model, OBJECTIVES["cloze"], ids, start_id=0, **how).tally


@pytest.mark.parametrize("skip_connections", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_cloze_logits_of_a_character_do_not_move_with_it_but_with_every_other(
    cell: str, skip_connections: bool
) -> None:
    model = cloze_model(cell, skip_connections=skip_connections)
    ids = torch.randint(V, (T, B))
    logits, _ = model(ids, dtype=torch.float64)
    for t in range(T):
        changed = ids.clone()
        changed[t] = (changed[t] + 1) % V
        moved = (model(changed, dtype=torch.float64)[0] - logits).abs().amax(dim=(1, 2))  # (T,)
        assert moved[t] == 0.0
        assert (moved[torch.arange(T) != t] > 1e-9).all()


@pytest.mark.parametrize("skip_connections", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_cloze_two_engines_add_up_to_the_model(cell: str, skip_connections: bool) -> None:
    model = cloze_model(cell, skip_connections=skip_connections)
    forwards, backwards = engines_of(model, cell)
    ids = torch.randint(V, (T, 1))
    expected = model(ids, dtype=torch.float64)[0][:, 0].detach().numpy()  # (T, V)
    sequence = ids[:, 0].numpy()
    for t in range(T):
        total = forwards.output_bias + np.zeros(V)
        state = forwards.zero_state(1)
        for symbol in sequence[:t]:
            total, state = forwards.step(np.array([symbol]), state)
        share, state = np.zeros(V), backwards.zero_state(1)
        for symbol in sequence[:t:-1]:
            share, state = backwards.step(np.array([symbol]), state)
        assert np.abs(total + share - expected[t]).max() < 1e-12


@pytest.mark.parametrize("length", [1, 2, 100, 256, 511, 513, 2000])
def test_cloze_evaluation_predicts_every_character_once(length: int) -> None:
    model = cloze_model("gru", 1).float()
    ids = np.random.default_rng(1).integers(V, size=length).astype(np.uint8)
    counted = evaluate(model, ids, lanes=3)
    assert counted.chars == length
    logits = model(torch.from_numpy(ids.astype(np.int64))[:, None])[0][:, 0]
    whole = nn.functional.cross_entropy(logits, torch.from_numpy(ids.astype(np.int64))).item()
    assert counted.loss == pytest.approx(whole, abs=1e-4)  # 128 characters on either side are as good as all


def test_cloze_one_gap_is_filled_with_the_models_most_likely_character() -> None:
    model = cloze_model("lstm")
    engines = engines_of(model, "lstm")
    ids = np.random.default_rng(2).integers(V, size=20)
    logits = model(torch.from_numpy(ids)[:, None], dtype=torch.float64)[0][:, 0].detach().numpy()
    for gap in (0, 9, 19):
        filled = fill_gaps(engines, ids, [gap], parameters=LIKELIEST, seed=0)
        assert filled[gap] == logits[gap].argmax()
        assert np.array_equal(np.delete(filled, gap), np.delete(ids, gap))


def test_cloze_what_stands_in_the_gaps_does_not_change_the_filling() -> None:
    engines = engines_of(cloze_model("peephole"), "peephole")
    ids = np.random.default_rng(4).integers(V, size=30)
    gaps = [0, 1, 7, 15, 29]
    fillings = []
    for stand_in in range(V):
        ids[gaps] = stand_in
        fillings.append(fill_gaps(engines, ids, gaps, parameters=LIKELIEST, seed=0))
    assert all(np.array_equal(filling, fillings[0]) for filling in fillings)


def test_cloze_drawn_fillings_depend_on_the_seed_alone_and_never_hold_the_unknown() -> None:
    engines = engines_of(cloze_model("lstm"), "lstm")
    ids = np.random.default_rng(4).integers(V - 1, size=60)
    gaps = list(range(0, 60, 2))
    parameters = SamplingParameters(temperature=2.0, never=V - 1)
    draw = [fill_gaps(engines, ids, gaps, parameters=parameters, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    assert V - 1 not in draw[0][gaps]


def test_cloze_text_keeps_its_known_bytes_and_each_gap_is_one_character() -> None:
    engines = engines_of(cloze_model("gru"), "gru")
    vocab = Vocab(unit="char", symbols=tuple("\n abcdefжзи"), unknown="error", newline="keep", has_unknown_symbol=False)
    assert vocab.size == V
    text = "_aж__\nзe_".encode()
    filled = fill_text(engines, vocab, text, mask=b"_", temperature=0.0, seed=0).decode()
    assert len(filled) == len(text.decode())
    assert set(filled) <= set(vocab.symbols)
    assert all(found == given for found, given in zip(filled, text.decode(), strict=True) if given != "_")


class Before:
    """An engine of two symbols that expects symbol 0 of nothing, and of a symbol 0 that `expected` is beside it."""

    output_bias = np.array([1.0, 0.0])

    def __init__(self, expected: int) -> None:
        self.expected = expected

    def zero_state(self, _lanes: int) -> tuple[Any, ...]:
        return ()

    def step(self, ids: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        return (3 * np.eye(2)[self.expected] if ids[0] == 0 else np.zeros(2))[None], state


@pytest.mark.parametrize("stand_in", [0, 1])
def test_cloze_first_guesses_are_revised_also_if_they_are_what_stood_in_the_gaps(stand_in: int) -> None:
    engines: Any = Before(0), Before(1)
    ids = np.full(2, stand_in)
    assert fill_gaps(engines, ids, [0, 1], parameters=LIKELIEST, seed=0).tolist() == [1, 0]


def test_cloze_text_that_is_no_utf8_is_refused_where_it_is_wrong() -> None:
    engines = engines_of(cloze_model("gru"), "gru")
    vocab = Vocab(unit="char", symbols=tuple("\n abcdefжзи"), unknown="error", newline="keep", has_unknown_symbol=False)
    with pytest.raises(TextError, match="line 3"):
        fill_text(engines, vocab, b"ab\ncd\na_b\xff", mask=b"_", temperature=0.0, seed=0)
