"""What a wheel and an sdist hold, built from a copy of the tree: an editable install hides what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import ptychopinn_reconstructor

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'ptychopinn_reconstructor'
FOLDERS = {PACKAGE: ROOT / PACKAGE} | {f'{PACKAGE}.{name}': ROOT / name for name in ('backends', 'configs', 'examples')}
DATA = ('.yaml', '.md', '.sh', '.ini', '.toml', '.html', '.ipynb', '.png', '.npz')  # presets, what `init` writes, pages
OTHER_PROJECT = ROOT / 'examples' / 'third_backend'  # with a pyproject.toml of its own; data of this one
# Ptychodus looks for plugins in its own folder: one file of the wheel lies there, and comes from a folder of ours.
PLUGINS = 'ptychodus.plugins'
SHIMS = ROOT / PACKAGE / 'host' / 'ptychodus_plugins'
SHIM = 'ptychodus/plugins/ptychopinn_reconstructor.py'
PROJECT: dict[str, Any] = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))


def _packages_in_the_tree() -> set[str]:
    found = set()
    for package, folder in FOLDERS.items():
        for init in folder.rglob('__init__.py'):
            found.add('.'.join([package, *init.parent.relative_to(folder).parts]))
    return found | {PLUGINS}


def _installed_files() -> set[str]:
    """Every source, preset, example and marker of the tree, where a wheel must put it."""
    expected = {SHIM}
    for package, folder in FOLDERS.items():
        for path in folder.rglob('*'):
            if SHIMS not in path.parents and (path.suffix in ('.py', *DATA) or path.name == 'py.typed'):
                expected.add('/'.join([*package.split('.'), *path.relative_to(folder).parts]))
    return expected


@pytest.fixture(scope='module')
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist; the wheel is built from the unpacked sdist, as an installer would do it."""
    pytest.importorskip('build', reason='the package build, of the dev extra, is not installed')
    tree = tmp_path_factory.mktemp('tree') / 'checkout'
    hidden = shutil.ignore_patterns('.*', '__pycache__', '*.egg-info', 'build', 'dist', 'demo')
    shutil.copytree(ROOT, tree, ignore=hidden)
    (tree / 'README.md').touch()
    command = [sys.executable, '-P', '-m', 'build', '--no-isolation', '--outdir', str(tree / 'dist'), str(tree)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return tree / 'dist'


@pytest.fixture(scope='module')
def wheel(dist: Path) -> Path:
    """The wheel unpacked, as an installation would lie on disk."""
    folder = dist / 'installed'
    with zipfile.ZipFile(next(dist.glob('*.whl'))) as archive:
        archive.extractall(folder)
    return folder


def _run_from(wheel: Path, program: str) -> str:
    """Run a program in a new process that sees the unpacked wheel before any other copy of the package."""
    start = f'import sys; sys.path.insert(0, {str(wheel)!r}); '
    result = subprocess.run(
        [sys.executable, '-P', '-c', start + program],
        cwd=wheel,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_list_of_packages_is_the_tree() -> None:
    listed = PROJECT['tool']['setuptools']['packages']
    assert len(listed) == len(set(listed))
    assert set(listed) == _packages_in_the_tree()


def test_every_folder_with_sources_is_a_package() -> None:
    """A folder without __init__.py would work in a checkout and be missing from a wheel."""
    for folder in FOLDERS.values():
        for source in folder.rglob('*.py'):
            if source.parent != SHIMS and OTHER_PROJECT not in source.parents:
                assert (source.parent / '__init__.py').exists(), f'{source.parent.relative_to(ROOT)} lacks __init__.py'


def test_the_folder_in_ptychodus_stays_the_hosts() -> None:
    """An __init__.py there would hide every plugin of Ptychodus itself."""
    assert [path.name for path in SHIMS.iterdir() if path.name != '__pycache__'] == [SHIM.rpartition('/')[2]]
    assert PROJECT['tool']['setuptools']['package-dir'][PLUGINS] == SHIMS.relative_to(ROOT).as_posix()


def test_a_wheel_holds_every_source_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob('*.whl'))) as archive:
        names = set(archive.namelist())
    assert {name for name in names if '.dist-info/' not in name} == _installed_files()
    assert [name for name in names if name.startswith('ptychodus')] == [SHIM]
    backends = {
        f'{PACKAGE}/backends/{name}/__init__.py' for name in ('torch_lightning', 'tensorflow_keras', 'onnx_runtime')
    }
    assert backends <= names and f'{PACKAGE}/py.typed' in names
    assert any(re.search(r'\.dist-info/licenses/LICENSE$', name) for name in names)


def test_an_sdist_holds_every_source(dist: Path) -> None:
    with tarfile.open(next(dist.glob('*.tar.gz'))) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    wanted = {'pyproject.toml', 'LICENSE', 'README.md'}
    for folder in FOLDERS.values():
        wanted |= {p.relative_to(ROOT).as_posix() for p in folder.rglob('*') if p.suffix in ('.py', *DATA)}
    assert wanted <= names


def test_an_unpacked_wheel_imports_its_backend_package_and_presets(wheel: Path) -> None:
    program = (
        f'import {PACKAGE}, {PACKAGE}.model_file.opening, {PACKAGE}.configs as configs; '
        f'import {PACKAGE}.backends.torch_lightning as one, {PACKAGE}.backends.tensorflow_keras as other; '
        f'print({PACKAGE}.__version__, {PACKAGE}.__file__, one.__file__, other.__file__, configs.__file__, sep="\\n")'
    )
    version, *files = _run_from(wheel, program).splitlines()
    assert version == ptychopinn_reconstructor.__version__
    assert len(files) == 4 and all(Path(file).is_relative_to(wheel / PACKAGE) for file in files)


def test_an_unpacked_wheel_writes_its_first_steps(wheel: Path, tmp_path: Path) -> None:
    """What `ptychopinn init` copies comes from the wheel, where there is no checkout."""
    program = f'from {PACKAGE}.cli.main import main; main(["init", {str(tmp_path / "first")!r}, "--quiet"])'
    _run_from(wheel, program)
    written = {path.relative_to(tmp_path / 'first').as_posix() for path in (tmp_path / 'first').rglob('*')}
    assert {'README.md', 'scan.npz', 'presets/quick.yaml', 'examples/batch_mode/settings.ini'} <= written


def test_the_wheels_metadata_announces_command_and_backends(dist: Path, wheel: Path) -> None:
    entry_points = next(wheel.glob('*.dist-info/entry_points.txt')).read_text()
    assert '\nptychopinn = ptychopinn_reconstructor.cli.main:main\n' in entry_points
    assert '\nptychodus-ptychopinn = ptychopinn_reconstructor.host.launcher:main\n' in entry_points
    assert re.search(r'\[ptychopinn_reconstructor\.backends\]\s+onnx = .*\s+tensorflow = .*\s+torch = ', entry_points)
    metadata = next(wheel.glob('*.dist-info/METADATA')).read_text()
    assert f'Version: {ptychopinn_reconstructor.__version__}\n' in metadata
    assert 'License-Expression: BSD-3-Clause' in metadata and 'Requires-Python: >=3.11' in metadata


def _alone(wheel: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that sees the unpacked wheel and the standard library, and no other package, Ptychodus included."""
    start = f'import sys; sys.path[:] = [{str(wheel)!r}, *(p for p in sys.path if "site-packages" not in p)]; '
    command = [sys.executable, '-I', '-c', start + program]
    return subprocess.run(command, cwd=wheel, capture_output=True, text=True, timeout=300, check=False)


def test_importing_the_plugin_imports_nothing_of_ours(wheel: Path) -> None:
    program = f'from ptychodus.plugins import {PACKAGE} as shim; print(shim.__file__, "{PACKAGE}" in sys.modules)'
    assert _alone(wheel, program).stdout == f'{wheel / SHIM} False\n'


def test_the_plugin_turns_a_failure_into_one_warning(wheel: Path) -> None:
    program = f'from ptychodus.plugins.{PACKAGE} import register_plugins; register_plugins(None)'
    result = _alone(wheel, program)
    assert result.returncode == 0 and not result.stdout
    assert len(result.stderr.splitlines()) == 1 and 'PtychoPINN' in result.stderr, result.stderr


def test_the_command_without_ptychodus_says_how_to_get_it(wheel: Path) -> None:
    result = _alone(wheel, f'from {PACKAGE}.host.launcher import main; sys.exit(main())')
    assert result.returncode == 2, result.stderr
    assert result.stderr == "Ptychodus is not installed in this environment: pip install 'ptychodus[gui]>=1.6'\n"


def test_every_entry_point_names_a_module_of_the_tree() -> None:
    targets = dict(PROJECT['project']['scripts'])
    for group in PROJECT['project']['entry-points'].values():
        targets.update(group)
    for target in targets.values():
        module = target.partition(':')[0].removeprefix(f'{PACKAGE}.')
        folder = ROOT if module.startswith('backends.') else ROOT / PACKAGE
        path = folder.joinpath(*module.split('.'))
        assert path.with_suffix('.py').exists() or (path / '__init__.py').exists(), target


def test_every_dependency_is_bounded_below_and_justified() -> None:
    text = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    extras = PROJECT['project']['optional-dependencies']
    requirements = PROJECT['project']['dependencies'] + [r for name in extras if name != 'all' for r in extras[name]]
    for requirement in requirements:
        assert '>=' in requirement, f'{requirement} has no lower bound'
        assert re.search(rf'"{re.escape(requirement)}",? +# \w', text), f'{requirement} is not justified in a comment'


def test_everything_imported_is_a_declared_dependency() -> None:
    """Third-party modules that the package (not its backends) imports, by the names of their distributions."""
    import ast

    distributions = {
        'skimage': 'scikit-image',
        'yaml': 'pyyaml',
        'PIL': 'pillow',
        'tornado': 'bokeh',
        'zmq': 'pyzmq',
        'pvaccess': 'pvapy',
    }
    late = [
        r
        for extra in ('slurm', 'dask', 'live', 'pva', 'viewer')
        for r in PROJECT['project']['optional-dependencies'][extra]
    ]
    declared = {re.split(r'[\[><=]', r)[0] for r in [*PROJECT['project']['dependencies'], *late]}
    used = set()
    for path in FOLDERS[PACKAGE].rglob('*.py'):
        if 'host' in path.relative_to(FOLDERS[PACKAGE]).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                used |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                used.add(node.module.partition('.')[0])
    third_party = used - sys.stdlib_module_names - {PACKAGE, 'pytest'}
    assert {distributions.get(name, name) for name in third_party} <= declared
