"""Description of a backend, available without importing its framework."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, quote
from .capabilities import ALL_CAPABILITIES, Capability


@dataclass(frozen=True)
class BackendDescription:
    """A backend as its entry point names it, in a module that imports no framework.

    `name`: that of the entry point. `title`: the name that people see, in INI files and in the GUI.
    `requires`: the modules it imports. `install`: what pip installs for it.
    `backend` ('module:class') makes it; `architectures` are the networks it offers, each with what builds it
    ('module:function').
    `obstacle` tells what else keeps it from being used here, with the remedy; '' if nothing does.
    `capabilities` of those that may be left out; without any it applies networks.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    install: str
    backend: str
    architectures: Mapping[str, str]
    obstacle: Callable[[], str] = str
    capabilities: frozenset[Capability] = ALL_CAPABILITIES

    @property
    def trains(self) -> bool:
        """Whether it trains networks, or only applies them."""
        return Capability.TRAINING in self.capabilities

    def builder(self, architecture: str) -> Any:
        """Function that builds the network of this architecture; ConfigError lists those the backend offers."""
        if architecture not in self.architectures:
            raise ConfigError(
                f'model.architecture is {quote(architecture)}, which the {self.title} backend does not offer; '
                f'choose one of: {", ".join(self.architectures)}.'
            )
        return resolve(self.architectures[architecture])


def resolve(reference: str) -> Any:
    """Object that 'module:name' refers to, its module imported."""
    return pkgutil.resolve_name(reference)
