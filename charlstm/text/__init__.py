"""Sources of text, its vocabulary, its ids on disk, and batches of them."""

from charlstm.text.batches import Batch, Batches, Lanes, Parts, WithBeginnings
from charlstm.text.beginnings import Beginnings, end_id, start_id, with_last_end
from charlstm.text.characters import code_points, name_characters
from charlstm.text.copies import GRAMS, Copies, find_copies
from charlstm.text.corpus import (
    Corpus,
    EncodedText,
    encode_source,
    open_corpus,
    prepare_corpus,
    read_corpus,
)
from charlstm.text.cutting import Cut, cut_documents
from charlstm.text.documents import DocumentBatches, find_bounds
from charlstm.text.known_documents import KnownDocuments, open_known, write_known
from charlstm.text.line_input import Line, LineReader, LongLine, whole_line
from charlstm.text.named_corpora import NAMED_CORPORA
from charlstm.text.record_formats import BadRecordError, Record, RecordFormat, open_format
from charlstm.text.sources import STDIN, absolute_sources, is_stream
from charlstm.text.splits import DocumentCounts, Splits, cut_places, split_corpus, split_ids
from charlstm.text.stored_ids import permissions
from charlstm.text.text_files import COMPRESSED_ENDINGS, open_unpacked
from charlstm.text.vocabulary import Ids, Vocab, shared_ids
