"""What a run can do, as functions: the commands call these, and so can a notebook or a benchmark.

`evaluate` and `evaluate_dynamic` load torch when they are called; nothing else here does.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace as replace_field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from msgspec.structs import replace

from charlstm.environment import available_cores, load_average
from charlstm.errors import SettingsError, TextError
from charlstm.inference import (
    EVERY,
    SAMPLED_LANES,
    Automaton,
    Document,
    Filter,
    LineScorer,
    LineScores,
    Sample,
    SamplingParameters,
    Stepper,
    Tally,
    build_directions,
    build_stepper,
    collect_documents,
    compile_expression,
    decode_line,
    encode_known,
    encode_lines,
    fill_text,
    find_likeliest,
    generate,
    known_end,
    numpy_threads,
    sampling_threads,
    take_text,
)
from charlstm.runs import Run, read_checkpoint, read_split, refuse_other_objective
from charlstm.settings import Naming, SamplingSettings
from charlstm.text import Copies, Cut, code_points, cut_documents, end_id, find_copies, start_id

_LINE_END = re.compile(rb"\r?\n\Z")
MOST_NOVEL_BYTES = 10_000_000  # of a text that is compared with the training text
MOST_VALIDATION = 500_000  # symbols that are compared beside it
FLOAT32 = SamplingSettings(weights="float32")

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from charlstm.evaluation import Evaluation
    from charlstm.machine import Machine
    from charlstm.networks import Model
    from charlstm.text import Ids

T = TypeVar("T")


def sample(run: Run, *, prompt: str = "", length: int | None = None, seed: int = 1) -> str:
    """A text that goes on from the prompt, which it does not repeat.

    length: characters, None for that of the run's sampling settings, which also say how each is chosen. The same seed
    gives the same text. Raises TextError for a prompt that the vocabulary refuses, SettingsError for a length of 0,
    which is without end, and RunError for a run of another objective.
    """
    sampling = run.settings.sampling if length is None else replace(run.settings.sampling, length=length)
    if sampling.length < 1:
        raise SettingsError(f"length is {sampling.length}, but must be at least 1 for a text that is returned whole")
    steps = sample_stepwise(run, sampling, prompt=prompt.encode(), seed=seed)
    return b"".join(take_text(one, run.vocab) for (one,) in steps).decode("utf-8", "replace")


def sample_stepwise(
    run: Run,
    sampling: SamplingSettings,
    *,
    prompt: bytes = b"",
    stop: bytes = b"",
    samples: int = 1,
    which: slice = EVERY,
    seed: int = 1,
    scored: bool = False,
    cores: int | None = None,
    cold: bool = False,
) -> Iterator[list[Sample]]:
    """Generate samples from a run's best checkpoint; after each step yield those that it advanced (`generate`).

    sampling: its length 0 is without end; a model of documents ends each itself. which: of the samples.
    cores: that NumPy may use, None for all of this process.
    cold: whether to read nothing before the prompt, instead of what training texts begin with.
    Everything is read and checked before this returns; raises RunError, TextError and, for int8, SettingsError.
    """
    refuse_other_objective(run, "next")
    prompt_ids = run.vocab.encode_text(prompt, where="the prompt")
    stop_ids = encode_known(run.vocab, stop)
    steps = generate(
        _stepper(run, sampling, texts=samples),
        run.vocab,
        SamplingParameters.from_settings(sampling),
        prompt=prompt_ids,
        length=sampling.length or None,
        seed=seed,
        samples=samples,
        which=which,
        stop_ids=stop_ids,
        scored=scored,
        cold=cold,
    )
    return _with_threads(run, cores, steps, sampling)


def sample_documents(
    run: Run,
    sampling: SamplingSettings,
    *,
    wanted: int = 1,
    prefix: bytes = b"",
    constraint: Automaton | None = None,
    filters: Sequence[Filter] = (),
    tally: Tally | None = None,
    seed: int = 1,
    scored: bool = True,
    cores: int | None = None,
) -> Iterator[Document]:
    """Draw as many documents as are wanted, lines of a stream model, each with its end; those left out are replaced.

    sampling: its length is that of the longest document, after the prefix, 0 for no limit; longer ones are left out.
    prefix: what each begins with. constraint: what it may be written with, from its beginning on. tally: counts.
    Everything is read and checked before this returns; raises RunError, TextError and SettingsError, and RunError
    later, after the documents found, if there are not enough.
    """
    refuse_other_objective(run, "next")
    end, prefix_ids = known_end(run.vocab), _prefix_ids(run, prefix)
    steps = generate(
        _stepper(run, sampling, texts=wanted),
        run.vocab,
        SamplingParameters.from_settings(sampling),
        prompt=prefix_ids,
        length=sampling.length + 1 if sampling.length else None,  # the end symbol is one more
        seed=seed,
        samples=None,
        end_id=end,
        constraint=None if constraint is None else _after(constraint, prefix_ids, sampling.length),
        lanes=min(wanted, SAMPLED_LANES),
        scored=scored,
    )
    tally = Tally() if tally is None else tally
    documents = collect_documents(steps, prefix_ids, wanted=wanted, filters=filters, tally=tally)
    return _with_threads(run, cores, documents, sampling)


def likeliest_documents(
    run: Run,
    wanted: int,
    *,
    length: int | None = None,
    prefix: bytes = b"",
    constraint: Automaton | None = None,
    filters: Sequence[Filter] = (),
    tally: Tally | None = None,
    cores: int | None = None,
) -> Iterator[Document]:
    """Find the likeliest documents, the likeliest first: exact, by the model's own probabilities given the prefix.

    length: characters after the prefix at most, None for any number. The rest is as in `sample_documents`.
    """
    refuse_other_objective(run, "next")
    end, prefix_ids = known_end(run.vocab), _prefix_ids(run, prefix)
    found = find_likeliest(
        _stepper(run),
        start=start_id(run.vocab),
        end=end,
        wanted=wanted,
        length=length,
        constraint=_after(constraint or compile_expression("(?s:.*)", run.vocab), prefix_ids, length or 0),
        prefix=prefix_ids,
        filters=filters,
        tally=Tally() if tally is None else tally,
    )
    return _with_threads(run, cores, found)


def fill(run: Run, text: bytes, *, mask: bytes = b"_", temperature: float = 0.0, seed: int = 1) -> bytes:
    """A text with every mask in it filled by a run trained for the cloze objective; the rest stays as it is.

    For a run of documents the text is one document, without the line end it may have after it; a file is one with it.
    temperature: 0 for the likeliest characters, else they are drawn, by the seed. Raises TextError for characters that
    the vocabulary refuses, SettingsError for an empty mask, RunError for a run of another objective.
    """
    refuse_other_objective(run, "cloze")
    if not mask:
        raise SettingsError("the mask is empty, but must be the text that stands for a gap")
    weights = read_checkpoint(run, "best", model_only=True).weights
    engines = build_directions(weights, run.settings.model)
    is_part = run.settings.data.documents in ("stream", "file")
    document = text if is_part else _LINE_END.sub(b"", text)
    filled = fill_text(engines, run.vocab, document, mask=mask, temperature=temperature, seed=seed)
    return filled + text[len(document) :]


def score(run: Run, lines: Sequence[str | bytes]) -> LineScores:
    """What each line, given without its line end, costs by a run's best checkpoint, in nats (`inference.scoring`).

    No line is refused. Raises RunError for a run of another objective or a damaged checkpoint.
    """
    encoded = [line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line for line in lines]
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
    encoded = encode_lines(vocab, text.removesuffix(b"\n").split(b"\n"))
    end = end_id(vocab)
    lines = np.split(encoded.ids, encoded.lengths.cumsum()[:-1])
    return np.concatenate([np.append(line, -1 if end is None else end) for line in lines])


def evaluate(run: Run, ids: "Ids", *, protocol: str | None = None) -> "Evaluation":
    """Measure a run's best checkpoint in float32 on ids, as `encode_text` and `read_split` give them.

    protocol: one of its objective's ("stream" or "windows" for next characters, "cloze" for gaps), None for the first.
    "documents" is the only one of a model of documents; a model of next characters in a stream reads lines so.
    Raises SettingsError for any other, RunError for a damaged checkpoint, TextError for a text too short.
    """
    from charlstm import evaluation
    from charlstm.networks import OBJECTIVES

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
    fraction that is done. Raises RunError for a run of another objective or a damaged checkpoint, TextError for an
    empty text.
    """
    refuse_other_objective(run, "next")
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


def _stepper(run: Run, sampling: SamplingSettings = FLOAT32, *, texts: int = 1) -> Stepper:
    """The stepper of a run's best checkpoint, for so many texts. Raises SettingsError for int8 where that cannot be."""
    int8 = sampling.weights == "int8"
    if int8 and texts > 1:
        raise SettingsError(
            f"sampling.weights is int8, which draws one text at a time, but {texts:,} are asked for: set it to float32"
        )
    return build_stepper(read_checkpoint(run, "best", model_only=True).weights, run.settings.model, int8=int8)


def _with_threads(run: Run, cores: int | None, made: Iterator[T], sampling: SamplingSettings = FLOAT32) -> Iterator[T]:
    """What is made by a run's model, with as many threads as that gains from; int8 products have one of their own."""
    threads = 1
    if sampling.weights == "float32":
        threads = sampling_threads(run.settings.model, cores=cores or available_cores(), load=load_average())
    with numpy_threads(threads):
        yield from made


def _prefix_ids(run: Run, prefix: bytes) -> list[int]:
    found = encode_known(run.vocab, prefix, option="--prefix")
    if known_end(run.vocab) in found:
        raise SettingsError(
            "--prefix holds a line end, with which a line of this model ends: give the beginning of one line"
        )
    return found


def _after(constraint: Automaton, prefix: Sequence[int], length: int) -> Automaton:
    """What may follow the prefix, in so many characters or, for 0, any number."""
    rest = constraint.after(prefix)
    if rest is None:
        raise SettingsError("nothing that begins with --prefix matches the expression")
    if length and rest.shortest > length:
        raise SettingsError(
            f"what matches has at least {rest.shortest:,} characters, but --length is {length:,}: give a larger one"
        )
    return rest


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
