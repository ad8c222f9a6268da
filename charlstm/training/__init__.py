"""The training run: a session that assembles, saves and resumes it, its trainer, its schedule and its limits."""

from charlstm.training.session import (
    Began,
    Ended,
    Fact,
    Sampled,
    Session,
    Stepped,
    Validating,
    Warned,
    build_trainer,
    resume_session,
    start_session,
)
from charlstm.training.trainer import StepFacts, Trainer
