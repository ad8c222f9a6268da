"""Session: from settings and text to a run on disk, told in facts; a resumed one ends with the same bits."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from charlstm.errors import DivergedError, InputOutputError, ProcessLostError, RunError, SettingsError
from charlstm.evaluation import Evaluation, Tally
from charlstm.runs import MetricsRow, append_metrics, open_run, read_checkpoint
from charlstm.settings import DataSettings, ModelSettings, Naming, Settings, TrainingSettings
from charlstm.training import (
    Began,
    Ended,
    Fact,
    Sampled,
    Stepped,
    Validating,
    Warned,
    recorder,
    resume_session,
    start_session,
    trainer,
)

from ..small_runs import ending

TEXT = "the cat sat on the mat; a dog ran to the log, and so on\n" * 20


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def settings(
    *, sources: tuple[str, ...] = ("text.txt",), model: dict[str, Any] | None = None, **training: Any
) -> Settings:
    defaults: dict[str, Any] = {"batch_size": 5, "sequence_length": 7, "max_steps": 8, "validate_every_steps": 3}
    defaults |= {"beginning_lanes": 2, "log_every_steps": 1, "shards": 2, "precision": "fp32", "device": "cpu"}
    return Settings(
        data=DataSettings(sources=sources),
        model=ModelSettings(embedding_size=4, hidden_size=6, **(model or {})),
        training=TrainingSettings(**{**defaults, **training}),
    )


def train(folder: str, *, stop_after: int | None = None, **changes: Any) -> list[Fact]:
    facts: list[Fact] = []

    def stop() -> bool:
        return stop_after is not None and sum(isinstance(fact, Stepped) for fact in facts) == stop_after

    with start_session(settings(**changes), folder=Path(folder)) as session:
        session.train(tell=facts.append, stop=stop)
    return facts


def test_session_tells_its_facts_in_order() -> None:
    facts = train("run", sample_length=9)
    kinds = [type(fact) for fact in facts]
    validated = [Validating, Stepped, Sampled]
    assert kinds == [Began, *2 * [Stepped, Stepped, *validated], Stepped, *validated, Ended]
    ended = facts[-1]
    assert isinstance(ended, Ended)
    assert (ended.stopped_by, ended.progress.step, ended.run.folder) == ("training.max_steps", 8, Path("run"))
    assert [len(fact.text) for fact in facts if isinstance(fact, Sampled)] == [9, 9, 9]


def test_session_records_resolved_values_and_the_text_of_the_run(place: Path) -> None:
    train("run", shards="auto", precision="auto")
    run = open_run(Path("run"))
    assert isinstance(run.settings.training.shards, int)
    assert run.settings.training.precision in ("fp32", "bf16")
    assert run.settings.training.threads == "auto"  # it decides nothing, so another machine may choose anew
    assert run.settings.data.sources == (str(place / "text.txt"),)
    assert run.text is not None
    assert len(run.text.fingerprint) == 64


def test_session_stopped_and_resumed_on_another_number_of_threads_ends_with_the_same_bits() -> None:
    train("whole", threads=1)
    stopped = train("parts", threads=3, stop_after=4)[-1]
    assert isinstance(stopped, Ended)
    assert (stopped.stopped_by, stopped.progress.step) == (None, 4)
    with resume_session(Path("parts"), ["training.threads=2"]) as session:
        assert session.train().stopped_by == "training.max_steps"
    assert ending(Path("parts")) == ending(Path("whole"))
    with resume_session(Path("parts")) as session:
        ended = session.train()
    assert (ended.facts, ended.stopped_by) == (None, "training.max_steps")


def test_session_of_an_earlier_version_is_resumed_as_it_was_begun() -> None:
    earlier: dict[str, Any] = {"beginning_lanes": 0, "model": {"skip_connections": False}}
    train("whole", **earlier)
    train("run", **earlier, stop_after=4)
    config = Path("run/config.yaml")
    lines = config.read_text().splitlines()[1:]
    config.write_text("".join(f"{line}\n" for line in lines if not re.search("beginning_lanes|skip_connections", line)))
    with resume_session(Path("run")) as session:
        session.train()
    assert ending(Path("run")) == ending(Path("whole"))


@pytest.mark.parametrize(("batch_size", "lanes"), [(7, 0), (8, 1), (31, 3), (32, 4), (64, 8)])
def test_session_has_an_eighth_of_the_lanes_begin(batch_size: int, lanes: int) -> None:
    with start_session(settings(batch_size=batch_size, beginning_lanes="auto", sequence_length=4)) as session:
        assert session.settings.training.beginning_lanes == lanes
        assert session.trainer.batches.batch(1).fresh.sum() == lanes


def test_session_keeps_a_lane_for_the_stream_where_a_short_text_leaves_few(place: Path) -> None:
    (place / "text.txt").write_text("ab\n" * 9)
    with start_session(settings(batch_size=40, beginning_lanes=30)) as session:
        training = session.settings.training
        assert 0 <= training.beginning_lanes < training.batch_size <= 5


def test_session_is_the_only_one_on_its_folder() -> None:
    train("run")
    with (
        resume_session(Path("run")),
        pytest.raises(RunError, match="is being trained by another process"),
        resume_session(Path("run")),
    ):
        pass


def test_session_resumes_only_what_it_was_trained_for(place: Path) -> None:
    train("run")
    for override in (
        "model.hidden_size=7",
        "training.shards=3",
        "training.beginning_lanes=1",
        "data.split=[0.8, 0.2, 0]",
        "training.seed=9",
    ):
        with pytest.raises(SettingsError, match="may only change its limits"), resume_session(Path("run"), [override]):
            pass
    (place / "text.txt").write_text(TEXT + "!")
    with pytest.raises(RunError, match="has changed since it was trained"), resume_session(Path("run")):
        pass
    (place / "run" / "text.json").unlink()
    with pytest.raises(RunError, match=r"text\.json"), resume_session(Path("run")):
        pass


def test_session_saves_no_weights_that_are_not_finite() -> None:
    one_step = settings(max_steps=1, learning_rate=3e38, warmup_steps=0, weight_decay=1e30)
    whole = replace(one_step, data=replace(one_step.data, split=(1.0, 0.0, 0.0)))  # no validation that would notice
    with start_session(whole, folder=Path("run")) as session, pytest.raises(DivergedError, match="are not finite"):
        session.train()
    run = open_run(Path("run"))
    assert read_checkpoint(run, "latest").progress.step == 0


@pytest.mark.parametrize(("error", "kept"), [(ProcessLostError, True), (InputOutputError, False)])
def test_session_that_fails_before_its_first_step_leaves_a_folder_only_where_it_can_go_on(
    error: type[Exception], kept: bool
) -> None:
    def fail() -> bool:
        raise error("gone")

    with start_session(settings(), folder=Path("run")) as session:
        session.trainer.steps = lambda: iter([fail()])  # type: ignore[method-assign]
        with pytest.raises(error):
            session.train()
    assert Path("run").exists() == kept
    if kept:
        with resume_session(Path("run")) as session:
            assert session.train().progress.step == 8


def test_session_resumed_tells_that_damaged_metrics_are_left_out() -> None:
    train("run", stop_after=4)
    log = Path("run/metrics.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b'{"step": 2, "chars": true}\n', *lines[2:], b'{"st']))
    facts: list[Fact] = []
    with resume_session(Path("run")) as session:
        session.train(tell=facts.append)
    assert [fact.message for fact in facts if isinstance(fact, Warned)] == [
        "run/metrics.jsonl: line 2, damaged, left out of the metrics"
    ]


def test_session_on_a_text_shorter_than_a_batch_resumes_to_the_same_bits() -> None:
    changes: dict[str, Any] = {"batch_size": 64, "sequence_length": 128}
    warned = [fact.message for fact in train("whole", **changes) if isinstance(fact, Warned)]
    assert warned[0].startswith("the 1,008 characters to train on are fewer than 64 lanes of 128")
    train("parts", stop_after=3, **changes)
    with resume_session(Path("parts")) as session:
        session.train(tell=lambda fact: warned.append(str(fact)) if isinstance(fact, Warned) else None)
    assert ending(Path("parts")) == ending(Path("whole"))
    assert len(warned) == 1


def test_session_saves_a_best_whose_metrics_could_not_be_written_with_the_next_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses, broken = iter([3.0, 1.0, 2.0]), [6]  # at the steps 3, 6 and 8

    def validated(*_model: Any, **_how: Any) -> Evaluation:
        return Evaluation(Tally(nats=100 * next(losses), chars=100), "stream", lanes=1)

    def refusing(folder: Path, row: MetricsRow, naming: Naming) -> None:
        if row.step in broken:
            raise InputOutputError("no space")
        append_metrics(folder, row, naming)

    monkeypatch.setattr(trainer, "evaluate", validated)
    monkeypatch.setattr(recorder, "append_metrics", refusing)
    facts: list[Fact] = []

    def tell(fact: Fact) -> None:
        facts.append(fact)
        if isinstance(fact, Stepped) and fact.facts.step == 7:
            broken.clear()

    with start_session(settings(), folder=Path("run")) as session:
        session.train(tell=tell)
    assert any(isinstance(fact, Warned) and "no space" in fact.message for fact in facts)
    assert read_checkpoint(open_run(Path("run")), "best").progress.step == 6


def test_session_keeps_a_run_in_a_folder_whose_name_is_no_utf8() -> None:
    name = os.fsdecode(b"run\xff")
    train(name)
    assert read_checkpoint(open_run(Path(name)), "latest").progress.step == 8
