"""The example notebooks: stored without outputs, and executed from the first cell to the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scans import backend_options

EXAMPLES = Path(__file__).resolve().parents[1] / 'examples'
NOTEBOOKS = sorted(EXAMPLES.glob('*.ipynb'))
SHOWN = {'first_reconstruction.ipynb': ['Scan(', 'TrainingResult(', 'Result('], 'pretrain_and_judge.ipynb': ['Model(']}
CPU_SECONDS = 120  # that a notebook may take; its words say a minute or so


def test_there_are_notebooks() -> None:
    assert {path.name for path in NOTEBOOKS} == SHOWN.keys()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    code = [cell for cell in cells if cell['cell_type'] == 'code']
    assert len(code) >= 5 and len(cells) > len(code)
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code)


@pytest.mark.slow
@pytest.mark.skipif(bool(backend_options()), reason='PyTorch, the default backend of the examples, is not installed')
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """In a kernel of its own, in an empty folder: pictures, one line of progress a job, nothing on stderr."""
    nbformat = pytest.importorskip('nbformat', reason='nbclient, of the dev extra, is not installed')
    client = pytest.importorskip('nbclient', reason='nbclient, of the dev extra, is not installed')
    pytest.importorskip('ipykernel', reason='ipykernel, of the dev extra, is not installed')
    book: Any = nbformat.read(path, as_version=4)
    book.cells.append(nbformat.v4.new_code_cell('import time\nprint("CPU", time.process_time())'))
    client.NotebookClient(
        book, timeout=600, kernel_name='python3', resources={'metadata': {'path': tmp_path}}
    ).execute()
    outputs = [output for cell in book.cells for output in cell.get('outputs', [])]
    shown = [output['data'] for output in outputs if 'data' in output]
    assert [output for output in outputs if output.get('name') == 'stderr'] == []
    for begin in SHOWN[path.name]:
        assert any(one['text/plain'].startswith(begin) and '<img' in one['text/html'] for one in shown), begin
    assert any('image/png' in one for one in shown), 'the figure of plot()'
    lines = [one['text/plain'] for one in shown if '<progress' in one.get('text/html', '')]
    assert lines and all(line.startswith('done in ') for line in lines), 'each line tells the end of its job'
    assert float(outputs[-1]['text'].split()[1]) < CPU_SECONDS
