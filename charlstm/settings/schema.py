"""The settings of a run: names, types, ranges, defaults and descriptions, each once, and what they must not contradict.

The reader, the JSON Schema, the reference page and the help of the commands all derive from these classes.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, structs

DEFAULT_MINUTES = 1.0  # of training, when the settings set no limit at all

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Text: TypeAlias = Annotated[str, Meta(min_length=1)]
CellName: TypeAlias = Literal["lstm", "peephole", "peephole-full", "gru", "rnn"]


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is read, and how it becomes ids."""

    sources: Annotated[
        tuple[Text, ...],
        Meta(
            min_length=1,
            description="one or a list of files, folders, globs, - for stdin, corpora: python-stdlib, tinyshakespeare",
        ),
    ] = ("python-stdlib",)
    documents: Annotated[
        Literal["stream", "line", "paragraph", "file", "record"],
        Meta(description="one text, or many that begin and end: lines, paragraphs, files, one field of records"),
    ] = "stream"
    field: Annotated[Text | None, Meta(description="of a record that is a line of JSON: where its text is")] = None
    column: Annotated[Text | None, Meta(description="of a record that is a row of CSV or TSV: where its text is")] = (
        None
    )
    shuffle: Annotated[
        bool, Meta(description="draw at random by the seed which documents validate; false: the last ones do")
    ] = True
    deduplicate: Annotated[
        Literal["keep", "drop"], Meta(description="what becomes of a document that occurred before, which is counted")
    ] = "keep"
    unit: Annotated[Literal["char", "byte"], Meta(description="what one id stands for")] = "char"
    split: Annotated[
        tuple[Fraction, Fraction, Fraction],
        Meta(description="fractions of the text or documents that train, validate and test, in order; they sum to 1"),
    ] = (0.9, 0.1, 0.0)
    min_count: Annotated[
        Count, Meta(description="characters met fewer times than this become the one unknown symbol (char only)")
    ] = 1
    unknown: Annotated[
        Literal["error", "skip", "replace"],
        Meta(
            description="what becomes of unknown characters in any text; replace: a symbol learned from those met once"
        ),
    ] = "error"
    newline: Annotated[
        Literal["keep", "normalize"], Meta(description='line ends as they stand, or all turned into "\\n"')
    ] = "keep"
    normalize: Annotated[
        Literal["none", "nfc", "nfkc"],
        Meta(description="Unicode's normal form that the text, prompts and evaluated texts are put into (char only)"),
    ] = "none"


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network: embedding, recurrent layers, linear output."""

    cell: Annotated[CellName, Meta(description="the recurrent cell")] = "lstm"
    kernel: Annotated[
        Literal["auto", "builtin", "unrolled"],
        Meta(description="torch's kernel, or the cell's equations step by step; auto: torch's where it has the cell"),
    ] = "auto"
    objective: Annotated[
        Literal["next", "cloze"],
        Meta(description="predict the next character, or each one from those before and after it (bidirectional only)"),
    ] = "next"
    bidirectional: Annotated[bool, Meta(description="a second stack of layers reads the text backwards")] = False
    embedding_size: Annotated[Count, Meta(description="numbers that stand for one character on the way in")] = 128
    hidden_size: Annotated[Count, Meta(description="units of each recurrent layer")] = 256
    num_layers: Annotated[int, Meta(ge=1, le=100, description="recurrent layers, one on top of the other")] = 2
    skip_connections: Annotated[
        bool, Meta(description="the output layer reads every layer's outputs, not the last's alone")
    ] = True
    dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of each layer's outputs that is dropped, one mask a window")
    ] = 0.1
    recurrent_dropout: Annotated[
        float, Meta(ge=0, lt=1, description="fraction of the recurrent weights that is dropped, anew each window")
    ] = 0.0
    forget_bias: Annotated[float, Meta(ge=-100, le=100, description="initial bias of the forget gate")] = 1.0


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the network learns, how long, and what is recorded on the way."""

    batch_size: Annotated[
        Count, Meta(description="lanes: parts of the text read side by side; more where documents are short")
    ] = 64
    beginning_lanes: Annotated[
        Annotated[int, Meta(ge=0)] | Literal["auto"],
        Meta(description="of these, those that begin anew in each step, at a paragraph or line; auto: an eighth"),
    ] = "auto"
    sequence_length: Annotated[
        Count, Meta(description="characters of each lane in a step, the reach of the gradient back in time")
    ] = 64
    segment_steps: Annotated[
        Count | None,
        Meta(description="steps for which a lane reads on before it goes elsewhere; null: to the end of its part"),
    ] = 16
    optimizer: Annotated[
        Literal["adamw", "muon", "adam"],
        Meta(description="rule that moves the weights; muon: of W_ih and W_hh, adamw: of the rest"),
    ] = "muon"
    learning_rate: Annotated[
        Annotated[float, Meta(gt=0)] | Literal["auto"],
        Meta(description="highest step size, after the warm-up; auto: what suits the optimizer and hidden_size"),
    ] = "auto"
    weight_decay: Annotated[
        float, Meta(ge=0, description="decoupled weight decay of the weight matrices (not with adam)")
    ] = 0.1
    schedule: Annotated[
        Literal["cosine", "constant"], Meta(description="course of the learning rate after the warm-up")
    ] = "cosine"
    warmup_steps: Annotated[int, Meta(ge=0, description="steps over which the learning rate rises from zero")] = 5
    clip_norm: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="longest gradient a step may follow; null: no clipping")
    ] = 1.0
    max_steps: Annotated[Count | None, Meta(description="steps before training ends; null: no such limit")] = None
    max_epochs: Annotated[
        Count | None, Meta(description="passes over the training text before training ends; null: no such limit")
    ] = None
    max_minutes: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="minutes before training ends; null: no such limit, or 1 if the other two are null"),
    ] = None
    log_every_steps: Annotated[Count, Meta(description="steps between two lines of metrics")] = 10
    validate_every_steps: Annotated[Count, Meta(description="steps between two validations on the whole split")] = 200
    save_every_steps: Annotated[Count, Meta(description="steps between two checkpoints")] = 200
    patience: Annotated[
        Count | None, Meta(description="validations without a new best before training stops; null: never")
    ] = None
    sample_length: Annotated[
        Count | None, Meta(description="characters sampled and shown at each validation; null: none")
    ] = None
    gradient_compression: Annotated[
        Literal["none", "bf16"],
        Meta(description="gradients are added and exchanged as they are, or halved to bf16 for slow links"),
    ] = "none"
    local_steps: Annotated[
        Count,
        Meta(description="steps that each process takes by itself before all average their weights; 1: none, exact"),
    ] = 1
    seed: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="start of every random number: weights, dropout, orders of the text, beginnings",
        ),
    ] = 1
    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="where training runs; auto: a GPU if any")] = (
        "auto"
    )
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Meta(description="arithmetic of the matrix products; auto: bf16 where it is faster; fp16: for GPUs"),
    ] = "auto"
    shards: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="parts of a batch, for a thread or a team each; they decide the bits; auto: the fastest here"),
    ] = "auto"
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="shards computed at once, which changes no bit; auto: as many as there are cores for"),
    ] = "auto"
    threads_per_shard: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(
            description="torch's threads for a shard, which decide the bits; auto: the fastest, or 1 if shards is set"
        ),
    ] = "auto"


class SamplingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text is drawn from the model, unless the command says otherwise."""

    temperature: Annotated[
        float, Meta(ge=0, description="divides the logits: below 1 safer, above 1 bolder, 0 the likeliest character")
    ] = 0.8
    top_k: Annotated[Count | None, Meta(description="draw among the k likeliest characters; null: among all")] = 10
    top_p: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="draw among the likeliest characters that together hold this probability; null: among all"),
    ] = None
    length: Annotated[int, Meta(ge=0, description="characters generated; 0: until the reader closes the pipe")] = 500
    weights: Annotated[
        Literal["float32", "int8"],
        Meta(
            description="int8: rounded, a quarter of the bytes; of an lstm, for one text at a time, with the extra int8"
        ),
    ] = "float32"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides a run, in four sections."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


def with_a_limit(settings: Settings) -> Settings:
    """The settings, with one minute of training if they set no limit at all."""
    training = settings.training
    if training.max_steps is None and training.max_epochs is None and training.max_minutes is None:
        training = structs.replace(training, max_minutes=DEFAULT_MINUTES)
    return structs.replace(settings, training=training)


def contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every check across fields that fails: the dotted path of the field to change, and what is wrong with it."""
    data, model, training = settings.data, settings.model, settings.training
    if abs(sum(data.split) - 1) > 1e-6:
        yield "data.split", f"sums to {sum(data.split):.7g}, but its three fractions must sum to 1"
    if data.split[0] == 0:
        yield "data.split", "leaves nothing to train on, but its first fraction must be above 0"
    if data.unit == "byte" and data.min_count > 1:
        yield "data.min_count", f"is {data.min_count}, but must be 1 where data.unit is byte"

    if data.documents == "record" and (data.field is None) == (data.column is None):
        given = "neither data.field nor data.column is" if data.field is None else "data.field and data.column are both"
        yield "data.documents", f"is record, but {given} set: one of them must name where the text of a record is"
    for name in ("field", "column"):
        if data.documents != "record" and getattr(data, name) is not None:
            yield (
                f"data.{name}",
                f"is set, but means something only where data.documents is record, not {data.documents}",
            )
    if data.unit == "byte" and data.normalize != "none":
        yield "data.normalize", f"is {data.normalize}, but must be none where data.unit is byte"
    if training.beginning_lanes != "auto" and training.beginning_lanes >= training.batch_size:
        problem = f"is {training.beginning_lanes}, but must be below training.batch_size, {training.batch_size}"
        yield "training.beginning_lanes", f"{problem}: the other lanes read the text from end to end"

    if data.documents != "stream" and training.beginning_lanes not in ("auto", 0):
        problem = f"is {training.beginning_lanes}, but must be auto or 0 where data.documents is {data.documents}"
        yield "training.beginning_lanes", f"{problem}: every document is read from its beginning"

    if model.kernel == "builtin" and model.cell.startswith("peephole"):
        yield "model.kernel", f"is builtin, but torch has no kernel for {model.cell}: it must be auto or unrolled"

    if model.bidirectional and model.objective == "next":
        problem = "is true, so the model sees the next character that model.objective next asks for"
        yield "model.bidirectional", f"{problem}: set model.objective to cloze, or model.bidirectional to false"
    if model.objective == "cloze" and not model.bidirectional:
        problem = "is cloze, which looks at the text on both sides of a character"
        yield "model.objective", f"{problem}: set model.bidirectional to true as well"
