"""Texts measured by a run: how well it predicts them, what each line costs, and what of them it was trained on.

`evaluate` and `evaluate_dynamic` load torch when they are called.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as replace_field
from typing import TYPE_CHECKING

import numpy as np

from charlstm.environment import available_cores
from charlstm.errors import SettingsError, TextError
from charlstm.inference import LineScorer, LineScores, decode_line
from charlstm.runs import Run, read_checkpoint, read_split, refuse_other_objective
from charlstm.settings import Naming
from charlstm.text import Copies, Cut, code_points, cut_documents, end_id, find_copies, start_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from charlstm.evaluation import Evaluation
    from charlstm.machine import Machine
    from charlstm.networks import Model
    from charlstm.text import Ids

MOST_NOVEL_BYTES = 10_000_000  # of a text that is compared with the training text
MOST_VALIDATION = 500_000  # symbols that are compared beside it


def evaluate(run: Run, ids: "Ids", *, protocol: str | None = None) -> "Evaluation":
    """Measure a run's best checkpoint in float32 on ids, as `encode_text` and `read_split` give them.

    protocol: one of its objective's ("stream" or "windows" for next characters, "cloze" for gaps), None for the first.
    "documents" is the only one of a model of documents; a model of next characters in a stream reads lines so.
    Raises SettingsError for any other, RunError for a damaged checkpoint, TextError for a text too short or no ids.
    """
    from charlstm import evaluation
    from charlstm.networks import OBJECTIVES

    ids = _checked_ids(run, ids)
    objective = OBJECTIVES[run.settings.model.objective]
    protocols = _protocols(run, objective.protocols)
    if protocol not in (None, *protocols):
        known = " and ".join(protocols)
        raise SettingsError(f"{run.folder} is evaluated by the protocol {known}, not {protocol}: leave --protocol out")
    model, machine = _load_model(run, evaluation.EVALUATED_LANES)
    measured = evaluation.evaluate(
        model,
        objective,
        ids,
        start_id=start_id(run.vocab),
        end_id=end_id(run.vocab),
        protocol=protocol or protocols[0],
        machine=machine,
    )
    return replace_field(measured, naming=Naming.of(run.settings))


def _checked_ids(run: Run, ids: "Ids") -> "Ids":
    """The ids as an array; refuse what torch would read beyond an array for."""
    found = np.asanyarray(ids)  # those of a file stay what knows whether it is changed
    if (
        found.ndim != 1
        or found.dtype.kind not in "iu"
        or (found.size and not 0 <= found.min() <= found.max() < run.vocab.size)
    ):
        raise TextError(
            f"a text to measure is a row of ids from 0 to {run.vocab.size - 1}, as encode_text gives them, but this is "
            f"{found.dtype} {list(found.shape)}: encode it by this run"
        )
    return found


def _protocols(run: Run, of_objective: Sequence[str]) -> Sequence[str]:
    """Those by which a run is evaluated, the default first."""
    if run.vocab.has_boundary:
        return ("documents",)
    by_lines = run.settings.model.objective == "next" and end_id(run.vocab) is not None
    return (*of_objective, "documents") if by_lines else of_objective


def evaluate_dynamic(
    run: Run,
    texts: "Sequence[Ids]",
    training_ids: "Ids",
    *,
    tell: Callable[[float], None] = lambda _done: None,
) -> "list[Evaluation]":
    """Measure a run's best checkpoint on each of the texts while it learns from them (Krause et al. 2018).

    Every character is predicted before the model learns from it; each text begins with the weights of the checkpoint,
    which stay as they are. training_ids: the "train" split, on which the rates are tuned. tell: called with the
    fraction that is done. Raises RunError for a run of another objective or a damaged checkpoint, SettingsError for one
    of documents, TextError for an empty text, one that is no ids, and a training text of fewer than two.
    """
    refuse_other_objective(run, "next")
    training_ids, *texts = (_checked_ids(run, ids) for ids in (training_ids, *texts))
    if run.vocab.has_boundary:
        raise SettingsError(
            f"{run.folder} was trained on documents, but only a stream is read dynamically: name another"
        )
    from charlstm import evaluation
    from charlstm.networks import OBJECTIVES

    model, _ = _load_model(run, lanes=1)
    naming = Naming("dynamic_", run.settings.data.unit)
    tallies, rule = evaluation.evaluate_dynamic(
        model, OBJECTIVES["next"], texts, training_ids, start_id=start_id(run.vocab), tell=tell
    )
    return [evaluation.Evaluation(tally, "dynamic", lanes=1, naming=naming, rule=rule) for tally in tallies]


def _load_model(run: Run, lanes: int) -> "tuple[Model, Machine]":
    """The model of a run's best checkpoint, on what it is to be measured on so many lanes at a time."""
    import torch

    from charlstm.machine import prepare_evaluation
    from charlstm.networks import OBJECTIVES

    checkpoint = read_checkpoint(run, "best", model_only=True)
    machine = prepare_evaluation(lanes)
    model = OBJECTIVES[run.settings.model.objective].build_model(run.vocab.size, run.settings.model)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    return model.to(machine.device), machine


def score(run: Run, lines: Iterable[str | bytes]) -> LineScores:
    """What each line, given without its line end, costs by a run's best checkpoint, in nats (`inference.scoring`).

    No line is refused. Raises RunError for a run of another objective or a damaged checkpoint, TypeError for one text
    in place of lines, or for a line that is none.
    """
    each = list(lines)
    if isinstance(lines, str | bytes) or not all(isinstance(line, str | bytes) for line in each):
        raise TypeError("lines are str or bytes, one each")
    encoded = [line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line for line in each]
    return open_scorer(run)[0].score(encoded)


def open_scorer(run: Run, *, threads: int | None = None) -> tuple[LineScorer, str]:
    """What scores lines by a run's best checkpoint, and the name of that. Raises as `score`.

    threads: None for one on each core that this process may use.
    """
    refuse_other_objective(run, "next")
    checkpoint = read_checkpoint(run, "best", model_only=True)
    threads = threads or available_cores()
    return LineScorer(checkpoint.weights, run.settings.model, run.vocab, threads=threads), checkpoint.name


def find_novelty(run: Run, text: bytes, *, trust_sources: bool = False) -> tuple[Copies, Copies | None]:
    """What of a text stands in the run's training text; and what of its validation text does, None if it has none.

    text: lines, or documents one a line. No character is refused: unknown ones are no copies. Raises RunError as
    `own_corpus`, TextError for a text that is empty or too long.
    """
    if not 0 < len(text) <= MOST_NOVEL_BYTES:
        raise TextError(f"a text to compare needs 1 to {MOST_NOVEL_BYTES:,} bytes, this one has {len(text):,}")
    training = read_split(run, "train", trust_sources=trust_sources)
    own = _document_ids(run, text)
    try:
        validation = [read_split(run, "val", trust_sources=trust_sources)[:MOST_VALIDATION]]
    except TextError:
        validation = []
    found = find_copies(training, [own, *validation], end=end_id(run.vocab), apart=run.vocab.has_boundary)
    return found[0], found[1] if validation else None


def _document_ids(run: Run, text: bytes) -> "NDArray[np.integer]":
    """The ids of a text, each line with its end; of a run of paragraphs or files each of these, cut as its own text."""
    vocab, cut = run.vocab, Cut.of(run.settings.data)
    if cut.kind in ("paragraph", "file"):
        pieces = cut_documents([decode_line(vocab, text)], cut, where="the text")
        return vocab.lookup(code_points("".join(pieces)))
    end = -1 if (known := end_id(vocab)) is None else known
    lines = (vocab.lookup(code_points(decode_line(vocab, line))) for line in text.split(b"\n"))
    return np.concatenate([np.append(line, end) for line in lines])[:-1]  # the last line has no end
