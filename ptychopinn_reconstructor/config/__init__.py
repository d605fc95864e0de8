"""What can be set, its unit, its range, and where else it is known by which name.

YAML files, Ptychodus INI settings and the command line all build a `Config`; `field_table()` lists the settings.
"""

from .fields import AUTO, PLUGIN_SECTION, Section
from .sections import DataConfig, ExecutionConfig, InferenceConfig, ModelConfig, RefinementConfig, TrainingConfig
from .table import FieldInfo, applicable, field_table, section_of
from .whole import FINE_TUNING, FORMAT_VERSION, SECTIONS, Config, migrate, parse
from .wording import translate

__all__ = [
    'AUTO',
    'FINE_TUNING',
    'FORMAT_VERSION',
    'PLUGIN_SECTION',
    'SECTIONS',
    'Config',
    'DataConfig',
    'ExecutionConfig',
    'FieldInfo',
    'InferenceConfig',
    'ModelConfig',
    'RefinementConfig',
    'Section',
    'TrainingConfig',
    'applicable',
    'field_table',
    'migrate',
    'parse',
    'section_of',
    'translate',
]
