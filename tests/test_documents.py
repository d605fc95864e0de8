"""Documents name what is there: files, links, the version. Reads texts alone."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import ptychopinn_reconstructor

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('docs', 'specs', 'benchmarks', 'examples')
DOCUMENTS = sorted([*ROOT.glob('*.md'), *(path for folder in FOLDERS for path in (ROOT / folder).rglob('*.md'))])
LINK = re.compile(r'\]\(([^)#\s]+)(?:#[\w-]*)?\)')
NAMED = re.compile(
    r'`((?:docs|specs|benchmarks|tests|configs|backends|ptychopinn_reconstructor)/[\w./-]*\w|examples/[\w/]+\.\w+)`'
)


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding='utf-8')
    links = [link for link in LINK.findall(text) if '://' not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    assert not missing


def test_documents_are_found_and_have_links() -> None:
    assert len(DOCUMENTS) > 30
    assert sum(len(LINK.findall(path.read_text(encoding='utf-8'))) for path in DOCUMENTS) > 40


def test_the_first_page_is_short() -> None:
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 150


def test_a_decision_record_says_context_decision_and_consequences() -> None:
    records = sorted((ROOT / 'docs' / 'decisions').glob('*.md'))
    assert [int(path.name[:4]) for path in records] == [*range(1, len(records) + 1)]
    for path in records:
        text = path.read_text(encoding='utf-8')
        assert text.startswith(f'# {int(path.name[:4])}. '), path.name
        assert re.findall(r'^## (\w+)$', text, re.MULTILINE) == ['Context', 'Decision', 'Consequences'], path.name


def test_the_version_is_that_of_the_changelog_and_of_the_citation() -> None:
    version = ptychopinn_reconstructor.__version__
    sections = re.findall(r'^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert sections[0] == version
    assert f'\nversion: {version}\n' in (ROOT / 'CITATION.cff').read_text()


def test_the_projects_links_stand_in_one_place() -> None:
    urls = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']['urls']
    home = urls['Homepage']
    assert all(url.startswith(home) for url in urls.values())
    assert [path.name for path in DOCUMENTS if home in path.read_text(encoding='utf-8')] == []


def test_every_option_that_a_document_names_exists() -> None:
    from command_line import load_commands

    options = [option for command in load_commands().values() for option in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    known |= {'--help', '--force', '--only'}  # of click, and of benchmarks/quality.py
    known |= {
        '--nproc-per-node',
        '--nnodes',
        '--rdzv-backend',
        '--rdzv-endpoint',
        '--nodes',
        '--ntasks-per-node',
        '--gpus-per-node',
    }  # of torchrun and srun
    for document in (path for path in DOCUMENTS if path.parent.name not in ('benchmarks', 'specs')):
        named = set(re.findall(r'(?<![\w-])--[a-z][a-z-]+', document.read_text(encoding='utf-8')))
        assert named <= known, document


BLOCK = re.compile(r'^ *```(?:sh|bash|console)\n(.*?)^ *```', re.MULTILINE | re.DOTALL)
INLINE = re.compile(r'`(ptychopinn [a-z]+ [^`]*--[^`]+)`')


def quoted_commands(text: str) -> Iterator[str]:
    """Commands of ours in the blocks and lines of a document, without prompts, pipes, redirections, others."""
    for block in BLOCK.findall(text):
        for line in block.replace('\\\n', ' ').splitlines():
            for part in re.split(r'\s(?:&&|\||;|&|>|2>)(?:\s|$)', line.strip().removeprefix('$ ')):
                if part.strip().startswith('ptychopinn '):
                    yield part.strip()
    yield from (found.replace('\n', ' ') for found in INLINE.findall(BLOCK.sub('', text)))


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_that_a_document_quotes_can_be_given(document: Path) -> None:
    """Their options exist and take the values named; what the files hold is not asked."""
    from command_line import load_commands

    known = load_commands()
    for line in quoted_commands(document.read_text(encoding='utf-8')):
        words = shlex.split(line, comments=True)[1:]
        if words[0].startswith('-'):
            continue
        try:
            known[words[0]].make_context(words[0], words[1:])
        except click.exceptions.Exit:  # of --help
            pass
        except click.ClickException as error:
            pytest.fail(f'{line}: {error.format_message()}')


def test_commands_are_found_in_documents() -> None:
    found = [line for path in DOCUMENTS for line in quoted_commands(path.read_text(encoding='utf-8'))]
    assert len(found) > 30 and len({line.split()[1] for line in found}) > 7
