"""The training run: a session that assembles, saves and resumes it, its trainer, its schedule and its limits."""

from charlstm.training.assembly import build_trainer
from charlstm.training.facts import Began, Ended, Fact, Sampled, Stepped, Validating, Warned
from charlstm.training.session import Session, resume_session, start_session
from charlstm.training.trainer import StepFacts, Trainer
