"""How well `charlstm score` finds odd lines in logs, beside a 5-gram model with Kneser-Ney smoothing and xz.

python benchmarks/anomalies.py [--quick] [--json FILE]        needs nltk (`pip install -e ".[verify]"`)

Of each of five formats 3,000 lines to train on, 2,000 usual lines to tell from 400 odd ones of four kinds. The 5-gram
model is nltk's KneserNeyInterpolated, by character, with the end of the line; xz's figure is by how many bytes a line
makes 40 KB of the training lines longer when they are compressed together.
"""

import functools
import lzma
import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
from log_lines import FORMATS, KINDS, odd_line, usual_line
from measure import CHARLSTM

TRAINED, USUAL, ODD = 3_000, 2_000, 400
STEPS = 600
ALARMS = 0.001  # false ones, of the usual lines
Scores = list[float]


def charlstm_scores(
    folder: Path, form: str, training: Sequence[str], tested: Sequence[str], steps: int
) -> dict[str, Scores]:
    """A model of one layer of 128 units."""
    text = folder / f"{form}.log"
    text.write_text("".join(f"{line}\n" for line in training))
    sizes = ["model.num_layers=1", "model.hidden_size=128", f"training.max_steps={steps}"]
    sets = [option for size in sizes for option in ("--set", size)]
    subprocess.run([*CHARLSTM, "train", str(text), "--run", str(folder / form), *sets], check=True, capture_output=True)
    found = {}
    for name, how in {"charlstm": "none", "charlstm, per character": "char"}.items():
        command = [*CHARLSTM, "score", "--run", str(folder / form), "--normalize", how]
        done = subprocess.run(command, input="\n".join(tested), text=True, capture_output=True, check=True)
        found[name] = [float(line.partition("\t")[0]) for line in done.stdout.splitlines()]
    return found


def ngram_scores(training: Sequence[str], tested: Sequence[str]) -> Scores:
    """A character 5-gram model with interpolated Kneser-Ney smoothing."""
    from nltk.lm import KneserNeyInterpolated
    from nltk.lm.preprocessing import padded_everygram_pipeline

    order = 5
    grams, vocab = padded_everygram_pipeline(order, [list(line) for line in training])
    model = KneserNeyInterpolated(order)
    model.fit(grams, vocab)
    for name in ("alpha_gamma", "unigram_score"):  # each is asked for again and again
        setattr(model.estimator, name, functools.cache(getattr(model.estimator, name)))
    log_score = functools.cache(model.logscore)
    found = []
    for line in tested:
        symbols = ["<s>"] * (order - 1) + list(line) + ["</s>"]
        found.append(
            -sum(
                max(log_score(symbols[at], tuple(symbols[at - order + 1 : at])), -40.0)
                for at in range(order - 1, len(symbols))
            )
        )
    return found


def xz_scores(training: Sequence[str], tested: Sequence[str]) -> Scores:
    """By how many bytes each line makes the compressed training lines longer."""
    head = "\n".join(training).encode()[-40_000:]
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6}]
    base = len(lzma.compress(head, lzma.FORMAT_RAW, filters=filters))
    return [
        float(len(lzma.compress(head + b"\n" + line.encode(), lzma.FORMAT_RAW, filters=filters)) - base)
        for line in tested
    ]


def figures(usual: Scores, odd: Scores) -> tuple[float, float]:
    """The area under the curve, and the share of odd lines found at the rate of false alarms."""
    import numpy as np

    both = np.concatenate([usual, odd])
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]  # the mean rank of those that are equal
    area = (ranks[len(usual) :].sum() - len(odd) * (len(odd) + 1) / 2) / (len(usual) * len(odd))
    threshold = np.sort(usual)[-1 - int(ALARMS * len(usual))]
    return float(area), float((np.array(odd) > threshold).mean())


def main() -> None:
    args = measure.options(__doc__)
    measure.begin("Anomalies")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMATS:
            rng = random.Random(f"{form} lines")
            training = [usual_line(form, rng) for _ in range(TRAINED)]
            usual = [usual_line(form, rng) for _ in range(USUAL // (5 if args.quick else 1))]
            odd = {kind: [odd_line(form, kind, rng) for _ in range(ODD // len(KINDS))] for kind in KINDS}
            tested = [*usual, *(line for kind in KINDS for line in odd[kind])]
            sides = charlstm_scores(Path(folder), form, training, tested, 60 if args.quick else STEPS)
            sides["5-gram, Kneser-Ney"] = ngram_scores(training, tested)
            sides["5-gram, per character"] = [
                nats / (len(line) + 1) for nats, line in zip(sides["5-gram, Kneser-Ney"], tested, strict=True)
            ]
            sides["xz"] = xz_scores(training, tested)
            found[form] = {}
            for side, scores in sides.items():
                of_usual, of_odd = scores[: len(usual)], scores[len(usual) :]
                parts = {kind: of_odd[at * ODD // 4 : (at + 1) * ODD // 4] for at, kind in enumerate(KINDS)}
                found[form][side] = {kind: figures(of_usual, part) for kind, part in {**parts, "all": of_odd}.items()}
            rows = [
                [side, *(f"{area:.4f} / {recall:.0%}" for area, recall in by_kind.values())]
                for side, by_kind in found[form].items()
            ]
            measure.table([f"{form}: area / recall at 0.1 %", *KINDS, "all"], rows)
    measure.finish(args, found)


if __name__ == "__main__":
    main()
