"""The run folder: settings, vocabulary, metrics and checkpoints on disk."""

from charlstm.runs.calibration import Calibration, read_calibration, save_calibration
from charlstm.runs.checkpoints import (
    Checkpoint,
    point_best,
    read_checkpoint,
    read_newest_undamaged,
    save_checkpoint,
)
from charlstm.runs.finding import find_run, mark_newest, newest_folder, open_run, refuse_other_objective
from charlstm.runs.folder import Run, TextIdentity, create_run, refuse_taken
from charlstm.runs.listing import RunSummary, list_runs
from charlstm.runs.metrics import MetricsRow, append_metrics, cut_metrics, read_bits_name, read_metrics
from charlstm.runs.progress import MOST_STEPS, Pace, Plan, Progress
from charlstm.runs.texts import encode_text, known_documents, own_corpus, read_lines, read_split
from charlstm.runs.writing import discard_run, is_begun, only_writer, refuse_replaced, rewrite_settings
