"""Trained models without torch: one step at a time, sampling and filling gaps."""

from charlstm.inference.engine import Engine, build_directions
from charlstm.inference.fast_lstm import build_stepper
from charlstm.inference.filling import fill_gaps, fill_text
from charlstm.inference.guess_rank import GuessRanks
from charlstm.inference.sampling import (
    EVERY,
    Sample,
    SamplingParameters,
    encode_stop,
    generate,
    log_probs,
    take_text,
)
from charlstm.inference.scoring import LineScorer, LineScores, decode_line, encode_lines
from charlstm.inference.threads import numpy_threads, sampling_threads
