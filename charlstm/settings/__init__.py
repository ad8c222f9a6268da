"""The settings of a run: their schema, their reader, which reads other YAML documents too, and their reference page."""

from charlstm.settings.objectives import OBJECTIVE_USES, PLAIN, Naming
from charlstm.settings.reader import (
    MAX_SETTINGS_BYTES,
    AskedSettings,
    dump_settings,
    load_asked_settings,
    load_settings,
    load_yaml,
    override_setting,
    override_settings,
    parse_settings,
    read_document,
)
from charlstm.settings.reference import settings_reference, settings_schema
from charlstm.settings.schema import CellName, DataSettings, ModelSettings, SamplingSettings, Settings, TrainingSettings
from charlstm.settings.wording import expected, plain
from charlstm.settings.yaml12 import Located, dump_yaml, read_yaml
