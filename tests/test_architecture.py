"""The rules of the house, checked by reading the sources and by importing them in new processes.

ROOMS is the plan: what is not in it may neither be there nor be imported.
"""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from ptychopinn_reconstructor.backend import BackendDescription
from ptychopinn_reconstructor.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'ptychopinn_reconstructor'
FOLDERS = {PACKAGE: ROOT / PACKAGE, f'{PACKAGE}.backends': ROOT / 'backends', f'{PACKAGE}.configs': ROOT / 'configs'}

# The rooms of the house, from the ground floor up, and which others each may import. A new arrow is a decision.
ROOMS: dict[str, set[str]] = {
    'errors': set(),
    'events': set(),
    # How things are shown: pages, fragments for a notebook, pictures without a plotting library, a line of progress.
    'display': {'events'},
    'config': {'errors'},
    'patterns': {'errors'},
    'scan': {'display', 'errors', 'patterns'},
    'physics': {'errors', 'events', 'patterns', 'scan'},
    'result': {'display', 'physics'},
    'backend': {'config', 'errors', 'events', 'physics'},
    'io': {'backend', 'config', 'display', 'errors', 'events', 'patterns', 'physics', 'result', 'scan'},
    'environment': {'backend', 'errors'},
    'model_file': {'backend', 'config', 'display', 'errors', 'events', 'io', 'physics', 'scan'},
    'backends': {'backend', 'config', 'errors', 'io', 'physics'},
    # The doctor of scans: looks at a scan and trial reconstructions of its own. Beside `reconstruction`, which asks it
    # where `auto` is set: it answers another question, and needs no network; of a model it looks at the probe alone.
    'diagnosis': {'errors', 'events', 'io', 'model_file', 'physics', 'scan'},
    'reconstruction': {
        'backend', 'config', 'diagnosis', 'display', 'errors', 'events', 'io', 'model_file', 'physics', 'result',
        'scan',
    },
    'training': {
        'backend', 'config', 'display', 'errors', 'events', 'io', 'model_file', 'physics', 'reconstruction', 'result',
        'scan',
    },
    # Reconstruction while the scan is taken; the command line connects it with what sends patterns.
    'live': {
        'backend', 'config', 'display', 'errors', 'events', 'io', 'model_file', 'physics', 'reconstruction', 'result',
        'scan',
    },
    'worker': {
        'backend', 'config', 'diagnosis', 'errors', 'events', 'io', 'reconstruction', 'result', 'scan', 'training',
    },
    'conformance': {
        'backend', 'config', 'errors', 'events', 'io', 'model_file', 'physics', 'reconstruction', 'scan', 'training',
    },
    'experiments': {
        'backend', 'config', 'display', 'environment', 'errors', 'events', 'io', 'model_file', 'physics',
        'reconstruction', 'training',
    },
    # Several results side by side in the browser; all that names Bokeh.
    'viewer': {'display', 'errors', 'events', 'io', 'physics', 'reconstruction'},
    'cli': {
        'config', 'diagnosis', 'display', 'environment', 'errors', 'events', 'experiments', 'io', 'live', 'model_file',
        'physics', 'reconstruction', 'result', 'scan', 'training', 'viewer',
    },
    '__main__': {'cli'},
    'host': {
        'backend', 'config', 'conformance', 'diagnosis', 'errors', 'events', 'io', 'model_file', 'physics',
        'reconstruction', 'result', 'scan', 'training', 'worker',
    },
}  # fmt: skip
TOP_MODULES = 8
# Rooms and modules that load scipy with the physics as soon as they are imported; whoever needs them imports them late.
WITH_PHYSICS = {
    'physics', 'diagnosis', 'reconstruction', 'live', 'training', 'experiments', 'viewer', 'conformance', 'host',
}  # fmt: skip
WITH_PHYSICS_TOO = {'backend.base', 'backend.batches', 'model_file.export', 'model_file.trained'}
# Modules of the command line that are imported only when one of their commands is used.
COMMAND_MODULES = {entry.target.partition(':')[0].removeprefix(f'{PACKAGE}.') for entry in COMMANDS.values()}
SHARED_BY_COMMANDS = {
    'cli.engines', 'cli.processes', 'cli.result_job', 'cli.result_page', 'cli.result_report', 'cli.training_job',
}  # fmt: skip
WITH_PHYSICS_TOO |= (COMMAND_MODULES | SHARED_BY_COMMANDS) - {'cli.doctor', 'cli.inspect'}
LIGHT_ALL_THE_SAME = {'diagnosis.finding', 'training.folder', 'training.metrics_table'}

# What each folder of backends/ says that it imports (test_each_folder_is_a_backend_that_describes_itself), and loggers.
DESCRIBED: dict[str, BackendDescription] = {
    path.parent.name: importlib.import_module(f'{PACKAGE}.backends.{path.parent.name}.description').DESCRIPTION
    for path in sorted((ROOT / 'backends').glob('*/description.py'))
}
FRAMEWORKS = {folder: {*described.requires, 'tensorboard', 'mlflow'} for folder, described in DESCRIBED.items()}
ALL_FRAMEWORKS = set().union(*FRAMEWORKS.values()) | {'torchmetrics', 'pytorch_lightning', 'lightning_fabric', 'jax'}
QT = {'PyQt5', 'PyQt6', 'PySide2', 'PySide6'}
WITH_QT = f'{PACKAGE}.host.window.'
SHIM = ['host', 'ptychodus_plugins']
LAZY = {'scipy', 'skimage', 'h5py', 'hdf5plugin', 'tifffile', 'matplotlib', 'ptychodus'} | ALL_FRAMEWORKS | QT
UNPICKLERS = {'pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'jsonpickle'}
SETTERS: tuple[str, ...] = (
    'os.putenv',
    'os.unsetenv',
    'os.environ',
    'os.chdir',
    'sys.path',
    'warnings.',
    'logging.basicConfig',
)
SETTERS += ('np.random.seed', 'np.seterr', 'random.seed', 'torch.manual_seed', 'torch.set_', 'matplotlib.use')
NOT_LOADED = [
    'PyQt5',
    'h5py',
    'hdf5plugin',
    'keras',
    'lightning',
    'matplotlib',
    'onnxruntime',
    'ptychodus',
    'scipy',
    'tensorflow',
    'tifffile',
    'torch',
]


@dataclass(frozen=True)
class Import:
    """One import: the dotted name, its line, and whether it runs when the module is imported."""

    name: str
    line: int
    eager: bool
    typing_only: bool

    @property
    def top(self) -> str:
        return self.name.partition('.')[0]

    @property
    def part(self) -> str:
        """The part of our package that is imported: 'scan' of ptychopinn_reconstructor.scan; empty for others."""
        return self.name.split('.')[1] if self.name.startswith(f'{PACKAGE}.') else ''


@dataclass(frozen=True)
class Source:
    """One source file under the name by which it is imported."""

    name: str
    path: Path

    @property
    def parts(self) -> list[str]:
        return self.name.split('.')[1:]

    @property
    def part(self) -> str:
        return self.parts[0] if self.parts else '__init__'

    @property
    def is_backend(self) -> bool:
        return self.part == 'backends'

    def tree(self) -> ast.Module:
        return _tree(self.path)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding='utf-8'), str(path))


def _sources() -> Iterator[Source]:
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob('*.py')):
            parts = path.relative_to(folder).with_suffix('').parts
            yield Source('.'.join([package, *(part for part in parts if part != '__init__')]), path)


SOURCES = list(_sources())
NAMES = {source.name for source in SOURCES}
PARTS = {source.part for source in SOURCES if source.parts}


def _nodes(tree: ast.AST, eager: bool = True, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Every node, with whether it runs on import, and whether only a type checker sees it."""
    for child in ast.iter_child_nodes(tree):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = typing_only or (isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test))
        yield child, eager and not typing, typing
        yield from _nodes(child, eager and not lazy, typing)


@cache
def _imports(source: Source) -> tuple[Import, ...]:
    return tuple(_read_imports(source))


def _read_imports(source: Source) -> Iterator[Import]:
    for node, eager, typing_only in _nodes(source.tree()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, eager, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = _base(source, node)
            for alias in node.names:
                full = f'{base}.{alias.name}'
                yield Import(full if full in NAMES or base == PACKAGE else base, node.lineno, eager, typing_only)


def _base(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ''
    parts = source.name.split('.')
    package = parts if source.path.name == '__init__.py' else parts[:-1]
    base = package[: len(package) - node.level + 1]
    return '.'.join([*base, node.module] if node.module else base)


Violation = tuple[int, str]  # line, what is wrong
Rule = Callable[[Source], Iterable[Violation]]
RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    """Register a check of one source; `test_rule` runs every check over all sources."""
    RULES.append(check)
    return check


def _wrong(imports: Iterable[Import], message: str) -> list[Violation]:
    return [(i.line, f'{message}: {i.name}') for i in imports]


def _own(source: Source) -> list[Import]:
    """The parts of our package that a source imports: names of the package's __init__ (errors, version) left out."""
    return [i for i in _imports(source) if i.part in PARTS or i.part in ROOMS]


def test_the_reader_of_imports_reads_them() -> None:
    """The checks below would pass on anything if this reader saw nothing."""
    writing = next(source for source in SOURCES if source.name == f'{PACKAGE}.model_file.writing')
    found = {i.name for i in _imports(writing)}
    assert {'numpy', f'{PACKAGE}.io.atomic', f'{PACKAGE}.errors'} <= found
    bytes_of = next(source for source in SOURCES if source.name == f'{PACKAGE}.model_file.format')
    assert {i.name: i.eager for i in _imports(bytes_of)}['safetensors.numpy'] is False
    assert len(SOURCES) > 10 and any(source.is_backend for source in SOURCES)


def _loads_physics(source: Source) -> bool:
    """Whether a module may load the physics as soon as it is imported."""
    name = '.'.join(source.parts)
    return name not in LIGHT_ALL_THE_SAME and (source.part in WITH_PHYSICS or name in WITH_PHYSICS_TOO)


@rule
def arrows_are_those_of_the_plan(source: Source) -> list[Violation]:
    if not source.parts or source.part == 'configs':
        return []
    if source.part not in ROOMS:
        return [(1, f'{source.part} is no room of the plan: {", ".join(ROOMS)}')]
    allowed = ROOMS[source.part] | {source.part}
    return _wrong([i for i in _own(source) if i.part not in allowed], f'{source.part} may not import')


@rule
def nobody_imports_a_backend(source: Source) -> list[Violation]:
    found = [i for i in _imports(source) if i.top == 'backends' or i.part == 'backends']
    if source.is_backend:
        own = '.'.join(source.name.split('.')[:3])
        found = [i for i in found if i.name != own and not i.name.startswith(f'{own}.')]
    return _wrong(found, 'a backend is found by its entry point, never imported')


@rule
def a_backend_knows_only_its_own_framework(source: Source) -> list[Violation]:
    if not source.is_backend or len(source.parts) < 2:
        return []
    others = ALL_FRAMEWORKS - FRAMEWORKS.get(source.parts[1], ALL_FRAMEWORKS)
    return _wrong([i for i in _imports(source) if i.top in others], "a backend imports no other's framework")


@rule
def physics_is_numpy_and_scipy_only(source: Source) -> list[Violation]:
    if source.part != 'physics':
        return []
    allowed = {*sys.stdlib_module_names, 'numpy', 'scipy', 'skimage', PACKAGE}
    foreign = [i for i in _imports(source) if i.top not in allowed]
    return _wrong(foreign, 'numpy, scipy and skimage only')


@rule
def frameworks_qt_and_the_host_are_named_in_one_place(source: Source) -> list[Violation]:
    misplaced = {
        'only a backend imports a framework': set() if source.is_backend else ALL_FRAMEWORKS,
        'only host/window/ imports Qt': set() if source.name.startswith(WITH_QT) else QT,
        'only host/ names ptychodus': set() if source.part == 'host' else {'ptychodus'},
    }
    imports = list(_imports(source))
    return [v for text, names in misplaced.items() for v in _wrong([i for i in imports if i.top in names], text)]


@rule
def qt_is_imported_by_the_window_only(source: Source) -> list[Violation]:
    """Ptychodus without a window runs where there is no Qt."""
    if source.name.startswith(WITH_QT):
        return []
    found = [i for i in _imports(source) if i.eager and f'{i.name}.'.startswith(WITH_QT)]
    return _wrong(found, 'import what needs Qt inside the function that uses it')


@rule
def the_plugin_that_ptychodus_finds_imports_nothing(source: Source) -> list[Violation]:
    """Ptychodus survives few of the errors that importing a plugin can raise."""
    eager = [i for i in _imports(source) if i.eager and i.top != '__future__' and source.parts[:2] == SHIM]
    return _wrong(eager, 'import it where a failure is caught')


@rule
def what_is_heavy_is_imported_inside_the_function_that_uses_it(source: Source) -> list[Violation]:
    """Except where the whole module is loaded lazily: what loads the physics anyway, a backend, the host."""
    allowed: set[str] = set()
    if source.is_backend:
        allowed = FRAMEWORKS.get(source.parts[1], ALL_FRAMEWORKS) | {'scipy', 'physics'} if source.parts[1:] else set()
    elif source.part in ('physics', 'conformance'):
        allowed = {'scipy', 'skimage', 'physics'}
    elif source.part == 'host':
        allowed = {'ptychodus', *QT}
    elif _loads_physics(source):
        allowed = {'physics'}
    eager = [i for i in _imports(source) if i.eager]
    heavy = [i for i in eager if i.top in LAZY - allowed or (i.part == 'physics' and 'physics' not in allowed)]
    return _wrong(heavy, 'import it inside the function that uses it')


@rule
def nothing_is_unpickled(source: Source) -> Iterator[Violation]:
    yield from _wrong([i for i in _imports(source) if i.top in UNPICKLERS], 'nothing of ours unpickles')
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Call):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if keywords.get('allow_pickle', 'False') != 'False':
                yield node.lineno, 'allows pickles'
            default = 'absent' if ast.unparse(node.func) == 'torch.load' else 'True'
            if keywords.get('weights_only', default) != 'True':
                yield node.lineno, 'a checkpoint is read with weights_only=True'
            default = 'absent' if ast.unparse(node.func).endswith('load_model') else 'True'
            if keywords.get('safe_mode', default) != 'True':
                yield node.lineno, 'a Keras model is opened with safe_mode=True'


@rule
def no_print_no_bare_except_no_globals(source: Source) -> Iterator[Violation]:
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ('print', 'eval', 'exec'):
            yield node.lineno, f'calls {node.func.id}'
        if isinstance(node, ast.ExceptHandler):
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if node.type is None or ('BaseException' in ast.unparse(node.type) and not raises):
                yield node.lineno, 'swallows every exception, interrupts included'
        if isinstance(node, ast.Global):
            yield node.lineno, 'has global state'


@rule
def importing_sets_nothing_outside_the_module(source: Source) -> Iterator[Violation]:
    """No environment variable, search path, warning filter, logging set-up or random seed at import."""
    for node, eager, _ in _nodes(source.tree()):
        if not eager:
            continue
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.startswith(SETTERS) and name not in ('os.environ.get', 'os.environ.copy'):
                yield node.lineno, f'calls {name} at import'
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else []
        for target in [*targets, *([node.target] if isinstance(node, ast.AugAssign) else [])]:
            if ast.unparse(target).startswith(('os.environ', 'sys.')):
                yield target.lineno, 'changes the process at import'


@pytest.mark.parametrize('check', RULES, ids=lambda check: check.__name__)
def test_rule(check: Rule) -> None:
    violations = [
        f'{source.path.relative_to(ROOT)}:{line}: {text}' for source in SOURCES for line, text in check(source)
    ]
    assert not violations, '\n'.join(violations)


BAD = """
import os, torch, pickle
import ptychopinn_reconstructor.cli
from ptychopinn_reconstructor.host.window import factory
from ptychopinn_reconstructor.backends.torch_lightning import adapter
from .. import physics
os.environ['A'] = '1'
try:
    print(torch.load('x'))
except:
    pass
"""


@pytest.mark.parametrize(
    ('name', 'caught'),
    [
        ('physics.bad', {'arrows_are_those_of_the_plan', 'physics_is_numpy_and_scipy_only'}),
        ('worker.bad', {'arrows_are_those_of_the_plan'}),
        ('backends.tensorflow_keras.bad', {'a_backend_knows_only_its_own_framework'}),
        ('host.ptychodus_plugins.bad', {'the_plugin_that_ptychodus_finds_imports_nothing'}),
        ('host.bad', {'qt_is_imported_by_the_window_only'}),
        ('brand_new', {'arrows_are_those_of_the_plan', 'what_is_heavy_is_imported_inside_the_function_that_uses_it'}),
        ('io.bad', {'frameworks_qt_and_the_host_are_named_in_one_place', 'arrows_are_those_of_the_plan'}),
    ],
)
def test_the_rules_catch_a_bad_module(tmp_path: Path, name: str, caught: set[str]) -> None:
    """A module that breaks the rules, placed in several parts of the house: a rule that sees nothing is no rule."""
    path = tmp_path / 'bad.py'
    path.write_text(BAD)
    everywhere = {
        'nobody_imports_a_backend',
        'nothing_is_unpickled',
        'no_print_no_bare_except_no_globals',
        'importing_sets_nothing_outside_the_module',
    }
    source = Source(f'{PACKAGE}.{name}', path)
    assert caught | everywhere <= {check.__name__ for check in RULES if list(check(source))}


def test_the_plan_has_no_circle() -> None:
    """Every room imports only rooms that stand before it in the plan."""
    floors = list(ROOMS)
    assert [room for room in floors if not ROOMS[room] <= {*floors[: floors.index(room)]}] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not within a room either, what only a type checker sees included."""
    edges = {source.name: {i.name for i in _imports(source)} & NAMES - {source.name, PACKAGE} for source in SOURCES}
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges, f'these modules import each other in a circle: {sorted(edges)}'


def test_every_arrow_of_the_plan_is_used() -> None:
    """An arrow that nothing needs any more is taken out of the plan."""
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for source in SOURCES:
        if source.part in used:
            used[source.part] |= {i.part for i in _own(source)} - {source.part}
    assert {room: sorted(allowed - used[room]) for room, allowed in ROOMS.items() if allowed - used[room]} == {}


def test_few_modules_lie_at_the_top() -> None:
    assert len(list((ROOT / PACKAGE).glob('*.py'))) <= TOP_MODULES


def test_folders_have_no_name_that_hides_a_package() -> None:
    """A folder named after a framework would be imported in its place; tests/__init__.py would make tests a package."""
    for top in ('ptychopinn_reconstructor', 'backends', 'configs', 'tests', 'examples'):
        for path in (ROOT / top).rglob('*'):
            assert path.stem not in {'torch', 'keras', 'tensorflow', 'lightning'}, path
    assert not (ROOT / 'tests' / '__init__.py').exists()


def test_each_folder_is_a_backend_that_describes_itself() -> None:
    """A backend is one folder and one line in pyproject.toml."""
    folders = {path.parent.name for path in (ROOT / 'backends').glob('*/__init__.py')}
    group = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['entry-points'][f'{PACKAGE}.backends']
    values = {DESCRIBED[folder].name: f'{PACKAGE}.backends.{folder}.description:DESCRIPTION' for folder in folders}
    assert values == group and len(values) >= 2


def test_describing_a_backend_loads_nothing_heavy() -> None:
    names = [f'{PACKAGE}.backends.{folder}.description' for folder in DESCRIBED]
    assert _loaded_by(names, NOT_LOADED) == {name: [] for name in names}


LISTING = """
import importlib, json, sys
names, heavy, found = json.loads(sys.argv[1]), set(json.loads(sys.argv[2])), {}
for name in names:
    before = set(sys.modules)
    importlib.import_module(name)
    found[name] = sorted({new.partition('.')[0] for new in set(sys.modules) - before} & heavy)
print(json.dumps(found))
"""


def _loaded_by(names: list[str], heavy: list[str]) -> dict[str, list[str]]:
    command = [sys.executable, '-P', '-c', LISTING, json.dumps(names), json.dumps(heavy)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, list[str]] = json.loads(result.stdout)
    return found


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The cost in CPU time is measured by benchmarks/import_cost.py."""
    assert _loaded_by([PACKAGE], [*NOT_LOADED, 'rich', 'click', 'yaml', 'skimage']) == {PACKAGE: []}


def test_importing_a_light_module_loads_nothing_heavy() -> None:
    """What the command line loads before it knows what to do: `ptychopinn --help` waits for none of these."""
    light = [
        source.name
        for source in SOURCES
        if source.part != 'backends' and not _loads_physics(source) and source.path.name != '__main__.py'
    ]
    assert {f'{PACKAGE}.model_file.opening', f'{PACKAGE}.cli.main', f'{PACKAGE}.training.folder'} <= {*light}
    assert {name: found for name, found in _loaded_by(light, [*NOT_LOADED, 'skimage']).items() if found} == {}


def test_importing_what_loads_the_physics_loads_no_framework() -> None:
    left_out = {'host'} if find_spec('bokeh') else {'host', 'viewer'}
    names = [source.name for source in SOURCES if _loads_physics(source) and source.part not in left_out]
    heavy = sorted({*ALL_FRAMEWORKS, *QT, 'ptychodus', 'h5py', 'matplotlib'})
    assert {name: found for name, found in _loaded_by(names, heavy).items() if found} == {}


def test_entering_ptychodus_loads_nothing_heavy() -> None:
    """What our plugin imports in every start of Ptychodus, before it knows whether this is a Ptychodus that it fits."""
    names = [f'{PACKAGE}.host', f'{PACKAGE}.host.hook', f'{PACKAGE}.host.launcher']
    heavy = [*NOT_LOADED, 'numpy', 'pydantic', 'rich', 'click', 'yaml', 'skimage']
    assert _loaded_by(names, heavy) == {name: [] for name in names}


def test_what_ptychodus_imports_when_it_starts_loads_nothing_heavy() -> None:
    """The plugin, `install()` and the command; that a real start loads no framework is seen in tests/integration."""
    host = f'{PACKAGE}.host'
    names = [f'{host}.ptychodus_plugins.{PACKAGE}', host, f'{host}.launcher', f'{host}.hook']
    assert set(names) <= NAMES
    assert _loaded_by(names, [*NOT_LOADED, 'numpy', 'pydantic']) == {name: [] for name in names}


def test_backends_refuse_their_bare_name() -> None:
    program = f'import sys; sys.path.insert(0, {str(ROOT)!r}); import backends'
    result = subprocess.run(
        [sys.executable, '-P', '-c', program], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 1 and "Import 'ptychopinn_reconstructor.backends'" in result.stderr


def test_the_page_on_the_house_draws_every_room_once() -> None:
    """docs/architecture.md."""
    text = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    drawn = [line.split()[0] for line in text.split('```')[1].splitlines() if line.strip()]
    assert sorted(drawn) == sorted({*ROOMS} - {'__main__'})
