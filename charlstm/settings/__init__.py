"""The settings of a run: their schema, their reader and their reference page."""

from charlstm.settings.objectives import OBJECTIVES
from charlstm.settings.settings import (
    MAX_SETTINGS_BYTES,
    Cell,
    DataSettings,
    ModelSettings,
    SamplingSettings,
    Settings,
    TrainingSettings,
    dump_settings,
    load_settings,
    override_setting,
    override_settings,
    parse_settings,
    settings_reference,
    settings_schema,
)
from charlstm.settings.yaml12 import plain, read_yaml

__all__ = [
    "MAX_SETTINGS_BYTES",
    "OBJECTIVES",
    "Cell",
    "DataSettings",
    "ModelSettings",
    "SamplingSettings",
    "Settings",
    "TrainingSettings",
    "dump_settings",
    "load_settings",
    "override_setting",
    "override_settings",
    "parse_settings",
    "plain",
    "read_yaml",
    "settings_reference",
    "settings_schema",
]
