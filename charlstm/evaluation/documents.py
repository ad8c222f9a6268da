"""Many documents, each read from its beginning, with its end predicted as one more character.

A text of a model of one stream can be read so too, line by line.
"""

from charlstm.cells import State
from charlstm.evaluation.reader import Reader
from charlstm.evaluation.tally import Tally
from charlstm.networks import reset_lanes
from charlstm.text import DocumentBatches, Ids


def tally_documents(reader: Reader, ids: Ids, most_lanes: int, *, start_id: int) -> Tally:
    """Tally a model over documents, ids (N,), each character and each end once, as if they were read one by one.

    reader: with the id of the end symbol. A reader of both sides sees no further than its sequence_length at a time.
    Raises TextError if there are no documents.
    """
    assert reader.end_id is not None
    around = not reader.objective.carries_state
    batches = DocumentBatches(ids, start_id, reader.end_id, most_lanes, reader.sequence_length, None, around)
    total, state = Tally(), None
    for step in range(batches.steps_per_epoch):
        batch = batches.batch(step)
        before: State | None = reset_lanes(state, batch.fresh)
        tally, state = reader.read_batch(batch, before)
        total += tally.total()
    return total
