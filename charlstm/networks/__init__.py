"""The networks in torch: recurrent cores over a cell's equations, the models built on them, and their objectives."""

from charlstm.networks.cores import Core, build_core, join_lanes, lanes_of, reset_lanes
from charlstm.networks.models import CharLM, ClozeLM, inherit_weights
from charlstm.networks.objectives import OBJECTIVES, UNCOUNTED, Model, Objective
