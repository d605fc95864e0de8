"""Whether Train and Infer can work with a product of the host now, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PtychoPINNError
from ..model_file.probes import correlate_probes, find_probe_mismatch
from .model_file import ModelFile

if TYPE_CHECKING:
    from .reconstructor import PtychoPINNReconstructor
    from .session import Session

# Correlation below which a network alone makes nothing of a probe: with 20 probes of correlations from 1 to .02 its
# phase fell from 20.5 dB at 1 to 14 to 20 at .8 and less, and there was no seeing which. The passes that come after it
# brought all to 34 to 40 dB, as the engine alone does, so that with them any probe is served.
UNKNOWN_PROBE = 0.8
NO_SCAN = 'The product has no patterns; load them, and choose them for the product.'
NO_PROBE = 'The product has no probe; make or open one (Probe).'
NO_MODEL = 'There is no model: train one, or load one (menu beside Train).'


def describe_training(session: Session) -> str:
    """Why no other training can begin now; empty if it can."""
    if session.is_finishing:
        return 'The model of the stopped training is being written; it takes a few seconds.'
    if session.is_training:
        return 'A PtychoPINN training is running; stop it, or wait for its end, before starting another.'
    return ''


def explain_train(reconstructor: PtychoPINNReconstructor, item: Any) -> str:
    """Why Train cannot work on a product (an item of the host's repository) now; empty if it can."""
    if reason := describe_training(reconstructor.session):
        return reason
    if item is None or item.get_dataset() is None:
        return NO_SCAN
    settings = reconstructor.settings
    if settings['start_from_model'].get_value() and not settings['resume'].get_value():
        return _explain_model(reconstructor, item, any_probe=True)
    return ''


def explain_infer(reconstructor: PtychoPINNReconstructor, item: Any) -> str:
    """Why Infer cannot work on a product (an item of the host's repository) now; empty if it can."""
    if item is None or item.get_dataset() is None:
        return NO_SCAN
    if reconstructor.settings['start_from_object'].get_value():
        has_object = item.get_object_item().get_object().get_array().size
        return '' if has_object else "The product has no object to start from; uncheck 'Start from the object'."
    return _explain_model(reconstructor, item)


def _explain_model(reconstructor: PtychoPINNReconstructor, item: Any, *, any_probe: bool = False) -> str:
    try:
        model = reconstructor.model
    except (PtychoPINNError, OSError) as error:
        return str(error)
    if model is None:
        path = reconstructor.settings.model_path()
        return NO_MODEL if path is None else f'There is no model {path}; train one, or load one (menu beside Train).'
    size = item.get_dataset().get_processed_image_extent().width_px
    if size != model.config.model.N:
        return (
            f'The model {model.path.name} is for patterns of {model.config.model.N} pixels, those of the product have '
            f'{size}; load a model for these, train one, or crop the patterns on loading.'
        )
    if any_probe or reconstructor.settings.makes_passes():
        return '' if any_probe or _has_probe(item) else NO_PROBE
    return _explain_probe(model, item)


def _explain_probe(model: ModelFile, item: Any) -> str:
    if not _has_probe(item):
        return NO_PROBE
    probe = _probe_of(item)
    if probe.shape[-2:] != model.model.probe.shape[-2:] or find_probe_mismatch(probe, model.model) is None:
        return ''
    correlation = correlate_probes(probe, model.model.probe)
    if correlation >= UNKNOWN_PROBE:
        return ''
    return (
        f'The model {model.path.name} was trained with another probe (correlation {correlation:.2f}), and no passes '
        'mend what it makes of this one, since Refinement is 0; set passes, load a model for this probe, or train one.'
    )


def _has_probe(item: Any) -> bool:
    probe = _probe_of(item)
    return bool(probe.size) and bool(np.abs(probe).max() > 0)


def _probe_of(item: Any) -> Any:
    return item.get_probe_item().get_probes().get_probe_no_opr().get_array()
