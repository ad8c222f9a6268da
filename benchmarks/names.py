"""Names from a probabilistic automaton: a list to train on, and the exact probability of each name and of its end.

python benchmarks/names.py [COUNT] [SEED] > names.txt      # different names, a line each, in random order

A name has one to four syllables, each an onset and a vowel, and perhaps a coda. Emissions are single characters, so
that what is known after a prefix is a distribution over states (the forward algorithm, Rabiner 1989).
"""

import argparse
import math
import random

END = ""
ONSETS = {onset: 0.88**rank for rank, onset in enumerate("kmjasldrtbencgzhyf")}
VOWELS = ("a", "e", "i", "o", "ia", "ee")
CODAS = {END: 3, "n": 1, "l": 1, "r": 1, "s": 1, "h": 1}
LAST = (0.1, 0.5 / 0.9, 0.3 / 0.4, 1.0)  # that a syllable is the last, if it is reached
State = tuple[int, str]  # the syllable, and what of it was emitted last
Arcs = list[tuple[float, str, State]]  # probability, character (END for none, which ends the name), next state
START: State = (0, "vowel")


def arcs(state: State) -> Arcs:
    """What may follow a state."""
    syllable, emitted = state
    if emitted == "onset":
        part = 1 / len(VOWELS)
        return [(part, vowel[0], (syllable, vowel[1:] or "vowel")) for vowel in VOWELS]
    if emitted == "vowel":
        last = LAST[syllable - 1] if syllable else 0.0
        codas = [(last * part / sum(CODAS.values()), coda, (syllable, "coda")) for coda, part in CODAS.items()]
        more = (1 - last) / sum(ONSETS.values())
        onsets = [(more * part, onset, (syllable + 1, "onset")) for onset, part in ONSETS.items()]
        return codas * (syllable > 0) + onsets * (more > 0)
    return [(1.0, END, state)] if emitted == "coda" else [(1.0, emitted, (syllable, "vowel"))]


def draw_name(rng: random.Random) -> str:
    """One name."""
    name, state = "", START
    while True:
        options = arcs(state)
        ((_, character, state),) = rng.choices(options, [part for part, _, _ in options])
        if character == END:
            return name
        name += character


def draw_names(count: int, seed: int) -> list[str]:
    """So many different names, in the order in which they were drawn first."""
    rng, names = random.Random(seed), dict[str, None]()
    while len(names) < count:
        names[draw_name(rng)] = None
    return list(names)


def end_probabilities(name: str) -> tuple[float, list[float]]:
    """The natural logarithm of a name's probability, and the probability of the end after 0, 1, … characters of it."""
    states, total, ends = {START: 1.0}, 0.0, []
    for character in [*name, END]:
        after: dict[State, float] = {}
        end = 0.0
        for state, mass in states.items():
            for part, emitted, target in arcs(state):
                if emitted == END:
                    end += mass * part
                if emitted == character:
                    after[target] = after.get(target, 0.0) + mass * part
        ends.append(end)
        likely = sum(after.values())
        total += math.log(likely)
        states = {state: mass / likely for state, mass in after.items()}
    return total, ends


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=32_000)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    args = parser.parse_args()
    print("\n".join(draw_names(args.count, args.seed)))


if __name__ == "__main__":
    main()
