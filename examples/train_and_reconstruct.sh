#!/bin/sh
# The command line from end to end on a small simulated scan. Run it in an empty folder.
set -e
ptychopinn simulate --out scan.npz --n 64 --positions 256 --seed 0
ptychopinn train scan.npz --output-dir model --config quick
ptychopinn reconstruct scan.npz --model model/model.zip --output-dir result --refine 2 --truth scan.npz
ptychopinn refine scan.npz --output-dir engine --passes 20 --truth scan.npz
