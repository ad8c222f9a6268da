"""The run folder: settings, vocabulary, metrics and checkpoints on disk."""

from charlstm.runs.calibration import Calibration, read_calibration, save_calibration
from charlstm.runs.checkpoints import (
    Checkpoint,
    point_best,
    read_checkpoint,
    read_newest_undamaged,
    save_checkpoint,
)
from charlstm.runs.folder import (
    Run,
    TextIdentity,
    create_run,
    discard_run,
    find_run,
    is_begun,
    mark_newest,
    newest_folder,
    only_writer,
    open_run,
    refuse_other_objective,
    refuse_replaced,
    refuse_taken,
    rewrite_settings,
)
from charlstm.runs.listing import RunSummary, list_runs
from charlstm.runs.metrics import MetricsRow, append_metrics, cut_metrics, read_bits_name, read_metrics
from charlstm.runs.progress import MOST_STEPS, Pace, Plan, Progress
from charlstm.runs.texts import encode_text, known_documents, own_corpus, read_lines, read_split
