"""What a run can do, as functions: the commands call these, and so can a notebook or a benchmark.

`evaluate` loads torch when it is called; nothing else here does.
"""

from typing import TYPE_CHECKING

from charlstm.errors import SettingsError
from charlstm.runs import Run, read_checkpoint

if TYPE_CHECKING:
    from charlstm.evaluation import Evaluation
    from charlstm.text import Ids


def evaluate(run: Run, ids: "Ids", *, protocol: str | None = None) -> "Evaluation":
    """Measure a run's best checkpoint in float32 on ids, as `encode_text` and `read_split` give them.

    protocol: one of its objective's ("stream" or "windows" for next characters, "cloze" for gaps), None for the first.
    Raises SettingsError for any other, RunError for a damaged checkpoint, TextError for fewer than 2 characters.
    """
    import torch

    from charlstm.evaluation import EVALUATED_LANES
    from charlstm.evaluation import evaluate as evaluate_model
    from charlstm.machine import prepare_evaluation
    from charlstm.networks import OBJECTIVES

    objective = OBJECTIVES[run.settings.model.objective]
    if protocol not in (None, *objective.protocols):
        known = " and ".join(objective.protocols)
        raise SettingsError(f"{run.folder} is evaluated by the protocol {known}, not {protocol}: leave --protocol out")
    checkpoint = read_checkpoint(run, "best", model_only=True)
    machine = prepare_evaluation(EVALUATED_LANES)
    model = objective.build_model(run.vocab.size, run.settings.model)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    return evaluate_model(model.to(machine.device), objective, ids, protocol=protocol, machine=machine)
