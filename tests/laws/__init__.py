"""The laws of a recurrent cell, each a function that holds a cell, right or wrong, against what must be so.

A law takes a `Subject` (a cell under the name of the equations it claims, with what runs it) and returns the largest
difference it found, to be at most the law's tolerance. The tests hold every cell to every law; the mutation tests hold
wrong cells to them, and each must break one.
"""

from itertools import product

from .equations import FROM_GATES
from .running import KERNEL_MODULES
from .subjects import LAWS, SUBJECTS, B, E, H, L, Law, Subject, T, V, random_core, random_step, random_text, randoms

__all__ = [
    "FROM_GATES",
    "KERNEL_MODULES",
    "LAWS",
    "PAIRS",
    "SUBJECTS",
    "B",
    "E",
    "H",
    "L",
    "Law",
    "Subject",
    "T",
    "V",
    "obeys",
    "random_core",
    "random_step",
    "random_text",
    "randoms",
]


def obeys(subject: Subject, law: Law) -> bool | None:
    """Whether the subject obeys the law; None if it cannot be run."""
    try:
        return law.difference(subject) <= law.tolerance
    except AssertionError:
        return False
    except Exception:
        return None


PAIRS = [(of, what) for of, what in product(LAWS, SUBJECTS) if LAWS[of].concerns(SUBJECTS[what])]
