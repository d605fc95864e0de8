"""Settings and arguments that a message names, in the words of the place that shows it.

A message names a setting as Python and YAML do, `training.nepochs`, or with a value, `data.probe_power=from_counts`;
and an argument of a function as `probe=` or `resume=True`. Command line and window put their own words in the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .table import FieldInfo, field_table
from .whole import SECTIONS

SETTING = re.compile(rf'(?<!Setting )\b({"|".join(SECTIONS)})\.([A-Za-z]\w*)(?:=([\w.]*\w))?')
ARGUMENT = re.compile(r'\b(?:(?:probe|photons|initial)=(?!\w)|resume=True\b)')
# Names a setting, given with a value or ''.
NameSetting = Callable[[FieldInfo, str], str]


def translate(text: str, name_setting: NameSetting, arguments: Mapping[str, str]) -> str:
    """Message with the settings and arguments that it names in other words; what names none of them is kept."""
    rows = {(row.section, row.name): row for row in field_table()}

    def name(match: re.Match[str]) -> str:
        row = rows.get((match[1], match[2]))
        return match[0] if row is None else name_setting(row, match[3] or '')

    return ARGUMENT.sub(lambda match: arguments[match[0]], SETTING.sub(name, text))
