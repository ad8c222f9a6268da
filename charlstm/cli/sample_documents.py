"""What `charlstm sample` does for documents and lines: which are drawn or searched for, and how each is written."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from charlstm.cli.rows import Columns
from charlstm.cli.terminal import base64_of, print_diagnostic, text_writer, write_json
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.inference import Automaton, Document, Filter, Tally
    from charlstm.runs import Run
    from charlstm.settings import SamplingSettings

ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\0": "\\0"}


@dataclass(frozen=True, kw_only=True)
class DocumentOptions:
    """What the command line says of documents."""

    unique: bool
    new: bool
    match: str | None
    prefix: str
    suffix: str | None
    best: int | None
    columns: str | None
    given: list[str]
    escape: bool
    null: bool
    as_json: bool
    trust_sources: bool
    raw: bool
    quiet: bool

    def are_given(self) -> bool:
        """Whether any of them asks for documents."""
        chosen = self.match is not None or self.suffix is not None or self.best is not None or self.columns is not None
        return bool(chosen or self.unique or self.new or self.prefix or self.given or self.escape)


def write_documents(
    run: "Run", sampling: "SamplingSettings", options: DocumentOptions, *, wanted: int, seed: int | None, cores: int
) -> None:
    """Write documents to stdout, one a line, and on stderr what was left out. Raises RunError if there are too few.

    seed: None for a new one, which is told.
    """
    import secrets

    from charlstm.api import likeliest_documents, sample_documents
    from charlstm.inference import Tally, known_end

    known_end(run.vocab)
    columns = _columns(options)
    prefix = columns.prefix(options.given) if columns is not None and options.given else options.prefix
    how: dict[str, Any] = {
        "prefix": prefix.encode("utf-8", "surrogateescape"),
        "constraint": _constraint(run, options, columns),
        "filters": list(_filters(run, options, columns)),
        "tally": (tally := Tally()),
        "cores": cores,
    }
    if options.best is not None:
        documents = likeliest_documents(run, options.best, length=sampling.length or None, **how)
    else:
        chosen = secrets.randbelow(2**32) if seed is None else seed
        documents = sample_documents(run, sampling, wanted=wanted, seed=chosen, scored=options.as_json, **how)
        if seed is None and not options.quiet:
            print_diagnostic(f"seed {chosen}")
    write = text_writer(raw=options.raw)
    for document in documents:
        text = run.vocab.to_bytes(document.ids)
        if options.as_json or columns is not None:
            write_json(_fields(text, document, tally, options, columns, run.vocab.unit))
            continue
        share = f"{math.exp(document.log_prob):.6g}\t".encode() if options.best is not None else b""
        write(share + (_escaped(text) if options.escape else text) + (b"\0" if options.null else b"\n"))
    if not options.quiet:
        _report(tally, options)


def _columns(options: DocumentOptions) -> Columns | None:
    if options.columns is None:
        if options.given:
            raise SettingsError("--given needs the names of all columns, in their order: give --columns NAME,NAME…")
        return None
    if options.null or options.escape:
        raise SettingsError("--columns writes rows as JSON objects, one a line: leave -0 and --escape out")
    if options.given and options.prefix:
        raise SettingsError("--given and --prefix both say how each row begins: give one of them")
    return Columns.from_option(options.columns)


def _constraint(run: "Run", options: DocumentOptions, columns: Columns | None) -> "Automaton | None":
    from charlstm.inference import compile_expression

    if options.match is not None and options.suffix is not None:
        raise SettingsError("--match and --suffix are both given: let the expression of --match end with the suffix")
    if options.suffix is not None:
        return compile_expression(f"(?s:.*){re.escape(options.suffix)}", run.vocab, option="--suffix")
    if options.match is not None:
        return compile_expression(options.match, run.vocab)
    return None if columns is None else compile_expression(columns.expression, run.vocab, option="--columns")


def _filters(run: "Run", options: DocumentOptions, columns: Columns | None) -> "Iterator[Filter]":
    """Which documents are left out, the cheapest question first."""
    from charlstm.inference import Filter, repeated
    from charlstm.runs import known_documents

    vocab = run.vocab
    if columns is not None:
        yield Filter(
            f"not of {len(columns.names)} columns",
            lambda document: columns.row(vocab.to_bytes(document.ids).decode("utf-8", "replace")) is not None,
        )
    elif not options.as_json and not options.escape:
        end, name = (b"\0", "NUL") if options.null else (b"\n", "a line end (give --escape, -0 or --json)")
        yield Filter(f"holding {name}", lambda document: end not in vocab.to_bytes(document.ids))
    if options.unique:
        yield repeated()
    if options.new:
        known = known_documents(run, trust_sources=options.trust_sources)
        yield Filter("known from the text", lambda document: document.ids.astype(vocab.id_dtype) not in known)


def _fields(
    text: bytes, one: "Document", tally: "Tally", options: DocumentOptions, columns: Columns | None, unit: str
) -> dict[str, Any]:
    """A row of --json, or a row of a table."""
    decoded = text.decode("utf-8", "replace")
    row = None if columns is None else columns.row(decoded)
    if row is not None and not options.as_json:
        return row
    fields: dict[str, Any] = {"text": decoded} if row is None else {"text": decoded, "row": row}
    fields |= {"log_prob": one.log_prob, "mean_log_prob": one.log_prob / one.generated}
    if one.seed is None:
        fields |= {"probability": math.exp(one.log_prob), "mass": tally.mass}
    else:
        fields["seed"] = one.seed
    return fields | base64_of(text, unit)


def _escaped(text: bytes) -> bytes:
    for written, escape in ESCAPES.items():
        text = text.replace(written.encode(), escape.encode())
    return text


def _report(tally: "Tally", options: DocumentOptions) -> None:
    if options.best is not None:
        what = " of what begins so" if options.prefix or options.given else ""
        print_diagnostic(f"{tally.kept:,} documents, {tally.mass:.6g} of the probability{what}")
    if tally.left_out:
        print_diagnostic(f"left out: {tally}")
