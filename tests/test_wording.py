"""What messages call a setting: Python's name where they are made, the place's own where they are shown."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ptychopinn_reconstructor
from ptychopinn_reconstructor.cli.wording import say

# Where command lines are made or explained; a finding of `diagnose` may name what it can be told.
OF_THE_COMMAND_LINE = ('cli', 'experiments', 'conformance', 'diagnosis', 'config')
OPTION = re.compile(r'(?<![\w-])--[a-z]')
COMMANDS = ('pip install', 'ptychopinn ', 'torchrun ')


def sources() -> Iterator[Path]:
    root = Path(ptychopinn_reconstructor.__file__).parent
    for path in (*root.rglob('*.py'), *(root.parent / 'backends').rglob('*.py')):
        if path.relative_to(root.parent).parts[1] not in OF_THE_COMMAND_LINE:
            yield path


def sentences(path: Path) -> Iterator[str]:
    """The text constants of a module but its docstrings."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    documented = [
        node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    docstrings = {id(node.value) for node in documented}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_message_of_the_library_names_an_option_of_the_command_line() -> None:
    found = [
        f'{path.name}: {text}'
        for path in sources()
        for text in sentences(path)
        if OPTION.search(text) and ' ' in text and not any(command in text for command in COMMANDS)
    ]
    assert not found


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('set data.probe_power=from_counts.', 'set --probe-power from_counts.'),
        ('try refinement.positions=true and refinement.probe=true', 'try --refine-positions and --refine-probe'),
        ('do not mend (data.as_is=false)', 'do not mend (--no-as-is)'),
        ('to 7 times noise (refinement.passes=auto)', 'to 7 times noise (--passes auto)'),
        ('with training.refine_probe_first=20.', 'with --refine-probe-first 20.'),
        ('hand one in (probe=).', 'hand one in (--probe FILE[:KEY]).'),
        ('leave out resume=True to train', 'leave out --resume to train'),
        ('no setting training.nepoch in model.safetensors', 'no setting training.nepoch in model.safetensors'),
        ('the largest of probe=3 in /scans/data.npz', 'the largest of probe=3 in /scans/data.npz'),
    ],
)  # fmt: skip
def test_the_command_line_names_its_options(text: str, expected: str) -> None:
    assert say(text) == expected
