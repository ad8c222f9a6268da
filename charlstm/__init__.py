"""charlstm: character-level LSTM language models, from the command line and from Python.

    settings = charlstm.load_settings(Path("config.yaml"), ["training.max_minutes=5"])
    with charlstm.start_session(settings, name="novel") as session:
        run = session.train().run
    print(charlstm.evaluate(run, charlstm.read_split(run, "val")).figures)
    print(charlstm.sample(run, prompt="The ", length=200, seed=1))

Each name is imported when it is first used, so that `import charlstm` costs nothing and only what trains or measures
loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlstm.api import evaluate, evaluate_dynamic, fill, find_novelty, sample, score
    from charlstm.runs import Run, encode_text, open_run, read_metrics, read_split
    from charlstm.settings import Settings, load_settings
    from charlstm.training import resume_session, start_session

__version__ = "0.1.0"
__all__ = [
    "Run",
    "Settings",
    "encode_text",
    "evaluate",
    "evaluate_dynamic",
    "fill",
    "find_novelty",
    "load_settings",
    "open_run",
    "read_metrics",
    "read_split",
    "resume_session",
    "sample",
    "score",
    "start_session",
]


def __getattr__(name: str) -> Any:
    for module in ("settings", "runs", "api", "training") if name in __all__ else ():  # torch comes last
        if hasattr(found := import_module(f"charlstm.{module}"), name):
            return getattr(found, name)
    raise AttributeError(f"module 'charlstm' has no attribute {name!r}")
