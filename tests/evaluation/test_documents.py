"""Documents: whatever is read beside them, their figures and gradients are those of each read alone from its beginning.

Letters: `V` vocabulary, `E` embedding, `H` hidden, `L` layers.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from charlstm.errors import TextError
from charlstm.evaluation import DOCUMENTS, Evaluation, Tally, evaluate
from charlstm.machine import Machine
from charlstm.networks import OBJECTIVES, CharLM, ClozeLM
from charlstm.settings import ModelSettings, Naming, TrainingSettings
from charlstm.text import DocumentBatches
from charlstm.training import Trainer

V, E, H, L = 11, 5, 7, 2
END = V - 1
LENGTHS = (3, 1, 3, 40, 7, 2, 12, 300, 5, 5, 1, 29, 128, 127, 600)


def random_model(kind: type[CharLM] | type[ClozeLM], cell: str = "lstm") -> Any:
    """A model whose state matters: its weights are large."""
    settings = ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L, dropout=0.0)  # type: ignore[arg-type]
    model = kind(V, settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.8, generator=torch.Generator().manual_seed(3))
    return model


def documents(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [rng.integers(END, size=length).tolist() for length in lengths]


def ids_of(texts: list[list[int]]) -> np.ndarray:
    return np.array([symbol for text in texts for symbol in (*text, END)], dtype=np.uint8)


def one_by_one(model: CharLM, texts: list[list[int]]) -> list[torch.Tensor]:
    """Nats of each character and of the end of each document, read alone."""
    found = []
    for text in texts:
        logits, _ = model(torch.tensor([[END, *text]]).T)
        found.append(F.cross_entropy(logits[:, 0], torch.tensor([*text, END]), reduction="none"))
    return found


def measure(model: Any, texts: list[list[int]], objective: str = "next", **how: Any) -> Evaluation:
    ids = ids_of(texts)
    return evaluate(model, OBJECTIVES[objective], ids, start_id=END, end_id=END, protocol=DOCUMENTS, **how)


@pytest.mark.parametrize("cell", ["lstm", "peephole", "peephole-full", "gru", "rnn"])
@pytest.mark.parametrize("how", [{}, {"lanes": 2, "sequence_length": 5}, {"lanes": 1}])
def test_documents_figures_are_those_of_each_read_alone(cell: str, how: dict[str, int]) -> None:
    model, texts = random_model(CharLM, cell), documents()
    with torch.no_grad():
        nats = one_by_one(model, texts)
    tally = measure(model, texts, **how).tally
    assert (tally.chars, tally.documents) == (sum(LENGTHS) + len(LENGTHS), len(LENGTHS))
    assert tally.nats == pytest.approx(sum(float(one.sum()) for one in nats), rel=1e-6)
    assert tally.end_nats == pytest.approx(sum(float(one[-1]) for one in nats), rel=1e-5)


def test_documents_figures_count_the_end_and_leave_it_out_and_sum_a_document() -> None:
    tally = Tally(nats=30.0, hits=3, chars=15, end_nats=6.0, documents=5)
    figures = tally.figures(Naming("", "byte"))
    assert figures == {
        "loss": 2.0,
        "bits_per_byte": pytest.approx(2 / math.log(2)),
        "perplexity": pytest.approx(math.exp(2)),
        "accuracy": 0.2,
        "loss_without_end": 2.4,
        "bits_per_byte_without_end": pytest.approx(2.4 / math.log(2)),
        "nats_per_document": 6.0,
        "bits_per_document": pytest.approx(6 / math.log(2)),
    }
    assert (tally + tally).figures(Naming()) == tally.figures(Naming())


def test_documents_gaps_are_predicted_from_the_document_alone() -> None:
    model = random_model(ClozeLM)
    texts = documents(LENGTHS[:-1])  # the last is longer than a window
    tally = measure(model, texts, "cloze").tally
    nats = 0.0
    for text in texts:
        with torch.no_grad():
            logits, _ = model(torch.tensor([[END, *text, END]]).T)
        nats += float(F.cross_entropy(logits[1:-1, 0], torch.tensor(text), reduction="sum"))
    assert tally.nats == pytest.approx(nats, rel=1e-6)
    assert (tally.chars, tally.documents) == (sum(LENGTHS[:-1]), 0)  # an end is seen, never predicted


def test_documents_to_measure_need_one() -> None:
    for texts in ([[]], [[], []]):
        with pytest.raises(TextError, match="holds no document"):
            measure(random_model(CharLM), texts)


@pytest.mark.parametrize(("kind", "objective"), [(CharLM, "next"), (ClozeLM, "cloze")])
@pytest.mark.parametrize("shards", [1, 3])
def test_documents_empty_places_change_no_loss_and_no_gradient(kind: Any, objective: str, shards: int) -> None:
    texts = documents((3, 1, 4, 2, 5))
    settings = TrainingSettings(batch_size=5, sequence_length=7, max_steps=3, clip_norm=None, shards=shards)
    batches = DocumentBatches(ids_of(texts), END, END, 5, 7, 1, around=objective == "cloze")
    assert batches.steps_per_epoch == 1  # all in one batch, so that four have empty places
    assert batches.padding > 0.2
    trainer = Trainer(
        random_model(kind),
        OBJECTIVES[objective],
        settings,
        batches=batches,
        validation_ids=ids_of(texts),
        start_id=END,
        end_id=END,
        machine=Machine(torch.device("cpu"), "fp32", shards=shards, threads=1),
    )
    model = random_model(kind)
    chars = 0
    for text in texts:
        whole = torch.tensor([[END, *text, END]]).T
        logits, _ = model(whole)
        if objective == "next":
            F.cross_entropy(logits[:-1, 0], whole[1:, 0], reduction="sum").backward()
        else:
            F.cross_entropy(logits[1:-1, 0], whole[1:-1, 0], reduction="sum").backward()
        chars += len(text) + (objective == "next")
    expected = measure(random_model(kind), texts, objective).tally.loss
    facts = next(trainer.steps())
    assert facts.loss == pytest.approx(expected, rel=1e-5)
    assert facts.chars == chars
    for ours, theirs in zip(trainer.model.parameters(), model.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad / chars, atol=1e-6)


def test_documents_validation_is_the_evaluation_and_chars_are_counted_as_they_are() -> None:
    texts = documents()
    settings = TrainingSettings(batch_size=4, sequence_length=8, max_epochs=2, validate_every_steps=10_000)
    batches = DocumentBatches(ids_of(texts), END, END, 4, 8, 1)
    trainer = Trainer(
        random_model(CharLM),
        OBJECTIVES["next"],
        settings,
        batches=batches,
        validation_ids=ids_of(texts),
        start_id=END,
        end_id=END,
        machine=Machine(torch.device("cpu"), "fp32", shards=1, threads=1),
    )
    *_, last = trainer.steps()
    assert last.validation == measure(trainer.model, texts).tally
    assert last.chars == 2 * (sum(LENGTHS) + len(LENGTHS)) == trainer.progress.chars
    assert last.step == 2 * batches.steps_per_epoch
