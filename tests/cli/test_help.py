"""What --help says happens: defaults, and what is required."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from command_line import load_commands, run

from ptychopinn_reconstructor.cli.options import SEPARATOR
from ptychopinn_reconstructor.config import FINE_TUNING, Config
from ptychopinn_reconstructor.experiments.study import Study
from ptychopinn_reconstructor.physics.engine.options import LOOSE, WELL_TIED, WITH_PROBE, automatic_passes
from ptychopinn_reconstructor.physics.scoring.metrics import default_margin
from ptychopinn_reconstructor.physics.simulation.simulate import DEFAULT_SIZE
from ptychopinn_reconstructor.result import NOMINAL_PIXEL_SIZE

MODEL = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'
COMMANDS = load_commands()
SAID = re.compile(r'\[default: ([^;\]]*)')
# Defaults in words, which depend on what is given.
IN_WORDS = {
    ('simulate', 'fresnel_number'), ('convert', 'positions'), ('pretrain', 'probe'), ('pretrain', 'photons'),
    ('refine', 'initial'), ('evaluate', 'truth'), ('compare', 'backends'), ('compare', 'truth'), ('study', 'gridsize'),
    ('study', 'train_patterns'), ('study', 'pretrained'), ('verify', 'backend'), ('export', 'output'),
    ('show', 'port'), ('live', 'center'), ('live', 'port'), ('live', 'page'), ('live', 'scratch'),
}  # fmt: skip
PRINTING: dict[str, tuple[str, ...]] = {
    'train': ('--output-dir', 'x'),
    'pretrain': ('--output-dir', 'x'),
    'reconstruct': ('--output-dir', 'x', '--model', str(MODEL), 'scan.npz'),
    'refine': ('--output-dir', 'x', 'scan.npz'),
    'watch': ('--output-dir', 'x', '--model', str(MODEL), 'folder'),
}


def options(name: str) -> Iterator[tuple[click.Option, str]]:
    """Options of a command, each with its line in --help."""
    context = click.Context(COMMANDS[name])
    for parameter in COMMANDS[name].get_params(context):
        if isinstance(parameter, click.Option):
            yield parameter, (parameter.get_help_record(context) or ('', ''))[1]


def describe(value: Any) -> str:
    """A value in one word, numbers without trailing zeros."""
    return f'{value:g}' if isinstance(value, float) else str(value)


@pytest.mark.parametrize('name', COMMANDS)
def test_no_option_tells_two_defaults(name: str) -> None:
    assert [option.name for option, line in options(name) if line.count('default:') > 1] == []


@pytest.mark.parametrize('name', PRINTING)
def test_the_default_of_a_setting_is_what_the_command_takes(name: str) -> None:
    """As its --print-config shows it, where nothing else is given."""
    taken = yaml.safe_load(run(name, *PRINTING[name], '--print-config').stdout)
    settings = [(option, line) for option, line in options(name) if SEPARATOR in str(option.name)]
    assert len(settings) > 15
    for option, line in settings:
        section, _, field = str(option.name).partition(SEPARATOR)
        value, said = taken[section][field], SAID.search(line)
        assert describe(None if said is None else yaml.safe_load(said[1])) == describe(value), option.name


@pytest.mark.parametrize('name', COMMANDS)
def test_the_default_of_an_own_option_is_what_its_function_takes(name: str) -> None:
    """Of click's own, click tells it itself; the others are compared with what is used instead of them."""
    for option, line in options(name):
        said = SAID.search(line)
        if said is None or SEPARATOR in str(option.name) or (name, option.name) in IN_WORDS:
            continue
        text, value = said[1].strip(), option.get_default(click.Context(COMMANDS[name]))
        if option.name == 'margin':
            assert text == f'N/16, or {default_margin(None)} where N is unknown' and default_margin(160) == 160 // 16
        elif option.name == 'pixel_size':
            assert float(text.split(',')[0]) == NOMINAL_PIXEL_SIZE
        elif (name, option.name) == ('simulate', 'n'):
            assert text.split(',')[0] == str(DEFAULT_SIZE)
        elif name == 'study' and option.name in Study.model_fields:
            used = getattr(Study(), option.name)
            assert (
                [type(value)(part) for value, part in zip(used, text.split(','), strict=True)] == [*used]
                if (isinstance(used, tuple))
                else type(used)(text) == used
            ), option.name
        else:
            assert text == str(value), option.name


def test_numbers_in_the_descriptions_of_settings_are_those_that_are_used() -> None:
    lines = {str(option.name): line for name in ('train', 'refine') for option, line in options(name)}
    fewest = automatic_passes(WELL_TIED, from_network=True, more=False)
    assert f'{fewest} to {automatic_passes(LOOSE, from_network=False, more=False)}.' in lines['refinement__passes']
    for name in ('refinement__probe', 'refinement__positions'):
        assert f'{WITH_PROBE} passes or more unless they are set' in lines[name]
    rate = re.search(r'starts from a model ([\de.-]+) unless', lines['training__learning_rate'])
    assert rate is not None and float(rate[1]) == FINE_TUNING['training']['learning_rate']
    assert Config().training.learning_rate != float(rate[1])


@pytest.mark.parametrize('name', COMMANDS)
def test_what_click_asks_for_is_marked_as_required(name: str) -> None:
    """Options as [required], arguments by having no brackets."""
    context = click.Context(COMMANDS[name])
    assert [option.name for option, line in options(name) if option.required and '[required]' not in line] == []
    for argument in COMMANDS[name].params:
        if isinstance(argument, click.Argument):
            assert argument.required is not argument.make_metavar(context).startswith('[') or name == 'train'


@pytest.mark.parametrize(
    ('line', 'needed'),
    [
        (('train', 'scan.npz'), '--output-dir'),
        (('train', '--output-dir', 'x'), 'SCAN'),
        (('pretrain', 'scan.npz'), '--output-dir'),
        (('reconstruct', 'scan.npz', '--output-dir', 'x'), '--model'),
    ],
)
def test_what_the_configuration_may_name_is_marked_as_required_too(
    line: tuple[str, ...], needed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = run(*line)
    assert refused.exit_code == 2 and needed in refused.stderr
    shown = run(line[0], '--help').stdout
    marked = [line for _, line in options(line[0]) if '[required, unless the configuration names it]' in line]
    assert (f'{needed}...' if needed == 'SCAN' else needed) in shown and len(marked) == 1
