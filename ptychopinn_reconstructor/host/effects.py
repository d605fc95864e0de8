"""Which settings of the panel have no effect beside the others, and why; and the size of a region that results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model_file.manifest import NETWORK_SETTINGS
from .fields import LABELS, SOURCES

if TYPE_CHECKING:
    from .settings import PluginSettings

# What the effects and the region follow from.
DECISIVE = ('source', 'start_from_model', 'start_from_object', 'passes', 'resume')
OF_REGIONS = ('gridsize', 'neighbor_count', 'object_big', 'positions_provided')
OF_MODELS = ('further_models', 'sync_neighbors', 'middle_trim', 'inference_batch_size', 'debug')


def explain_no_effect(name: str, settings: PluginSettings, model_type: str) -> str:
    """Why a setting has no effect now; empty where it has one."""

    def checked(setting: str) -> bool:
        return bool(settings[setting].get_value())

    row, source = settings.rows.get(name), str(settings['source'].get_value())
    if row is not None and not row.has_effect(model_type, source):
        return f"No effect with '{LABELS['source']}': {dict(SOURCES).get(source, source)}."
    if checked('start_from_model') and not checked('resume') and name in NETWORK_SETTINGS:
        return f"The network is that of the model, from which Train starts ('{LABELS['start_from_model']}')."
    if checked('start_from_object') and (
        name in OF_MODELS or (name == 'model_path' and not checked('start_from_model'))
    ):
        return f"No model is used ('{LABELS['start_from_object']}')."
    if row is not None and row.section == 'refinement' and name != 'passes' and settings['passes'].get_value() == 0:
        return f"No passes are made ('{LABELS['passes']}' is 0)."
    return ''


def describe_region(settings: PluginSettings) -> str:
    """How many patterns must agree with each other in a training."""
    from ..physics.grouping import region_size

    values = {name: settings[name].get_value() for name in OF_REGIONS}
    if not (values['object_big'] and values['positions_provided']):
        return '1 pattern, each alone'
    return f'{region_size(int(values["gridsize"]), int(values["neighbor_count"]))} patterns that must agree'
