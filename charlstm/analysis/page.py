"""A trace as one self-contained page: the template `page.html` with the arrays packed into it.

Letters: `T` characters, `L` layers, `H` hidden.

Every array lies in its own script element as base64 of zlib, units first, so that the page unpacks only the layer that
is looked at. A number is one byte: round(255·v) for a gate, 128 + round(127·v/s) for the rest, where s is 1 for a
candidate and each unit's own largest magnitude for the state.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.correlated_units import Follower, Marks
from charlstm.analysis.gates import CANDIDATES, MEANINGS, NAMES, Trace, open_and_shut, text_of, visible_symbols
from charlstm.text.vocabulary import Vocab


def gates_page(
    trace: Trace, vocab: Vocab, *, marks: Marks, followers: Sequence[Follower], studied: int, title: str, model: str
) -> bytes:
    """The page of a trace, which needs no network and nothing beside itself.

    marks: as `follow.text_marks` gives them, (T,) each. studied: characters in which the followers were looked for.
    title: what was read. model: what read it, in a few words.
    """
    shown = {name: mark for name, mark in marks.items() if mark.max(initial=0.0) > 0.0}
    scales = {name: _scales(trace, name) for name in trace.values if name not in trace.sigmoid_gates}
    shares = {name: open_and_shut(trace.values[name]) for name in trace.sigmoid_gates}
    facts = {
        "title": title,
        "model": model,
        "studied": studied,
        **_about_trace(trace, vocab),
        "scales": {name: np.round(scale, 6).tolist() for name, scale in scales.items()},
        "open": {name: _rounded(is_open) for name, (is_open, _) in shares.items()},
        "shut": {name: _rounded(is_shut) for name, (_, is_shut) in shares.items()},
        "marks": [{"name": name} for name in shown],
        "followers": [{**asdict(follower), "agrees": follower.agreement > 0} for follower in followers],
    }
    packed = {
        "ids": trace.ids.astype("<u4"),
        "surprise": np.nan_to_num(trace.surprise, nan=-1.0).astype("<f4"),
        "guess-ids": trace.guess_ids.astype("<u4"),
        "guess-probs": trace.guess_probs.astype("<f4"),
        "marks": np.array([np.round(mark * (255 / mark.max())) for mark in shown.values()], dtype=np.uint8),
    }
    for name, values in trace.values.items():
        for layer in range(trace.shape[1]):
            packed[f"{name}-{layer}"] = _quantised(values[:, layer], scales[name][layer] if name in scales else None)
    return _fill_template(facts, packed)


def _about_trace(trace: Trace, vocab: Vocab) -> dict[str, Any]:
    length, layers, hidden = trace.shape
    values = [
        {
            "name": name,
            "label": NAMES.get(name, name),
            "meaning": MEANINGS.get(name, ""),
            "sigmoid": name in trace.sigmoid_gates,
        }
        for name in trace.values
    ]
    return {
        "unit": "byte" if vocab.unit == "byte" else "character",
        "length": length,
        "layers": layers,
        "hidden": hidden,
        "bits_per_char": None if np.isnan(trace.bits_per_char) else trace.bits_per_char,
        "symbols": visible_symbols(vocab),
        "newlines": [t for t, character in enumerate(text_of(vocab, trace.ids)) if character == "\n"],
        "values": values,
        "memory": trace.memory,
        "guesses": trace.guess_ids.shape[1],
    }


def _fill_template(facts: Mapping[str, Any], packed: Mapping[str, NDArray[Any]]) -> bytes:
    page = resources.files("charlstm.analysis").joinpath("page.html").read_text(encoding="utf-8")
    # < could end the element, and is the only character that could
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    data = [f'<script type="application/json" id="facts">{text}</script>']
    for name, array in packed.items():
        encoded = base64.b64encode(zlib.compress(array.tobytes(), 6)).decode()
        data.append(f'<script type="text/plain" id="data-{name}">{encoded}</script>')
    before, after = page.split("<!-- data -->")
    return f"{before}{chr(10).join(data)}{after}".encode()


def _scales(trace: Trace, name: str) -> NDArray[np.float32]:
    """What the full scale of each unit stands for, (L, H)."""
    values = trace.values[name]
    if name in CANDIDATES:
        return np.ones(values.shape[1:], dtype=np.float32)
    largest: NDArray[np.float32] = np.abs(values).max(axis=0)
    return np.maximum(largest, np.float32(1e-6))


def _quantised(values: NDArray[np.float32], scale: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """One layer's values (T, H) as bytes (H, T); without a scale they are a gate's, between 0 and 1."""
    stretched = values * 255 if scale is None else 128 + values / scale * 127
    return np.ascontiguousarray(np.round(stretched).astype(np.uint8).T)


def _rounded(shares: NDArray[np.float32]) -> list[list[float]]:
    return [[round(share, 4) for share in layer] for layer in shares.tolist()]
