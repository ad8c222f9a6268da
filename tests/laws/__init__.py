"""The laws of a recurrent cell, each a function that holds a cell, right or wrong, against what must be so.

A law takes a `Subject` (a cell under the name of the equations it claims, with what runs it) and returns the largest
difference it found, to be at most the law's tolerance. The tests hold every cell to every law; the mutation tests hold
wrong cells to them, and each must break one.
"""

from itertools import product

from . import equations, running  # noqa: F401 - they enter their laws
from .subjects import LAWS, SUBJECTS, Law, Subject


def obeys(subject: Subject, law: Law) -> bool | None:
    """Whether the subject obeys the law; None if it cannot be run."""
    try:
        return law.difference(subject) <= law.tolerance
    except AssertionError:
        return False
    except Exception:
        return None


PAIRS = [(of, what) for of, what in product(LAWS, SUBJECTS) if LAWS[of].concerns(SUBJECTS[what])]
