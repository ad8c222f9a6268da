"""Trained models without torch: one step at a time, sampling, whole documents, the likeliest ones, filling gaps."""

from charlstm.inference.automaton import Automaton, compile_expression, known_end
from charlstm.inference.documents import Document, Filter, Tally, collect_documents, in_order, repeated
from charlstm.inference.engine import Engine, Stepper, build_directions
from charlstm.inference.fast_lstm import build_stepper
from charlstm.inference.filling import fill_gaps, fill_text
from charlstm.inference.guess_rank import GuessRanks
from charlstm.inference.likeliest import find_likeliest
from charlstm.inference.sampling import (
    EVERY,
    SAMPLED_LANES,
    Sample,
    SamplingParameters,
    encode_known,
    generate,
    log_probs,
    take_text,
)
from charlstm.inference.scoring import LineScorer, LineScores, decode_line, encode_lines
from charlstm.inference.threads import numpy_threads, sampling_threads
