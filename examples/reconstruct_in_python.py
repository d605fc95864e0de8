"""Simulate a scan, train on it, reconstruct it, and compare with the truth: the whole way in Python.

Run it in an empty folder: python reconstruct_in_python.py [CPU seconds of training]
"""

import sys
from pathlib import Path

from ptychopinn_reconstructor.config import Config
from ptychopinn_reconstructor.io import ObjectFile
from ptychopinn_reconstructor.physics.simulation.simulate import simulate
from ptychopinn_reconstructor.reconstruction.evaluate import as_object_file, evaluate
from ptychopinn_reconstructor.reconstruction.reconstruct import reconstruct
from ptychopinn_reconstructor.reconstruction.writing import write_result
from ptychopinn_reconstructor.training.train import train

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
scan = simulate(n=64, positions=256, photons=1e5, object='cells', seed=0)
config = Config().merged({'training': {'max_cpu_seconds': seconds}, 'inference': {'refine_passes': 2}})

trained = train([scan], config, Path('model'))
result = reconstruct(scan, trained.model, config)

truth = ObjectFile(scan.object, scan.object_origin, scan.positions)
comparison = evaluate(as_object_file(result.reconstruction), truth)
files = write_result(Path('result'), result.reconstruction, comparison.to_dict())
print(f'residual {result.report.residual:.4f}, phase PSNR {comparison.phase_psnr:.1f} dB, picture {files["phase"]}')
