"""What runs a trained model's weights, by the objective that they were trained for."""

from charlstm.errors import RunError
from charlstm.inference.engine import Engine, Stepper, directions
from charlstm.inference.fast_lstm import FastLSTM
from charlstm.settings import ModelSettings
from charlstm.weights import Weights


def build_stepper(weights: Weights, settings: ModelSettings, *, where: object = "the model") -> Stepper:
    """The fastest stepper of a model of the next character: `FastLSTM` for an lstm, else the engine itself.

    where: names the model in the RunError raised if it was trained to fill gaps.
    """
    if settings.objective == "cloze":
        raise RunError(f"{where} was trained to fill gaps, not to go on with a text: use `charlstm fill`")
    engine = Engine(weights, settings)
    return FastLSTM(engine) if settings.cell == "lstm" else engine


def build_directions(
    weights: Weights, settings: ModelSettings, *, where: object = "the model"
) -> tuple[Engine, Engine]:
    """The two engines of a cloze model, one to step forwards and one backwards; the logits of a gap are their sum.

    where: names the model in the RunError raised if it predicts the next character.
    """
    if settings.objective != "cloze":
        raise RunError(
            f"{where} predicts the next character, which fills no gaps: "
            "train a run with model.bidirectional true and model.objective cloze, or use `charlstm sample`"
        )
    return directions(weights, settings)
