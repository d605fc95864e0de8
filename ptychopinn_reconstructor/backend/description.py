"""What a backend says of itself before its framework is imported."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError


@dataclass(frozen=True)
class BackendDescription:
    """A backend as its entry point names it, in a module that imports no framework.

    `name`: that of the entry point. `title`: the name that people see, in INI files and in the GUI.
    `requires`: the modules it imports. `install`: what pip installs for it.
    `backend` ('module:class') makes it; `architectures` are the networks it offers, each with what builds it
    ('module:function').
    `obstacle` tells what else keeps it from being used here, with the remedy; '' if nothing does.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    install: str
    backend: str
    architectures: Mapping[str, str]
    obstacle: Callable[[], str] = str

    def builder(self, architecture: str) -> Any:
        """What builds the network of that name; ConfigError names those that the backend offers."""
        if architecture not in self.architectures:
            raise ConfigError(
                f'model.architecture is {architecture!r}, which the {self.title} backend does not offer; '
                f'choose one of: {", ".join(self.architectures)}.'
            )
        return resolve(self.architectures[architecture])


def resolve(reference: str) -> Any:
    """What 'module:name' stands for, its module imported."""
    return pkgutil.resolve_name(reference)
