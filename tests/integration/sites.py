"""Scratch environments in which Ptychodus and our wheel are really installed, upgraded and removed by pip.

What both depend on is not installed anew: an environment sees links to the packages of the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any, Self

PURELIB = Path(sysconfig.get_paths()['purelib'])
OURS, HOST = 'ptychopinn-reconstructor', 'ptychodus'
KEYS = ['ptychopinn_pinn', 'ptychopinn_supervised']
FRAMEWORKS = ('torch', 'lightning', 'pytorch_lightning', 'torchmetrics', 'tensorflow', 'keras')

# Every program prints one line of JSON among the lines that Ptychodus logs.
RECORD = """
import json, logging, sys
warnings = []
class Keep(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            warnings.append(record.getMessage())
logging.getLogger('ptychopinn_reconstructor').addHandler(Keep())
"""
START = (
    RECORD
    + """
from pathlib import Path
from ptychodus.model import ModelCore
settings = Path(sys.argv[1]) if sys.argv[1:] else None
with ModelCore(settings, log_level=logging.INFO) as model:
    keys = list(model.workflow_api.available_reconstructors())
print()
print(json.dumps({'keys': keys, 'warnings': warnings, 'modules': sorted(sys.modules)}))
"""
)
# The window of a `main` that is left alone, but for the event loop: it looks at what the window shows and returns.
WINDOW = (
    RECORD
    + """
from PyQt5.QtWidgets import QApplication, QComboBox
def look(*_):
    boxes = [box for widget in QApplication.topLevelWidgets() for box in widget.findChildren(QComboBox)]
    entries = sorted({box.itemText(i) for box in boxes for i in range(box.count())})
    print()
    print(json.dumps({'entries': entries, 'warnings': warnings}))
    return 0
QApplication.exec = look
from MODULE import main
sys.argv = ['ptychodus']
sys.exit(main())
"""
)


def wheel_of(name: str, folder: Path, site: Path = PURELIB) -> Path:
    """The wheel from which a package was installed, put together again from its installed files."""
    found = next(d for d in distributions(name=name, path=[str(site)]))
    wheel = folder / f'{name.replace("-", "_")}-{found.version}-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        for file in found.files or ():
            if '..' not in file.parts and file.suffix != '.pyc' and file.name not in ('REQUESTED', 'direct_url.json'):
                archive.write(site / file, str(file))
    return wheel


def linked_packages(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """A folder of links to the packages of this environment, Ptychodus, ourselves and `without` left out."""
    hidden = {name for given in (OURS, HOST, *without) for name in _top_levels(given)}
    folder.mkdir()
    for site in (Path(place) for place in sys.path if place.endswith('site-packages')):
        for path in site.iterdir():
            if path.name.partition('.')[0].partition('-')[0] not in hidden and path.suffix != '.pth':
                _link(path, folder)
    return folder


def _link(path: Path, folder: Path) -> None:
    """A link to `path` in `folder`; what is there already hides it, but parts of one namespace package are joined."""
    link = folder / path.name
    if not link.exists():
        link.symlink_to(path)
    elif path.is_dir() and not (path / '__init__.py').exists() and path.suffix != '.dist-info':
        if link.is_symlink():
            first = link.resolve()
            link.unlink()
            link.mkdir()
            for part in first.iterdir():
                (link / part.name).symlink_to(part)
        for part in path.iterdir():
            _link(part, link)


def _top_levels(name: str) -> set[str]:
    """What a package has in site-packages, its metadata included, by the part of the name before '-' or '.'."""
    normal = name.replace('-', '_')
    try:
        files = distribution(name).files or ()
    except ModuleNotFoundError:  # PackageNotFoundError is one
        files = []
    return {normal} | {file.parts[0].partition('.')[0].partition('-')[0] for file in files if file.parts[0] != '..'}


@dataclass
class Site:
    """A virtual environment of its own, with its own home folder."""

    folder: Path

    @classmethod
    def new(cls, folder: Path, packages: Path) -> Self:
        """An empty environment that sees the given packages."""
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True, timeout=300)
        site = cls(folder)
        (site.purelib / 'linked.pth').write_text(f'{packages}\n')
        (folder / 'home').mkdir()
        return site

    def copy(self, folder: Path) -> Site:
        """Another environment with the same content."""
        shutil.copytree(self.folder, folder, symlinks=True)
        for script in (folder / 'bin').iterdir():
            if not script.is_symlink():
                script.write_text(script.read_text().replace(str(self.folder), str(folder)))
        return Site(folder)

    @property
    def bin(self) -> Path:
        return self.folder / 'bin'

    @property
    def purelib(self) -> Path:
        return next(self.folder.glob('lib/python*/site-packages'))

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(('PYTHON', 'PIP_TARGET'))}
        return kept | {'HOME': str(self.folder / 'home'), 'QT_QPA_PLATFORM': 'offscreen'}

    def pip(self, *arguments: str | Path) -> None:
        """Run pip on this environment; nothing is downloaded."""
        command = [sys.executable, '-P', '-m', 'pip', '--python', str(self.bin / 'python'), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=self.folder)
        assert result.returncode == 0, result.stdout + result.stderr

    def install(self, *wheels: Path) -> None:
        for wheel in wheels:
            self.pip('install', '--no-deps', '--no-index', '--no-compile', '--upgrade', '--force-reinstall', wheel)

    def uninstall(self, name: str) -> None:
        self.pip('uninstall', '--yes', name)

    def call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment, found in its bin folder."""
        line = [str(self.bin / command[0]), *map(str, command[1:])]
        return subprocess.run(
            line, capture_output=True, text=True, timeout=300, check=False, cwd=self.folder, env=self.environment
        )

    def run(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        """Run a program that prints a line of JSON."""
        result = self.call('python', '-P', '-c', program, *arguments)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
        assert 'Traceback' not in result.stdout + result.stderr, result.stdout + result.stderr
        found: dict[str, Any] = json.loads(next(line for line in result.stdout.splitlines() if line.startswith('{')))
        return found

    def start(self, *settings: Path) -> dict[str, Any]:
        """Start Ptychodus without a window: keys of its reconstructors, our warnings, loaded modules."""
        return self.run(START, *settings)

    def window(self, module: str = 'ptychodus.__main__') -> dict[str, Any]:
        """Start Ptychodus by the `main` of a module: the entries of all combo boxes of its window, our warnings."""
        return self.run(WINDOW.replace('MODULE', module))

    def edit(self, path: str, old: str, new: str) -> None:
        """Change an installed file."""
        file = self.purelib / path
        text = file.read_text()
        assert old in text, f'{path} has no {old!r}'
        file.write_text(text.replace(old, new))

    def pretend_version(self, version: str) -> None:
        """Give the installed Ptychodus another version number."""
        info = next(self.purelib.glob('ptychodus-*.dist-info'))
        current = Distribution.at(info).version
        self.edit(f'{info.name}/METADATA', f'\nVersion: {current}\n', f'\nVersion: {version}\n')
        shutil.move(info, info.with_name(f'ptychodus-{version}.dist-info'))
