"""The machine that torch runs on: device, precision, memory, and a batch's shards over its cores."""

from charlstm.machine.device import Machine, prepare_evaluation, prepare_training, training_speed
from charlstm.machine.shards import Shards
