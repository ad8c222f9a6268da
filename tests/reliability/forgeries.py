"""Files that a person may have put into a checkpoint, for which manifest and pointer vouch.

No checksum can tell them from a checkpoint that was trained: each must still be one that could have been.
"""

import json
import math
import pickle
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors_numpy

LATEST = "checkpoints/step-00000006"
FILES = ("model.safetensors", "training.safetensors", "progress.json", "manifest.json")


class Touch:
    """What a pickle that runs code looks like: loading it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("touched", "w"))


def gigabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a hole: no disk is used


def forge(run: Path, name: str, data: bytes) -> None:
    """Put a file into the latest checkpoint, and have manifest and pointer vouch for it."""
    at = run / LATEST
    (at / name).write_bytes(data)
    manifest = json.loads((at / "manifest.json").read_bytes())
    manifest[name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    (at / "manifest.json").write_text(json.dumps(manifest))
    for pointer in ("latest", "best"):
        (run / pointer).write_text(f"{at.name}\n")


def scalars(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda progress: json.dumps({**progress, **changes}).encode()


def without(name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda progress: json.dumps({key: value for key, value in progress.items() if key != name}).encode()


SCALARS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "a word": lambda _: b'"step"',
    "empty": lambda _: b"",
    "not JSON": lambda _: b"{",
    "cut short": lambda _: b'{"step": NaN',
    "not UTF-8": lambda _: b'{"step": "\xff"}',
    "deep": lambda _: b"[" * 90_000,
    "deep inside": lambda p: (
        json.dumps({**p, "seconds": 0}).encode().replace(b'"seconds": 0', b'"seconds": ' + b"[" * 90_000)
    ),
    "a negative step": scalars(step=-1),
    "another step": scalars(step=5),
    "a huge step": scalars(step=10**400),
    "a step of text": scalars(step="6"),
    "half a step": scalars(step=6.5),
    "a step of true": scalars(step=True),
    "no step": without("step"),
    "no loss": without("best_loss"),
    "no seconds": without("seconds"),
    "an unknown scalar": scalars(extra=1),
    "a NaN loss": lambda p: json.dumps({**p, "best_loss": math.nan}).encode(),
    "an infinite loss": lambda p: json.dumps({**p, "best_loss": math.inf}).encode(),
    "a loss beyond numbers": lambda p: (
        json.dumps({**p, "seconds": 0}).encode().replace(b'"seconds": 0', b'"seconds": 1e999')
    ),
    "a loss of text": scalars(best_loss="1"),
    "negative seconds": scalars(seconds=-1.0),
    "seconds of null": scalars(seconds=None),
    "a best step to come": scalars(best_step=7),
    "a negative best step": scalars(best_step=-4),
    "a best step without a loss": scalars(best_loss=None),
    "a huge best step": scalars(best_step=10**300),
    "negative patience": scalars(validations_since_best=-1),
    "a huge end": scalars(total_steps=10**300),
    "a negative end": scalars(total_steps=-5),
    "a digit more than Python reads": lambda p: (
        json.dumps({**p, "step": 0}).encode().replace(b'"step": 0', b'"step": ' + b"9" * 5000)
    ),
    "megabytes": lambda p: json.dumps(p).encode() + b" " * 5_000_000,
    "a pickle": lambda _: pickle.dumps(Touch()),
    "a scalar twice": lambda p: json.dumps(p).encode().replace(b"{", b'{"step": 6, ', 1),
}


def arrays(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[bytes], bytes]:
    def altered(data: bytes) -> bytes:
        found = dict(safetensors_numpy.load(data))
        result = change(found)
        return safetensors_numpy.save(result if isinstance(result, dict) else found)

    return altered


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A safetensors file whose header says something else about the same numbers."""

    def altered(data: bytes) -> bytes:
        length = struct.unpack("<Q", data[:8])[0]
        fields = json.loads(data[8 : 8 + length])
        result = change(fields)
        text = result if isinstance(result, bytes) else json.dumps(fields).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return altered


BIAS, MOMENT = "output.bias", "exp_avg.output.bias"
COMMON: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "none": arrays(lambda _: {}),
    "a pickle": lambda _: pickle.dumps(Touch()),
    "a header of an exabyte": lambda data: struct.pack("<Q", 1 << 60) + data[8:],
    "a header of a gigabyte": lambda data: struct.pack("<Q", 1 << 30) + data[8:],
    "a header of 2^64": lambda data: b"\xff" * 8 + data[8:],
    "a header that is not there": lambda _: struct.pack("<Q", 2),
    "a header of nothing": lambda _: struct.pack("<Q", 0),
    "a deep header": header(lambda _: b"[" * 50_000),
    "a header that is no object": header(lambda _: b"[]"),
    "a header that is not UTF-8": header(lambda _: b'{"\xff": 1}'),
    "a name twice": header(
        lambda fields: json.dumps(fields).encode().replace(b"{", json.dumps(fields).encode()[:-1] + b",", 1)
    ),
    "megabytes of header": header(lambda fields: json.dumps(fields).encode() + b" " * 3_000_000),
    "an extra array": arrays(lambda found: found.update(extra=np.zeros(2, np.float32))),
    "an extra moment": arrays(lambda found: found.update({"exp_avg.nothing": np.zeros(2, np.float32)})),
    "an extra state": arrays(lambda found: found.update({"state.x": np.zeros(2, np.float32)})),
    "bytes too many": lambda data: data + b"\0" * 64,
}


def of(name: str) -> dict[str, Callable[[bytes], bytes]]:
    """Forgeries of one array in a file."""

    def says(**changes: Any) -> Callable[[bytes], bytes]:
        return header(lambda fields: fields[name].update(changes))

    return {
        "missing": arrays(lambda found: found.pop(name) is None),
        "NaN": arrays(lambda found: found[name].fill(np.nan)),
        "infinite": arrays(lambda found: found[name].fill(np.inf)),
        "doubles": arrays(lambda found: found.update({name: found[name].astype(np.float64)})),
        "halves": arrays(lambda found: found.update({name: found[name].astype(np.float16)})),
        "integers": arrays(lambda found: found.update({name: found[name].astype(np.int32)})),
        "longer": arrays(lambda found: found.update({name: np.zeros(found[name].size + 1, np.float32)})),
        "a scalar": arrays(lambda found: found.update({name: np.zeros((), np.float32)})),
        "empty": arrays(lambda found: found.update({name: np.zeros((0, 3), np.float32)})),
        "of one dimension more": arrays(lambda found: found.update({name: found[name][None]})),
        "absurd": says(shape=[1 << 40]),
        "absurd and empty": says(shape=[0, 1 << 62, 1 << 62]),
        "of a product that overflows": says(shape=[1 << 32, 1 << 32]),
        "negative": says(shape=[-1]),
        "of a thousand dimensions": says(shape=[1] * 1000),
        "of no known type": says(dtype="F7"),
        "bfloat16": says(dtype="BF16"),
        "float8": says(dtype="F8_E4M3"),
        "backwards": says(data_offsets=[8, 0]),
        "far away": says(data_offsets=[0, 1 << 50]),
        "overlapping": says(data_offsets=[0, 4]),
        "without offsets": header(lambda fields: fields[name].pop("data_offsets") and None),
        "a list": header(lambda fields: fields.update({name: [1]}) and None),
        "metadata": header(lambda fields: fields.update({"__metadata__": {"a": 5}})),
    }


FORGERIES = {
    "model.safetensors": {**COMMON, **of(BIAS)},
    "training.safetensors": {
        **COMMON,
        **of(MOMENT),
        **{f"state {what}": how for what, how in of("state.h").items()},
        "a negative variance": arrays(lambda found: found["exp_avg_sq.output.bias"].fill(-1)),
        "a step of 0": arrays(lambda found: found["step.output.bias"].fill(0)),
        "a negative step": arrays(lambda found: found["step.output.bias"].fill(-3)),
        "half of the state": arrays(lambda found: found.pop("state.c") is None),
        "other lanes": arrays(
            lambda found: found.update({f"state.{s}": np.zeros((2, 9, 8), np.float32) for s in "hc"})
        ),
        "other layers": arrays(
            lambda found: found.update({f"state.{s}": np.zeros((1, 3, 8), np.float32) for s in "hc"})
        ),
    },
}
