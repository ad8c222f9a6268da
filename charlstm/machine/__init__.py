"""The machine that torch runs on: device, precision, memory, and a batch's shards over its cores, and over others."""

from charlstm.machine.autotuning import Pass, Work
from charlstm.machine.device import Machine, prepare_evaluation, prepare_training, training_speed
from charlstm.machine.meeting import Meeting, join_processes
from charlstm.machine.processes import ALONE, Processes
from charlstm.machine.shards import Shards
