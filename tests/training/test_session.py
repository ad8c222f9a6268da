"""Session: from settings and text to a run on disk, told in facts; a resumed one ends with the same bits."""

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from charlstm.errors import RunError, SettingsError
from charlstm.runs import Checkpoint, open_run, read_checkpoint, read_metrics
from charlstm.settings import DataSettings, ModelSettings, Settings, TrainingSettings
from charlstm.training import Began, Ended, Fact, Sampled, Stepped, Validating, Warned, resume_session, start_session

TEXT = "the cat sat on the mat; a dog ran to the log, and so on\n" * 20


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def settings(*, sources: tuple[str, ...] = ("text.txt",), cell: Any = "lstm", **training: Any) -> Settings:
    defaults: dict[str, Any] = {"batch_size": 5, "sequence_length": 7, "max_steps": 8, "validate_every_steps": 3}
    defaults |= {"log_every_steps": 1, "shards": 2, "precision": "fp32", "device": "cpu"}
    return Settings(
        data=DataSettings(sources=sources),
        model=ModelSettings(cell=cell, embedding_size=4, hidden_size=6),
        training=TrainingSettings(**{**defaults, **training}),
    )


def train(folder: str, *, stop_after: int | None = None, **changes: Any) -> list[Fact]:
    facts: list[Fact] = []

    def stop() -> bool:
        return stop_after is not None and sum(isinstance(fact, Stepped) for fact in facts) == stop_after

    with start_session(settings(**changes), folder=Path(folder)) as session:
        session.train(tell=facts.append, stop=stop)
    return facts


def bits(folder: str) -> list[Any]:
    """What a run leaves, but for the clock."""
    run = open_run(Path(folder))
    rows = [msgspec.structs.replace(row, seconds=0.0, chars_per_second=0) for row in read_metrics(run.folder)]
    return [*(_bits(read_checkpoint(run, which)) for which in ("latest", "best")), rows, run.vocab, run.text]


def _bits(checkpoint: Checkpoint) -> tuple[Any, ...]:
    parts = (checkpoint.weights, checkpoint.training)
    arrays = [{name: array.tobytes() for name, array in part.items()} for part in parts]
    return *arrays, msgspec.structs.replace(checkpoint.progress, seconds=0.0, validation_seconds=0.0)


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


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_session_bits_do_not_depend_on_threads(threads: int) -> None:
    train("one", threads=1)
    train("many", threads=threads)
    assert bits("many") == bits("one")


@pytest.mark.parametrize("after", [1, 3, 5])
def test_session_stopped_and_resumed_ends_with_the_same_bits(after: int) -> None:
    train("whole")
    stopped = train("parts", stop_after=after)[-1]
    assert isinstance(stopped, Ended)
    assert (stopped.stopped_by, stopped.progress.step) == (None, after)
    with resume_session(Path("parts"), ["training.threads=2"]) as session:
        assert session.train().stopped_by == "training.max_steps"
    assert bits("parts") == bits("whole")


def test_session_that_has_reached_its_limit_takes_no_step() -> None:
    train("run")
    with resume_session(Path("run")) as session:
        ended = session.train()
    assert (ended.facts, ended.stopped_by) == (None, "training.max_steps")


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
    for override in ("model.hidden_size=7", "training.shards=3", "data.split=[0.8, 0.2, 0]", "training.seed=9"):
        with pytest.raises(SettingsError, match="may only change its limits"), resume_session(Path("run"), [override]):
            pass
    (place / "text.txt").write_text(TEXT + "!")
    with pytest.raises(RunError, match="has changed since it was trained"), resume_session(Path("run")):
        pass
    (place / "run" / "text.json").unlink()
    with pytest.raises(RunError, match=r"text\.json"), resume_session(Path("run")):
        pass


def test_session_resumes_a_text_that_came_through_a_pipe() -> None:
    with start_session(settings(sources=("-",)), folder=Path("run"), stdin=io.BytesIO(TEXT.encode())) as session:
        session.train(stop=lambda: True)
    with resume_session(Path("run")) as session:
        assert session.train().progress.step == 8


def test_session_warns_of_a_damaged_checkpoint_and_goes_on_from_the_one_before() -> None:
    train("run", stop_after=5, save_every_steps=1)
    (Path("run") / "checkpoints" / "step-00000005" / "model.safetensors").write_bytes(b"")
    facts: list[Fact] = []
    with resume_session(Path("run")) as session:
        session.train(tell=facts.append)
    (warned,) = (fact for fact in facts if isinstance(fact, Warned))
    assert "going on from step-00000004" in warned.message


def test_session_begins_with_another_runs_weights_matched_by_character(place: Path) -> None:
    train("first")
    (place / "other.txt").write_text(TEXT.replace("dog", "fox"))
    facts = train("second", sources=("other.txt",))
    assert isinstance(facts[0], Began)
    assert facts[0].inherited is None
    with start_session(settings(sources=("other.txt",)), folder=Path("third"), init_from=Path("first")) as session:
        assert session.inherited is not None
        assert "2 added" in session.inherited  # f and x
    with (
        pytest.raises(SettingsError, match=r"model\.cell is gru, but lstm"),
        start_session(settings(cell="gru"), folder=Path("fourth"), init_from=Path("first")),
    ):
        pass


def test_session_on_a_text_shorter_than_a_batch_resumes_to_the_same_bits() -> None:
    changes: dict[str, Any] = {"batch_size": 64, "sequence_length": 128}
    warned = [fact.message for fact in train("whole", **changes) if isinstance(fact, Warned)]
    assert warned[0].startswith("the 1,008 characters to train on are fewer than 64 lanes of 128")
    train("parts", stop_after=3, **changes)
    with resume_session(Path("parts")) as session:
        session.train(tell=lambda fact: warned.append(str(fact)) if isinstance(fact, Warned) else None)
    assert bits("parts") == bits("whole")
    assert len(warned) == 1
