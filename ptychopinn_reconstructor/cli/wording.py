"""Messages in the words of the command line: options in place of settings and arguments."""

from __future__ import annotations

from ..config import FieldInfo, translate

# Settings that the command line takes by an argument of its own.
OWN_ARGUMENTS = {
    'train_data_file': 'SCAN',
    'test_data_file': '--validation',
    'output_dir': '--output-dir',
    'model_path': '--model',
    'progress': '--quiet',
}
ARGUMENTS = {
    'probe=': '--probe FILE[:KEY]',
    'photons=': '--photons',
    'initial=': '--from',
    'resume=True': '--resume',
    'pixel_size=': '--pixel-size METERS',
    'positions=': '--positions',
    'keys=': '--key NAME=DATASET',
}


def name_option(row: FieldInfo) -> str:
    """How a setting is given on the command line."""
    return OWN_ARGUMENTS.get(row.name, row.option)


def say(text: str) -> str:
    """Message that names options of the command line."""
    return translate(text, _name_setting, ARGUMENTS)


def _name_setting(row: FieldInfo, value: str) -> str:
    option = name_option(row)
    if value in ('', 'true'):
        return option
    return f'--no-{option[2:]}' if value == 'false' else f'{option} {value}'
