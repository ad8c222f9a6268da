"""Coverage-guided fuzzing of the run reader: any bytes in any of its files are a whole checkpoint, or a RunError.

The first byte of an input chooses the file; the manifest and the pointer vouch for what follows, so that it gets past
the checksums, and what is read goes into a trainer. Run by hand, after `pip install atheris`:

    python tests/fuzz/fuzz_checkpoint.py -max_total_time=300
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np
import torch

with atheris.instrument_imports(include=["charlstm", "safetensors", "yaml"]):
    from charlstm import runs
    from charlstm.errors import RunError, SettingsError
    from charlstm.machine import Machine
    from charlstm.networks import OBJECTIVES
    from charlstm.runs import checkpoints
    from charlstm.settings import ModelSettings, Settings, TrainingSettings
    from charlstm.text import Lanes, Vocab
    from charlstm.training import Trainer
    from charlstm.training.recorder import _metrics_row

MODEL = ModelSettings(embedding_size=2, hidden_size=2, num_layers=1, dropout=0.0)
TRAINING = TrainingSettings(batch_size=2, sequence_length=3, max_steps=2, threads=1, precision="fp32")
VOCAB = Vocab(unit="char", symbols=("a", "b", "c"), unknown="error", newline="keep", has_unknown_symbol=False)
AT = f"checkpoints/{checkpoints.checkpoint_name(2)}"
FILES = ("config.yaml", "vocab.json", "text.json", "latest", "metrics.jsonl", f"{AT}/manifest.json")
FORGED = tuple(f"{AT}/{name}" for name in (checkpoints.MODEL, checkpoints.TRAINING, checkpoints.PROGRESS))


def new_trainer() -> Trainer:
    ids = np.arange(40, dtype=np.uint8) % 3
    objective = OBJECTIVES["next"]
    return Trainer(
        objective.build_model(VOCAB.size, MODEL),
        objective,
        TRAINING,
        dropout=0.0,
        batches=Lanes(ids, TRAINING.batch_size, TRAINING.sequence_length),
        validation_ids=ids,
        start_id=0,
        machine=Machine(torch.device("cpu"), "fp32", shards=1, threads=1),
    )


def trained_run(folder: Path) -> runs.Run:
    """A run of two steps, the smallest there is."""
    settings, text = Settings(model=MODEL, training=TRAINING), runs.TextIdentity("0" * 64)
    run = runs.create_run(folder, settings, VOCAB, text, name="unused")
    trainer = new_trainer()
    for facts in trainer.steps():
        runs.append_metrics(run.folder, _metrics_row(facts, 1.0))
    runs.save_checkpoint(run, trainer.export(), is_best=True)
    return run


def read(data: bytes) -> None:
    """Put the bytes into a file, read all of the run, and put the file back."""
    if not data:
        return
    name = (*FILES, *FORGED)[data[0] % (len(FILES) + len(FORGED))]
    changed = {name: data[1:]}
    if name in FORGED:
        manifest = json.loads(WHOLE[f"{AT}/manifest.json"])
        manifest[Path(name).name] = {"sha256": hashlib.sha256(data[1:]).hexdigest(), "bytes": len(data) - 1}
        changed |= {f"{AT}/manifest.json": json.dumps(manifest).encode(), "latest": b"step-00000002\n"}
    for file, content in changed.items():
        (FOLDER / file).write_bytes(content)
    try:
        run = runs.open_run(FOLDER)
        checkpoint = checkpoints.read_checkpoint(run, "latest")
        if run.settings.model == MODEL and run.settings.training == TRAINING:
            trainer = TRAINER
            trainer.restore(checkpoint)
        runs.cut_metrics(run.folder, 1)
        if name not in FORGED and name != "config.yaml" and checkpoint.weights.keys() != WEIGHTS.keys():
            raise AssertionError(f"other content by damage of {name}")
    except (RunError, SettingsError) as error:
        if "\n" in str(error):
            raise AssertionError(f"an error of two lines: {error}") from error
    finally:
        for file in {*changed, "metrics.jsonl"}:
            (FOLDER / file).write_bytes(WHOLE[file])


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        FOLDER = Path(place) / "run"
        RUN = trained_run(FOLDER)
        WHOLE = {name: (FOLDER / name).read_bytes() for name in (*FILES, *FORGED)}
        WEIGHTS = checkpoints.read_checkpoint(RUN, "latest").weights
        TRAINER = new_trainer()
        for number, name in enumerate((*FILES, *FORGED)):
            Path(corpus, str(number)).write_bytes(bytes([number]) + WHOLE[name])
        atheris.Setup([*sys.argv, "-max_len=8192", corpus], read)
        atheris.Fuzz()
