"""What a model can be trained for, by the names of `model.objective`, and the names of its figures, without torch."""

from collections.abc import Mapping
from typing import NamedTuple

from charlstm.settings.schema import Settings


class ObjectiveUse(NamedTuple):
    """What a run of an objective does, and the command that uses it for its purpose."""

    does: str
    purpose: str
    command: str
    options: str = ""
    figure_prefix: str = ""


OBJECTIVE_USES: Mapping[str, ObjectiveUse] = {
    "next": ObjectiveUse("predicts the next character", "sample", "charlstm sample", " --temp 0.8 --top-k 10"),
    "cloze": ObjectiveUse("fills gaps", "fill gaps", "charlstm fill", figure_prefix="cloze_"),
}


class Naming(NamedTuple):
    """What the figures of a run are called: those of two objectives, or of characters and bytes, do not compare."""

    prefix: str = ""
    unit: str = "char"

    @classmethod
    def of(cls, settings: Settings) -> "Naming":
        """That of a run."""
        return cls(OBJECTIVE_USES[settings.model.objective].figure_prefix, settings.data.unit)

    def name(self, figure: str) -> str:
        """The name of a figure, as in "val_cloze_bits_per_byte" for "val_bits_per_char"."""
        validation, bare = ("val_", figure[4:]) if figure.startswith("val_") else ("", figure)
        prefix = self.prefix if bare in ("loss", "bits_per_char", "perplexity", "accuracy") else ""
        return f"{validation}{prefix}{bare.replace('char', self.unit)}"


PLAIN = Naming()  # of next characters
