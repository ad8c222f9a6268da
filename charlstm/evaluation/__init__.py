"""How well a model predicts a text: protocols of reading it, and tallies that are added up and divided once."""

from charlstm.evaluation.dynamic import DynamicRule, evaluate_dynamic
from charlstm.evaluation.protocols import DOCUMENTS, EVALUATED_LANES, Evaluation, evaluate
from charlstm.evaluation.tally import Tally
