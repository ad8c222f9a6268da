"""An inspection as one self-contained page: the template `page.html` with its style, scripts and the arrays in it.

Letters: `T` characters, `L` layers, `H` hidden.

Every array is in its own script element as base64 of zlib, units first, so that the page unpacks only the layer that
is shown. A number is one byte: round(255·v) for a gate, 128 + round(127·v/s) for the rest, where s is 1 for a
candidate and each unit's own largest magnitude for the state.
"""

import base64
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.analysis.gates import open_and_shut
from charlstm.analysis.inspection import Inspection
from charlstm.analysis.symbols import visible_symbols
from charlstm.cells import LETTERS


def gates_page(inspection: Inspection, *, title: str) -> bytes:
    """Return the page of an inspection, HTML that needs no network and no other file. title: what was read."""
    activity = inspection.activity
    features = {name: values for name, values in inspection.features.items() if values.max(initial=0.0) > 0.0}
    scales = {name: activity.full_scale(name) for name in activity.values if name not in activity.sigmoid_gates}
    fractions = {name: open_and_shut(activity.values[name]) for name in activity.sigmoid_gates}
    model = inspection.run.settings.model
    run = os.fsencode(inspection.run.folder.resolve().name).decode("utf-8", "replace")
    facts = {
        "title": title,
        "model": f"{model.cell} {model.num_layers} × {model.hidden_size}, run {run}",
        "studied": inspection.studied_chars,
        **_about_activity(inspection),
        "scales": {name: np.round(scale, 6).tolist() for name, scale in scales.items()},
        "open": {name: _rounded(is_open) for name, (is_open, _) in fractions.items()},
        "shut": {name: _rounded(is_shut) for name, (_, is_shut) in fractions.items()},
        "features": list(features),
        "correlated_units": [
            {**asdict(found), "agreement": found.agreement, "beyond_chance": found.beyond_chance}
            for found in inspection.correlated_units
        ],
    }
    packed = {
        "ids": activity.ids.astype("<u4"),
        "surprisal": activity.surprisal.astype("<f4"),
        "guess-ids": activity.guess_ids.astype("<u4"),
        "guess-probs": activity.guess_probs.astype("<f4"),
        "features": np.array([np.round(values * (255 / values.max())) for values in features.values()], dtype=np.uint8),
    }
    for name, values in activity.values.items():
        for layer in range(activity.shape[1]):
            packed[f"{name}-{layer}"] = _quantised(values[:, layer], scales[name][layer] if name in scales else None)
    return _fill_template(facts, packed)


def _about_activity(inspection: Inspection) -> dict[str, Any]:
    activity, vocab = inspection.activity, inspection.run.vocab
    length, layers, hidden = activity.shape
    values = [
        {
            "name": name,
            "label": LETTERS[name].label,
            "meaning": LETTERS[name].meaning,
            "sigmoid": name in activity.sigmoid_gates,
        }
        for name in activity.values
    ]
    return {
        "unit": "byte" if vocab.unit == "byte" else "character",
        "length": length,
        "layers": layers,
        "hidden": hidden,
        "bits_per_char": activity.bits_per_char,
        "symbols": visible_symbols(vocab),
        "newlines": [t for t, character in enumerate(inspection.text) if character == "\n"],
        "values": values,
        "memory": activity.memory,
        "guesses": activity.guess_ids.shape[1],
    }


def _fill_template(facts: Mapping[str, Any], packed: Mapping[str, NDArray[Any]]) -> bytes:
    # < is the only character that could end the element
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    data = [f'<script type="application/json" id="facts">{text}</script>']
    for name, array in packed.items():
        encoded = base64.b64encode(zlib.compress(array.tobytes(), 6)).decode()
        data.append(f'<script type="text/plain" id="data-{name}">{encoded}</script>')
    parts = {
        "style": _read("page.css"),
        "script": _read("page_drawing.js") + _read("page.js"),
        "data": "\n".join(data),  # last, so that nothing is looked for in it
    }
    page = _read("page.html")
    for name, part in parts.items():
        before, after = page.split(f"<!-- {name} -->")
        page = f"{before}{part}{after}"
    return page.encode(errors="surrogateescape")  # a file name may hold bytes that are no character


def _read(name: str) -> str:
    return resources.files("charlstm.analysis").joinpath(name).read_text(encoding="utf-8")


def _quantised(values: NDArray[np.float32], scale: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """One layer's values (T, H) as bytes (H, T); without a scale they are a gate's, between 0 and 1."""
    stretched = values * 255 if scale is None else 128 + values / scale * 127
    return np.ascontiguousarray(np.round(stretched).astype(np.uint8).T)


def _rounded(fractions: NDArray[np.float32]) -> list[list[float]]:
    return [[round(fraction, 4) for fraction in layer] for layer in fractions.tolist()]
