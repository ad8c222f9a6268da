"""What an expression costs: symbols per second of 64 documents with `--match`, beside the same model without.

python benchmarks/match_speed.py
"""

import string
from argparse import ArgumentParser
from functools import partial
from time import perf_counter

from charlstm.environment import limit_numpy_threads

limit_numpy_threads()
import numpy as np  # noqa: E402 - after the number of its threads is set

from charlstm.inference import Automaton, SamplingParameters, build_stepper, compile_expression, generate  # noqa: E402
from charlstm.settings import ModelSettings  # noqa: E402
from charlstm.text import Vocab  # noqa: E402
from charlstm.weights import weight_shapes  # noqa: E402

SYMBOLS, ROUNDS = 50_000, 5
EXPRESSIONS = {
    "anything": "(?s:.*)",
    "dates": r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",
    "rows": r"[^,]{1,20}(,[^,]{1,20}){3}",
    "names": r"[A-Z][a-z]{1,30}( [A-Z][a-z]{1,30})*",
}


def main() -> None:
    ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    vocab = Vocab("char", "keep", "error", False, tuple(sorted(string.printable[:95])), has_boundary=True)
    parameters = SamplingParameters(temperature=0.8, top_k=10)
    for hidden_size in (128, 256):
        settings = ModelSettings(hidden_size=hidden_size)
        rng = np.random.default_rng(0)
        shapes = weight_shapes(settings, vocab.size).items()
        stepper = build_stepper(
            {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes}, settings
        )
        make = partial(generate, stepper, vocab, parameters, prompt=[], length=51, seed=1, samples=None, scored=False)

        def rate(constraint: Automaton | None) -> float:
            began, made = perf_counter(), 0
            for live in make(constraint=constraint):  # noqa: B023 - called in this turn of the loop
                made += len(live)
                if made > SYMBOLS:
                    break
            return made / (perf_counter() - began)

        sides = {"free": None} | {name: compile_expression(one, vocab) for name, one in EXPRESSIONS.items()}
        best = dict.fromkeys(sides, 0.0)
        for _ in range(ROUNDS):
            best = {name: max(best[name], rate(one)) for name, one in sides.items()}
        for name in EXPRESSIONS:
            share = best[name] / best["free"]
            print(f"2×{hidden_size}  {name:9} {best[name]:9,.0f} symbols/s, {share:.2f} of {best['free']:,.0f} without")


if __name__ == "__main__":
    main()
