"""Small cells worked by hand: the example's file, the work step by step, what Adam teaches, torch's kernel beside it.

`pictures` and `cell_picture` need matplotlib and are imported by their names.
"""

from charlstm.teaching.drawn_example import draw_example
from charlstm.teaching.example_file import load_example
from charlstm.teaching.kernel import KERNELS, Comparison, compare_with_kernel
from charlstm.teaching.worked_example import Example, Lesson, input_gradients, learn, walk
from charlstm.teaching.worksheet import Stage, Work, rounded, short, work_out
