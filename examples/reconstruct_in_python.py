"""Train on a scan, reconstruct it, and compare with the truth: the whole way in Python.

Run it in the folder that `ptychopinn init` has made: python examples/reconstruct_in_python.py [CPU seconds of training]
"""

import sys

import ptychopinn_reconstructor as pp

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
scan = pp.read_scan('scan.npz').scan
config = pp.Config().merged({'training': {'max_cpu_seconds': seconds}})

model = pp.train([scan], config, 'in_python/model').model
result = pp.reconstruct(scan, model, config)
files = pp.write_result('in_python/result', result.reconstruction, {'residual': result.report.residual})

comparison = pp.evaluate(pp.read_object(files['product']), pp.read_object('scan.npz'))
print(f'residual {result.report.residual:.4f}, phase PSNR {comparison.phase_psnr:.1f} dB, picture {files["phase"]}')
