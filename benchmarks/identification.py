"""How well `charlstm classify` tells five languages apart, by the length of the line.

python benchmarks/identification.py [--quick] [--json FILE] [CATALOGUE_ROOT]

The lines are translated messages of the message catalogues (.mo) that are installed under CATALOGUE_ROOT (default
/usr/share): of each language those with most messages; nine tenths to train on, one tenth to tell apart.
"""

import gettext
import subprocess
import tempfile
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import measure
from measure import CHARLSTM

LANGUAGES = ("de", "es", "fi", "it", "pl")
LENGTHS = (1, 10, 20, 40, 80, 10_000)  # bounds of the classes of length, in characters
STEPS, MOST_LINES = 400, 3000


def messages(root: Path, language: str) -> list[str]:
    """The distinct lines of a language's translated messages, in the order of their hashes."""
    found: set[str] = set()
    for path in sorted(root.glob(f"**/{language}/LC_MESSAGES/*.mo")):
        try:
            with path.open("rb") as file:
                catalogue = gettext.GNUTranslations(file)
        except (UnicodeDecodeError, LookupError):  # another encoding than the catalogue says
            continue
        for original, text in catalogue._catalog.items():  # type: ignore[attr-defined]
            if original and text != original:
                found.update(line.strip() for line in text.splitlines() if line.strip())
    return sorted(found, key=lambda line: sha256(line.encode()).digest())[:MOST_LINES]


def main() -> None:
    parser = measure.option_parser(__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("/usr/share"), metavar="CATALOGUE_ROOT")
    args = parser.parse_args()
    measure.begin("Identification")
    right: dict[int, list[bool]] = {bound: [] for bound in LENGTHS[1:]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tested: list[tuple[str, str]] = []
        for language in LANGUAGES:
            lines = messages(args.root, language)
            cut = len(lines) * 9 // 10
            (folder / f"{language}.txt").write_text("".join(f"{line}\n" for line in lines[:cut]))
            tested += [(language, line) for line in lines[cut:]]
            steps = 60 if args.quick else STEPS
            sets = [
                f"training.max_steps={steps}",
                "model.num_layers=1",
                "model.hidden_size=128",
                "data.unknown=replace",
            ]
            options = [option for one in sets for option in ("--set", one)]
            train = [*CHARLSTM, "train", str(folder / f"{language}.txt"), "--run", str(folder / language), *options]
            subprocess.run(train, check=True, capture_output=True)
            print(f"{language}: {cut:,} lines, {sum(map(len, lines[:cut])):,} characters to train on", flush=True)
        runs = [option for language in LANGUAGES for option in ("--run", str(folder / language))]
        command = [*CHARLSTM, "classify", *runs]
        text = "".join(f"{line}\n" for _, line in tested)
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=True)
        for (language, line), row in zip(tested, done.stdout.splitlines(), strict=True):
            bound = next(bound for bound in LENGTHS[1:] if len(line) < bound)
            right[bound].append(row.startswith(f"{language}\t"))
    figures: dict[str, Any] = {}
    rows = []
    for (least, bound), found in zip(pairwise(LENGTHS), right.values(), strict=True):
        if found:
            figures[f"{least}-{bound - 1}"] = sum(found) / len(found)
            lengths = f"{least} to {bound - 1}" if bound < LENGTHS[-1] else f"{least} or more"
            rows.append([lengths, len(found), f"{sum(found) / len(found):.1%}"])
    every = [one for found in right.values() for one in found]
    rows.append(["all", len(every), f"{sum(every) / len(every):.1%}"])
    measure.table(["characters of the line", "lines", "right"], rows)
    measure.finish(args, {**figures, "all": sum(every) / len(every)})


if __name__ == "__main__":
    main()
