"""What a text should begin with: lanes of beginnings beside what else could be done, on prose, names and a log.

python benchmarks/beginnings.py [--texts NAME …] [--designs NAME …] [--seeds N …] [--rows FILE]

Every model takes the same number of steps. The designs: `stream` trains on lanes of one stream alone; `warm` is that
model after the last 512 characters of its training text up to a paragraph's or line's end; `resets` sets each lane's
state to zero at an eighth of its steps; `lanes` has an eighth of its lanes read beginnings; `learned` has these
begin from a state that is learned. Rows are written as they come and are not measured again.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import measure
import numpy as np
import torch
from msgspec.structs import replace

from charlstm import environment
from charlstm.inference import SamplingParameters, build_stepper, generate, numpy_threads, take_text
from charlstm.machine import prepare_training
from charlstm.networks import OBJECTIVES, CharLM
from charlstm.settings import DataSettings, ModelSettings, TrainingSettings
from charlstm.text import Batch, Batches, Beginnings, Lanes, Vocab, WithBeginnings, split_ids, start_id
from charlstm.text.characters import code_points
from charlstm.text.vocabulary import build_vocab
from charlstm.training import Trainer
from charlstm.training.assembly import work_of

DESIGNS = ("stream", "warm", "resets", "lanes", "learned")
SHARE = 8  # one lane in so many begins, or one step in so many is a reset
OPENING_CHARS, UNRELATED_CHARS, WARM_CHARS = 30, 20, 512
TEXTS = ("tinyshakespeare", "names", "log")
MODEL = ModelSettings(embedding_size=64, hidden_size=128, skip_connections=False, dropout=0.0)
TRAINING = TrainingSettings(
    batch_size=32,
    sequence_length=64,
    optimizer="adamw",
    learning_rate=0.008,
    warmup_steps=50,
    max_steps=1200,
    validate_every_steps=10**9,
    shards=2,
)
ROW = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO |WARN |ERROR) \[worker-\d\] (GET|PUT|POST) "
ROW += r"/api/(items|users|orders)/\d{1,5} (200|201|304|404|500) \d{1,4} ms"


# the texts


def make_names(count: int = 32_000) -> str:
    """Names of one to four syllables, a line each: a first letter of known probability, then more syllables."""
    rng = np.random.default_rng(1)
    onsets = np.array(["k", "m", "j", "a", "s", "l", "d", "r", "t", "b", "e", "n", "c", "g", "z", "h", "y", "f"])
    likely = 0.88 ** np.arange(len(onsets))
    vowels, codas = np.array(["a", "e", "i", "o", "ia", "ee"]), np.array(["", "", "", "n", "l", "r", "s", "h"])
    names = []
    for _ in range(count):
        syllables = rng.choice([1, 2, 3, 4], p=[0.1, 0.5, 0.3, 0.1])
        chosen = zip(rng.choice(onsets, syllables, p=likely / likely.sum()), rng.choice(vowels, syllables), strict=True)
        names.append("".join(onset + vowel for onset, vowel in chosen) + rng.choice(codas))
    return "".join(f"{name}\n" for name in names)


def make_log(count: int = 12_000) -> str:
    """Rows of one fixed format, in the order of time."""
    rng, seconds, rows = np.random.default_rng(1), 0, []
    for _ in range(count):
        seconds += int(rng.integers(1, 90))
        day, rest = divmod(seconds, 86_400)
        clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
        status = rng.choice(["200", "201", "304", "404", "500"], p=[0.6, 0.1, 0.1, 0.1, 0.1])
        level = {"404": "WARN ", "500": "ERROR"}.get(status, "INFO ")
        place = f"/api/{rng.choice(['items', 'users', 'orders'])}/{rng.integers(1, 20_000)}"
        request = f"[worker-{rng.integers(8)}] {rng.choice(['GET', 'PUT', 'POST'])} {place}"
        rows.append(f"2024-03-{day + 1:02} {clock} {level} {request} {status} {rng.integers(1, 2000)} ms\n")
    return "".join(rows)


def read_text(name: str) -> str:
    if name == "tinyshakespeare":
        folder = environment.data_folder()
        assert folder is not None, "CHARLSTM_DATA must name the folder with tinyshakespeare.txt"
        return (folder / "tinyshakespeare.txt").read_text()
    return make_names() if name == "names" else make_log()


# the designs


@dataclass(frozen=True)
class Resets(Lanes):
    """Lanes whose state is set to zero at random."""

    def batch(self, step: int) -> Batch:
        batch = super().batch(step)
        reset = np.random.default_rng((TRAINING.seed, step)).random(self.batch_size) < 1 / SHARE
        return batch._replace(fresh=batch.fresh | reset)


class LearnedStart(CharLM):
    """A model that learns the state which stands for the zero state."""

    def __init__(self, vocab_size: int, settings: ModelSettings, *, seed: int = 0) -> None:
        super().__init__(vocab_size, settings, seed=seed)
        shape = settings.num_layers, 1, settings.hidden_size
        self.initial = torch.nn.ParameterList(torch.zeros(shape) for _ in self.core.cell.state)

    def forward(self, ids: torch.Tensor, state: Any = None, **how: Any) -> Any:
        state = self.core.zero_state(ids.shape[1], like=self.output.weight) if state is None else state
        fresh = torch.stack([(part == 0).all(dim=2).all(dim=0) for part in state]).all(dim=0)[:, None]  # (B, 1)
        state = tuple(part + fresh * begin for part, begin in zip(state, self.initial, strict=True))
        return super().forward(ids, state, **how)


def train(design: str, ids: np.ndarray, vocab: Vocab, training: TrainingSettings) -> Any:
    """A trained model and its validation loss."""
    parts = split_ids(ids, (0.9, 0.1, 0.0))
    beginning = training.batch_size // SHARE if design in ("lanes", "learned") else 0
    lanes = Resets if design == "resets" else Lanes
    stream = lanes(parts.train, training.batch_size - beginning, training.sequence_length)
    batches: Batches = stream
    if beginning:
        batches = WithBeginnings(stream, Beginnings(vocab, beginning, training.seed))
    kind = LearnedStart if design == "learned" else CharLM
    machine = prepare_training(training, MODEL, work_of(MODEL, vocab.size))
    trainer = Trainer(
        kind(vocab.size, MODEL, seed=training.seed),
        OBJECTIVES["next"],
        training,
        batches=batches,
        validation_ids=parts.val,
        start_id=start_id(vocab),
        machine=machine,
    )
    *_, last = trainer.steps()
    assert last.validation is not None  # the last step always has one
    return trainer.model, last.validation.loss


# what is measured


def warm_text(ids: np.ndarray, vocab: Vocab) -> np.ndarray:
    """The end of a training text, up to the end of its last paragraph or line."""
    text = vocab.to_bytes(ids).decode()
    end = text.rfind("\n\n") + 2 if "\n\n" in text else text.rfind("\n") + 1
    return ids[max(0, end - WARM_CHARS) : end]


@torch.no_grad()
def opening_nats(model: CharLM, before: Sequence[np.ndarray], openings: Sequence[np.ndarray]) -> float:
    """The mean surprisal of openings, each after what is read before it; these are all of one length."""
    rows = np.stack([np.concatenate(pair) for pair in zip(before, openings, strict=True)])
    read = torch.from_numpy(rows.astype(np.int64).T)  # (T, B)
    logits, _ = model(read[:-1])
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), read[1:].flatten(), reduction="none")
    return float(nats.view(len(read) - 1, -1)[-len(openings[0]) :].mean())


def prose_figures(model: CharLM, ids: np.ndarray, vocab: Vocab, begin: np.ndarray) -> dict[str, float]:
    """Nats of the first characters of the speeches of the validation part: as texts begin, and after unrelated text."""
    text = vocab.to_bytes(split_ids(ids, (0.9, 0.1, 0.0)).val).decode()
    places = [found.end() for found in re.finditer("\n\n(?=[^\n])", text)]
    places = [place for place in places if UNRELATED_CHARS <= place < len(text) - OPENING_CHARS]
    encoded = vocab.encode_text(text, where="the text")
    openings = [encoded[place : place + OPENING_CHARS] for place in places]
    others = np.random.default_rng(1).permutation(places)
    unrelated = [encoded[place - UNRELATED_CHARS : place] for place in others]
    return {
        "begun": opening_nats(model, [begin] * len(openings), openings),
        "in stream": opening_nats(model, unrelated, openings),
    }


def sample_lines(model: CharLM, vocab: Vocab, begin: np.ndarray, count: int) -> list[str]:
    """The lines that samples begin with."""
    newline = vocab.encode_text("\n", where="a line").tolist()
    return _samples(model, vocab, begin, count, stop_ids=newline, length=200)


def stream_lines(model: CharLM, vocab: Vocab, begin: np.ndarray, length: int) -> list[str]:
    """Whole lines of 64 long samples, but for the first of each."""
    texts = _samples(model, vocab, begin, 64, length=length)
    return [line for text in texts for line in text.split("\n")[1:-1]]


def _samples(model: CharLM, vocab: Vocab, begin: np.ndarray, count: int, **how: Any) -> list[str]:
    weights = {name: part.detach().numpy() for name, part in model.named_parameters()}
    stepper = build_stepper(weights, MODEL)
    if isinstance(model, LearnedStart):
        initial = tuple(part.detach().numpy() for part in model.initial)
        stepper.zero_state = lambda lanes: tuple(part.repeat(lanes, axis=1) for part in initial)  # type: ignore
    steps = generate(
        stepper, vocab, SamplingParameters(), prompt=begin, seed=1, samples=count, scored=False, cold=True, **how
    )
    with numpy_threads(1):
        return [take_text(one, vocab).decode() for live in steps for one in live if one.finished]


def total_variation(one: Counter[Any], other: Counter[Any]) -> float:
    return sum(abs(one[key] / one.total() - other[key] / other.total()) for key in one.keys() | other.keys()) / 2


def name_figures(model: CharLM, ids: np.ndarray, vocab: Vocab, begin: Any) -> dict[str, float]:
    """How far sampled names are from those of the training text, alone and within long samples."""
    truth = vocab.to_bytes(split_ids(ids, (0.9, 0.1, 0.0)).train).decode().split("\n")[:-1]
    figures = {}
    alone = sample_lines(model, vocab, begin, 5000)
    for where, names in (("begun", alone), ("in stream", stream_lines(model, vocab, begin, 800)[:5000])):
        figures[f"first letters {where}"] = total_variation(
            Counter(name[:1] for name in names), Counter(name[0] for name in truth)
        )
        figures[f"lengths {where}"] = total_variation(Counter(map(len, names)), Counter(map(len, truth)))
        figures[f"empty {where}"] = names.count("")
    return figures


def log_figures(model: CharLM, vocab: Vocab, begin: np.ndarray) -> dict[str, float]:
    """How many of 500 rows have the format: alone, and within long samples."""
    alone = sample_lines(model, vocab, begin, 500)
    within = stream_lines(model, vocab, begin, 1200)
    return {
        "right begun": mean(bool(re.fullmatch(ROW, row)) for row in alone),
        "right in stream": mean(bool(re.fullmatch(ROW, row)) for row in within),
    }


def measure_design(text_name: str, designs: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each of the designs that share one trained model."""
    text = read_text(text_name)
    counts = np.bincount(code_points(text), minlength=256)
    vocab = build_vocab(counts, DataSettings())
    ids = vocab.encode_text(text, where=text_name)
    model, loss = train(designs[0], ids, vocab, replace(TRAINING, seed=seed))
    for design in designs:
        begin = np.array([start_id(vocab)])
        if design == "warm":
            begin = warm_text(split_ids(ids, (0.9, 0.1, 0.0)).train, vocab)
        if text_name == "tinyshakespeare":
            figures = prose_figures(model, ids, vocab, begin)
        elif text_name == "names":
            figures = name_figures(model, ids, vocab, begin)
        else:
            figures = log_figures(model, vocab, begin)
        key = {"text": text_name, "design": design, "seed": seed}
        yield {**key, "validation": loss, **figures}


def print_tables(rows: Sequence[dict[str, Any]]) -> None:
    """A table for each text: the mean over seeds."""
    for text_name in sorted({row["text"] for row in rows}):
        of_text = [row for row in rows if row["text"] == text_name]
        names = list(of_text[0])[3:]
        found = []
        for design in DESIGNS:
            same = [row for row in of_text if row["design"] == design]
            if same:
                found.append([design, len(same), *(f"{mean(row[name] for row in same):.4f}" for name in names)])
        measure.table([text_name, "seeds", *names], found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=list(DESIGNS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rows", type=Path, default=Path("beginnings.jsonl"), help="where rows are kept")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()] if args.rows.exists() else []
    measured = {(row["text"], row["design"], row["seed"]) for row in rows}
    measure.begin("Beginnings")
    trained = [["stream", "warm"], ["lanes"], ["resets"], ["learned"]]
    for seed in args.seeds:
        for text_name in args.texts:
            for group in trained:
                left = [d for d in group if d in args.designs and (text_name, d, seed) not in measured]
                for row in measure_design(text_name, left, seed) if left else ():
                    rows.append(row)
                    with args.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print_tables(rows)


if __name__ == "__main__":
    main()
