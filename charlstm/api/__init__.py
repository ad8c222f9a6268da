"""What a run can do, as functions: the commands call these, and so can a notebook or a benchmark."""

from charlstm.api.generating import fill, likeliest_documents, sample, sample_documents, sample_stepwise
from charlstm.api.measuring import evaluate, evaluate_dynamic, find_novelty, open_scorer, score
