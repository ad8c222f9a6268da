"""Small cells worked by hand: the example's file, the work step by step, what one step of Adam teaches, and pictures.

`pictures` needs matplotlib and is imported by its name.
"""

from charlstm.teaching.example_file import load_example
from charlstm.teaching.worked_example import Example, Lesson, input_gradients, learn, walk
from charlstm.teaching.worksheet import Stage, Work, work_out
