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
    from charlstm.errors import RunError, SettingsError
    from charlstm.machine.runtime import Runtime
    from charlstm.networks.models import build_model
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs
    from charlstm.settings import ModelSettings, Settings, TrainingSettings
    from charlstm.text.vocabulary import Vocab
    from charlstm.training.trainer import Trainer

MODEL = ModelSettings(embedding_size=2, hidden_size=2, num_layers=1, dropout=0.0)
TRAINING = TrainingSettings(batch_size=2, sequence_length=3, max_steps=2, threads=1, precision="fp32")
VOCAB = Vocab(unit="char", symbols=("a", "b", "c"), unknown="error", newline="keep", has_unknown_symbol=False)
AT = f"checkpoints/{checkpoints.checkpoint_name(2)}"
FILES = ("config.yaml", "vocab.json", "latest", "metrics.jsonl", f"{AT}/manifest.json")
FORGED = tuple(f"{AT}/{name}" for name in (checkpoints.MODEL, checkpoints.TRAINING, checkpoints.PROGRESS))


def new_trainer() -> Trainer:
    ids = np.arange(40, dtype=np.uint8) % 3
    runtime = Runtime(torch.device("cpu"), "fp32", 1)
    model = build_model(VOCAB.size, MODEL)
    return Trainer(model, TRAINING, dropout=0.0, train_ids=ids, validation_ids=ids, runtime=runtime)


def trained_run(folder: Path) -> runs.Run:
    """A run of two steps, the smallest there is."""
    run = runs.create_run(folder, Settings(model=MODEL, training=TRAINING), VOCAB, name="unused")
    trainer = new_trainer()
    for facts in trainer.steps():
        runs.append_metrics(run, {"step": facts.step, "loss": facts.loss})
    weights, training, progress = trainer.export()
    progress["text_sha256"] = "0" * 64
    checkpoints.save_checkpoint(run, step=2, weights=weights, training=training, progress=progress, is_best=True)
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
        progress = dict(checkpoint.progress)
        del progress["text_sha256"]
        if run.settings.model == MODEL and run.settings.training == TRAINING:
            trainer = TRAINER
            trainer.restore(checkpoint.weights, checkpoint.training, progress)
        runs.cut_metrics(run, 1)
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
