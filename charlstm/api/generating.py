"""Texts from a run: streams, whole documents, the likeliest ones, and gaps filled."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from charlstm.environment import available_cores, load_average
from charlstm.errors import SettingsError
from charlstm.inference import (
    EVERY,
    SAMPLED_LANES,
    Automaton,
    Document,
    Filter,
    Sample,
    SamplingParameters,
    Stepper,
    Tally,
    build_directions,
    build_stepper,
    collect_documents,
    compile_expression,
    encode_known,
    fill_text,
    find_likeliest,
    generate,
    known_end,
    numpy_threads,
    sampling_threads,
    take_text,
)
from charlstm.runs import Run, read_checkpoint, refuse_other_objective
from charlstm.settings import SamplingSettings
from charlstm.text import start_id

_LINE_END = re.compile(rb"\r?\n\Z")
FLOAT32 = SamplingSettings(weights="float32")

T = TypeVar("T")


def sample(run: Run, *, prompt: str = "", length: int | None = None, seed: int = 1) -> str:
    """A text that goes on from the prompt, which it does not repeat.

    length: characters, None for that of the run's sampling settings, which also say how each is chosen. The same seed
    gives the same text. Raises TextError for a prompt that the vocabulary refuses, SettingsError for a length of 0,
    which is without end, or a negative seed, and RunError for a run of another objective.
    """
    sampling = run.settings.sampling if length is None else replace(run.settings.sampling, length=length)
    _refuse_below(1, length=sampling.length)
    steps = sample_stepwise(run, sampling, prompt=prompt.encode("utf-8", "surrogatepass"), seed=seed)
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
    Everything is read and checked before this returns; raises RunError, TextError and SettingsError.
    """
    _refuse_below(1, samples=samples)
    _refuse_below(0, seed=seed)
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
    _refuse_below(1, wanted=wanted)
    _refuse_below(0, seed=seed)
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
    _refuse_below(1, wanted=wanted)
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
    the vocabulary refuses, SettingsError for an empty mask or a temperature that is negative or no number, RunError for
    a run of another objective.
    """
    refuse_other_objective(run, "cloze")
    _refuse_below(0, seed=seed)
    if not 0 <= temperature < math.inf:
        raise SettingsError(f"the temperature is {temperature}, but must be a finite number of at least 0")
    if not mask:
        raise SettingsError("the mask is empty, but must be the text that stands for a gap")
    weights = read_checkpoint(run, "best", model_only=True).weights
    engines = build_directions(weights, run.settings.model)
    is_part = run.settings.data.documents in ("stream", "file")
    document = text if is_part else _LINE_END.sub(b"", text)
    filled = fill_text(engines, run.vocab, document, mask=mask, temperature=temperature, seed=seed)
    return filled + text[len(document) :]


def _refuse_below(least: int, **numbers: int) -> None:
    """Raise SettingsError for what is no integer, or a lower one. numbers: by the names of the arguments."""
    for name, number in numbers.items():
        if not isinstance(number, int) or number < least:
            raise SettingsError(f"{name} is {number}, but must be an integer of at least {least}")


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
    found = encode_known(run.vocab, prefix, option="--prefix (or --given)")
    if known_end(run.vocab) in found:
        raise SettingsError(
            "--prefix (or --given) holds a line end, which ends a line of this model: give the beginning of one line"
        )
    return found


def _after(constraint: Automaton, prefix: Sequence[int], length: int) -> Automaton:
    """What may follow the prefix, in so many characters or, for 0, any number."""
    rest = constraint.after(prefix)
    if rest is None:
        raise SettingsError("nothing that begins with --prefix (or --given) matches the expression")
    if length and rest.shortest > length:
        raise SettingsError(
            f"what matches has at least {rest.shortest:,} characters, but --length is {length:,}: give a larger one"
        )
    return rest
