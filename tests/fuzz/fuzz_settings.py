"""Coverage-guided fuzzing of the settings reader: any bytes are settings, or a SettingsError of one line.

Run by hand, after `pip install atheris` (libFuzzer's options may follow):

    python tests/fuzz/fuzz_settings.py -max_total_time=300
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["charlstm", "yaml"]):
    from charlstm.errors import SettingsError
    from charlstm.settings import Settings, dump_settings, parse_settings

ROOT = Path(__file__).parents[2]
SEEDS = [
    *(path.read_bytes() for path in (ROOT / "configs").rglob("*.yaml")),
    dump_settings(Settings()).encode(),
    b"--set training.learning_rate=1e-3",
    b"--set data.split=[0.8, 0.1, 0.1]",
    b"a: &a [*a, *a]",
    b"a: !!python/object:os.system x",
    b"training: {seed: 0x7f, clip_norm: ~, max_steps: 0o17, learning_rate: .inf}",
    b"data: {sources: [\"\\x41\\u2028\\U0001F600\", 'b']}",
    b"%YAML 1.2\n---\nmodel: |\n  text\n...\n",
]


def read(data: bytes) -> None:
    """Parse the bytes as a file or, after `--set `, as an override; what is read is written back and read again."""
    try:
        if data.startswith(b"--set "):
            settings = parse_settings(b"", where="fuzz", overrides=[data[6:].decode("utf-8", "surrogateescape")])
        else:
            settings = parse_settings(data, where="fuzz")
    except SettingsError as error:
        if "\n" in str(error):
            raise AssertionError(f"an error of two lines: {error}") from error
        return
    if parse_settings(dump_settings(settings).encode(), where="again") != settings:
        raise AssertionError(f"not read back: {settings}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([*sys.argv, "-max_len=4096", corpus], read)
        atheris.Fuzz()
