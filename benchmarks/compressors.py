"""What xz and bzip2 make of the validation text of a recipe, alone and after its training text.

python benchmarks/compressors.py [CONFIG …]

Nats per character: the bytes that a text adds to what was compressed before it. Without names: quickstart's text and
tinyshakespeare (CHARLSTM_DATA, or its download).
"""

import argparse
import bz2
import lzma
import math
from collections.abc import Callable
from pathlib import Path

import measure

CONFIGS = Path(__file__).parent.parent / "configs"
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]


def xz(data: bytes) -> int:
    return len(lzma.compress(data, lzma.FORMAT_RAW, filters=FILTERS))


def bzip2(data: bytes) -> int:
    return len(bz2.compress(data))


def row(config: Path) -> list[str]:
    """A text's figures."""
    from charlstm import load_settings
    from charlstm.text import read_corpus, split_corpus

    settings = load_settings(config, [])
    corpus = read_corpus(settings.data, stdin=None)
    parts, _ = split_corpus(corpus, settings.data, seed=settings.training.seed)
    train, val = (corpus.vocab.to_bytes(ids) for ids in (parts.train, parts.val))

    def nats(size: Callable[[bytes], int], before: bytes) -> str:
        added = size(before + val) - (size(before) if before else 0)
        return f"{added * 8 * math.log(2) / len(parts.val):.4f}"

    figures = (nats(size, before) for size in (xz, bzip2) for before in (b"", train))
    return [config.stem, f"{len(parts.val):,}", *figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path, metavar="CONFIG")
    configs = parser.parse_args().configs or [CONFIGS / f"{name}.yaml" for name in ("quickstart", "tinyshakespeare")]
    measure.begin("Compressors")
    head = ["nats per character", "characters", "xz", "after the training text", "bzip2", "after the training text"]
    measure.table(head, [row(config) for config in configs])


if __name__ == "__main__":
    main()
