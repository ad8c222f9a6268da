"""Sources of text, its vocabulary, its ids on disk, and batches of them."""

from charlstm.text.batches import Batch, Batches, Lanes, Parts
from charlstm.text.corpus import (
    Corpus,
    EncodedText,
    Splits,
    encode_source,
    open_corpus,
    prepare_corpus,
    read_corpus,
    split_ids,
)
from charlstm.text.sources import STDIN, absolute_sources
from charlstm.text.vocabulary import Ids, Vocab, name_characters, shared_ids
