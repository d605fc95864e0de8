"""Documents name what is there: files, links, codes, commands, the version. Reads texts, and runs the examples."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest

import ptychopinn_reconstructor
from ptychopinn_reconstructor.diagnosis.finding import FindingCode
from ptychopinn_reconstructor.events import NoticeCode
from ptychopinn_reconstructor.result import ReasonCode

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


def list_anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    titles = re.findall(r'^#+ (.+)$', re.sub(r'^```.*?^```', '', document.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r'[^\w -]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_link_into_a_document_leads_to_a_heading(document: Path) -> None:
    found = re.findall(r'\]\(([^)#:\s]*)#([\w-]+)\)', document.read_text(encoding='utf-8'))
    missing = [
        f'{name}#{anchor}'
        for name, anchor in found
        if anchor not in list_anchors(document.parent / name if name else document)
    ]
    assert not missing


ENTRY = re.compile(r'^- \[[^]]*\]\(([^)#:\s]+\.md)\)', re.MULTILINE)


def test_every_page_of_the_site_is_listed_once() -> None:
    """An entry of an index page is a line of a list; the decisions are all of their folder."""
    pages: list[Path] = []
    indexes = [ROOT / 'docs' / 'index.md']
    for index in indexes:
        listed = [(index.parent / name).resolve() for name in ENTRY.findall(index.read_text(encoding='utf-8'))]
        pages += listed
        indexes += [page for page in listed if page.name == 'index.md']
    assert len(indexes) == 6 and len(pages) == len({*pages})
    expected = [path for path in DOCUMENTS if path.name != 'README.md' or path.parent.parent.name == 'examples']
    expected = [path for path in expected if not re.match(r'\d{4}-', path.name) and path != indexes[0]]
    assert sorted(pages) == sorted(expected)


def test_documents_are_found_and_have_links() -> None:
    assert len(DOCUMENTS) > 30
    assert sum(len(LINK.findall(path.read_text(encoding='utf-8'))) for path in DOCUMENTS) > 40


def test_the_first_page_is_short() -> None:
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 150


def test_a_decision_record_says_context_decision_and_consequences() -> None:
    records = sorted((ROOT / 'docs' / 'decisions').glob('[0-9]*.md'))
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


DOCS = ROOT / 'docs'


def read_page(name: str) -> str:
    return (DOCS / name).read_text(encoding='utf-8')


def test_every_fault_has_a_section() -> None:
    sections = re.findall(r'^### (\w+)$', read_page('how-to/faults.md'), re.MULTILINE)
    assert sorted(sections) == sorted(get_args(FindingCode))


@pytest.mark.parametrize(
    ('page', 'codes'), [('how-to/read-the-verdict.md', ReasonCode), ('reference/notices.md', NoticeCode)]
)
def test_every_code_has_a_row(page: str, codes: Any) -> None:
    cells = re.findall(r'^\| ((?:`\w+`(?:, )?)+) \|', read_page(page), re.MULTILINE)
    assert sorted(re.findall(r'\w+', ' '.join(cells))) == sorted({*get_args(codes)})


def test_every_error_is_in_the_reference_with_a_paragraph() -> None:
    """Those of `errors` by their docstrings, more than the one line of other classes."""
    page = read_page('reference/errors.md')
    sources = [*(ROOT / 'ptychopinn_reconstructor').rglob('*.py'), *(ROOT / 'backends').rglob('*.py')]
    trees = {path: ast.parse(path.read_text(encoding='utf-8')) for path in sources}
    classes = [
        (path, node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    known = {'PtychoPINNError'}
    while more := {node.name for _, node in classes if {ast.unparse(base) for base in node.bases} & known} - known:
        known |= more
    assert len(known) > 15
    for path, node in classes:
        if node.name not in known:
            continue
        if path.name != 'errors.py':
            assert node.name in page, node.name
        if path.name == 'errors.py' or f'.{node.name}\n' in page:
            assert len((ast.get_docstring(node) or '').split('\n\n')) > 1, node.name


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(
        r'^\.\. auto(?:function|class):: (\w+)(?:\(\))?$', read_page('reference/python.md'), re.MULTILINE
    )
    assert {*ptychopinn_reconstructor.__all__} - {'__version__', 'PtychoPINNError'} <= {*named}


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_python_of_a_document_is_python(document: Path) -> None:
    for block in re.findall(r'^```python\n(.*?)^```', document.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL):
        ast.parse(block)


@pytest.mark.parametrize('page', ['how-to/python.md'])
def test_the_examples_of_a_page_run(page: str) -> None:
    blocks = re.findall(r'^```\{doctest\}\n(.*?)^```', read_page(page), re.MULTILINE | re.DOTALL)
    test = doctest.DocTestParser().get_doctest('\n'.join(blocks), {}, page, page, 0)
    assert len(test.examples) > 10
    told: list[str] = []
    assert not doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append).failed, ''.join(told)
