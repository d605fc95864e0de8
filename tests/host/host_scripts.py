"""Scripts that tests run as a user does: files without a `__main__` guard."""

from __future__ import annotations

# What of ours pickles, unpickles or starts processes by multiprocessing, by the frames that lead there.
WATCHED = """
import json, logging, pickle, sys
from pathlib import Path

pickled = []

def ours():
    frame, names = sys._getframe(2), []
    while frame is not None:
        names.append(frame.f_globals.get('__name__', ''))
        frame = frame.f_back
    return [name for name in names if name.startswith('ptychopinn_reconstructor')]

def watched(name, original):
    def call(*arguments, **options):
        if names := ours():
            pickled.append([name, *names])
        return original(*arguments, **options)
    return call

for name in ('dump', 'dumps', 'load', 'loads'):
    setattr(pickle, name, watched(name, getattr(pickle, name)))

def hear(event, arguments):
    if event.startswith(('pickle.', 'multiprocessing.')) and (names := ours()):
        pickled.append([event, *names])

sys.addaudithook(hear)
"""

TRAIN_AND_INFER = (
    WATCHED
    + """
out, data, backend = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
import numpy as np
from ptychodus.api.io import save_product
from ptychodus.model import ModelCore

class Events(list):
    def __call__(self, observable):
        self.append((monitor.get_progress(), monitor.get_progress_goal()))

facts = {'pickled': pickled}
with ModelCore(None, log_level=logging.INFO) as model:
    api, registry = model.workflow_api, model.settings_registry
    monitor = model.processing_core.processing_api.task_monitor
    facts['keys'] = list(api.available_reconstructors())
    facts['default'] = model.processing_core.algorithm_parameter.get_value()
    for section, key, value in (
        ('PtychoPINNPlugin', 'Backend', backend),
        ('PtychoPINNPlugin', 'Device', 'cpu'),
        ('PtychoPINNModel', 'NumFiltersScale', 1),
        ('PtychoPINNTraining', 'NumEpochs', 2),
        ('PtychoPINNInference', 'ModelPath', out / 'nothing.zip'),
    ):
        registry[section].parameters()[key].set_value(value)
    reconstructor = model.processing_core.algorithm_parameter.get_current_reconstructor()
    facts['loaded_before'] = reconstructor.is_model_loaded()
    diffraction = api.load_assembled_diffraction_data(data / 'diffraction.h5')
    product = api.load_product(data / 'product.h5', diffraction=diffraction)
    (out / 'empty').mkdir()
    product.train_reconstructor_local(out / 'empty', out / 'out', block=True)
    facts['loaded_after'] = reconstructor.is_model_loaded()
    facts['model_path'] = str(registry['PtychoPINNInference'].parameters()['ModelPath'].get_value())
    facts['training_progress'] = [monitor.get_progress(), monitor.get_progress_goal()]
    shown = api.get_product(1).get_product()
    save_product(out / 'training.h5', shown)

    seen = []
    update = type(monitor).update_progress
    def update_progress(self, progress, goal):
        seen.append([progress, goal])
        update(self, progress, goal)
    type(monitor).update_progress = update_progress
    found = product.reconstruct_local(block=True, output_product_file=out / 'each.h5')
    facts['progress'] = seen
    save_product(out / 'infer.h5', found.get_product())
    facts['names'] = [api.get_product(index).get_product().metadata.name for index in range(3)]
    facts['log'] = list(monitor.get_log_handler().messages())
    api.save_settings(out / 'settings.ini')
facts['frameworks'] = sorted({'torch', 'lightning', 'tensorflow', 'keras', 'jax'} & sys.modules.keys())
facts['multiprocessing'] = 'multiprocessing.popen_spawn_posix' in sys.modules
facts['qt'] = sorted(name for name in sys.modules if name.startswith(('PyQt', 'PySide')))
(out / 'facts.json').write_text(json.dumps(facts))
"""
)
