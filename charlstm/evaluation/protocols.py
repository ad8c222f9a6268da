"""How well a model predicts a text, by a named protocol: which characters are read before each one that is predicted.

    stream    the whole text once, as texts begin in training: from the zero state and the start symbol
    windows   windows of 256 predictions cut end to end, each from the zero state
    cloze     every character from the 128 or more on either side of it, as far as the text reaches
    documents each document from its beginning, to its end, which is predicted too (`documents.py`)
    dynamic   the stream, by a model that learns from each segment of it once it has been predicted (`dynamic.py`)

Letters: `T` steps, `B` lanes, `N` characters of the text.

A text of N characters gives N predictions of a gap, and of a next character N by `stream`, whose first has the start
symbol before it, but N − 1 by `windows`, as it is defined elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from charlstm.errors import TextError
from charlstm.evaluation.documents import tally_documents
from charlstm.evaluation.dynamic import DynamicRule
from charlstm.evaluation.reader import Reader
from charlstm.evaluation.stream import tally_stream
from charlstm.evaluation.tally import Tally
from charlstm.machine import Machine, Shards
from charlstm.networks import Model, Objective
from charlstm.settings import PLAIN, Naming
from charlstm.text import Ids, Parts

DOCUMENTS = "documents"  # the protocol of texts that are many, whatever the objective
WINDOW_CHARS = 256  # of the protocol "windows"; nanoGPT's character model sees as many
EVALUATED_LANES = 64  # read side by side


@dataclass(frozen=True)
class Evaluation:
    """What was measured by a protocol, and how the text was read for it."""

    tally: Tally
    protocol: str
    lanes: int  # read side by side
    reread_chars: int = 0  # because a lane had not begun with the state that the one before it ended in
    naming: Naming = PLAIN
    rule: DynamicRule | None = None  # by which the model learned, of "dynamic"

    @property
    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        return self.tally.figures(self.naming)


def evaluate(
    model: Model,
    objective: Objective,
    ids: Ids,
    *,
    start_id: int,
    end_id: int | None = None,
    protocol: str | None = None,
    machine: Machine | None = None,
    shards: Shards | None = None,
    lanes: int = EVALUATED_LANES,
    sequence_length: int = 128,
) -> Evaluation:
    """Tally a model over a whole text, every character once.

    ids: (N,), perhaps memory-mapped. start_id: of the symbol that is read before a text (`text.start_id`).
    end_id: of the symbol that ends each document, for the protocol "documents".
    protocol: that or one of the objective's, None for its first.
    machine: where and in which precision; None for one core, float32. shards: the machine's, if they are there already.
    lanes, sequence_length: how the work is batched; the result is that of one stream as far as `stream` can tell.
    Raises TextError for an empty text, and by `windows` for one of a single character.
    """
    protocol = protocol or objective.protocols[0]
    assert protocol in (*objective.protocols, DOCUMENTS)
    if len(ids) < (needed := 2 if protocol == "windows" else 1):
        raise TextError(f"a text to evaluate by {protocol} needs {needed} or more characters, this one has {len(ids)}")
    machine = machine or Machine(torch.device("cpu"), "fp32", shards=1, threads=1)
    shards = shards or machine.make_shards()
    if protocol == DOCUMENTS:
        length = sequence_length if objective.carries_state else 2 * WINDOW_CHARS
        reader = Reader(model, objective, machine.dtype, shards, length, end_id)
        return Evaluation(tally_documents(reader, ids, lanes, start_id=start_id), protocol, lanes)
    if protocol == "stream":
        reader = Reader(model, objective, machine.dtype, shards, sequence_length)
        stream = tally_stream(reader, ids, lanes, start_id=start_id)
        return Evaluation(stream.tally, protocol, stream.lanes, stream.reread_chars)
    batches = list(CUTS[protocol](ids, lanes))
    reader = Reader(model, objective, machine.dtype, shards, batches[0].length)
    tally = sum((reader.read(parts)[0].total() for parts in batches), Tally())
    return Evaluation(tally, protocol, len(batches[0].first))


def _windows(ids: Ids, lanes: int) -> Iterator[Parts]:
    """Windows of 256 predictions cut end to end."""
    starts = np.arange(0, len(ids) - 1, WINDOW_CHARS)
    for first in np.split(starts, range(lanes, len(starts), lanes)):
        until = (first + WINDOW_CHARS).clip(max=len(ids) - 1)
        yield Parts(ids, first, WINDOW_CHARS, counted=(first, until), fresh=True)


def _surroundings(ids: Ids, lanes: int) -> Iterator[Parts]:
    """Overlapping windows of 512 characters, the 256 in the middle of each to be predicted."""
    length = min(len(ids), 2 * WINDOW_CHARS)
    starts = np.arange(0, len(ids), WINDOW_CHARS)
    for since in np.split(starts, range(lanes, len(starts), lanes)):
        first = (since - WINDOW_CHARS // 2).clip(0, len(ids) - length)
        yield Parts(ids, first, length, counted=(since, since + WINDOW_CHARS), fresh=True)


CUTS: Mapping[str, Callable[[Ids, int], Iterator[Parts]]] = {"windows": _windows, "cloze": _surroundings}
