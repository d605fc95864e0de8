#!/bin/sh
# Ptychodus without a window: train on a folder, then reconstruct it, with the unmodified command `ptychodus`.
# Run it in an empty folder: sh run.sh [settings.ini]
set -e
settings=${1:-$(dirname "$0")/settings.ini}

# 1. An input folder. Yours would be exported from Ptychodus: diffraction.h5 and product.h5 of a scan.
ptychopinn simulate --format ptychodus --out scan --positions 256
cp "$settings" scan/settings.ini

# 2. Train: reads scan/, writes trained/model.safetensors.
ptychodus -b train -i scan -o trained

# 3. Reconstruct: reads scan/ and the model in it, writes result/product.000100.h5 (100 %: the complete object).
cp trained/model.safetensors scan/model.safetensors
ptychodus -b reconstruct -i scan -o result

# 4. Compare with the truth, which a simulated folder has.
ptychopinn evaluate result/product.000100.h5 scan/truth.h5
