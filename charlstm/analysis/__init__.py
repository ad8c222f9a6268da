"""What a trained model did while it read a text, as arrays, a page and pictures, and the curves of training runs.

Loads NumPy alone; the pictures load matplotlib, of the extra `plot`, when they are drawn.
"""

from charlstm.analysis.correlated_units import CorrelatedUnit, find_correlated_units
from charlstm.analysis.curves import AXES, Curve, name_curves, read_curve
from charlstm.analysis.gates import GateActivity, open_and_shut, read_gates, read_memory
from charlstm.analysis.inspection import (
    LEAST_STUDIED_CHARS,
    Inspection,
    choose_unit,
    describe_unit,
    inspect_text,
    inspection_arrays,
)
from charlstm.analysis.page import gates_page
from charlstm.analysis.pictures import curves_picture, gates_picture
from charlstm.analysis.symbols import text_of, visible_symbols
from charlstm.analysis.text_features import TextFeatures, text_features
