"""Weights of PyTorch as those of `physics/learned/network.py`: `export.py WEIGHTS OUT.safetensors`, half precision."""

import re
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

NAMES = {
    'e1': 'before1',
    'e2': 'before2',
    'e3': 'before3',
    'f1': 'after1',
    'f2': 'after2',
    'd1': 'down2',
    'd2': 'down3',
    'u1': 'up1',
    'u2': 'up2',
}
out = {}
for name, value in torch.load(sys.argv[1]).items():
    first, rest = name.split('.', 1)
    array = value.numpy()
    if first in ('d1', 'd2', 'u1', 'u2') and rest == 'weight':
        array = array.reshape(len(array), -1)
    out[f'{NAMES.get(first, first)}.{rest}'] = np.ascontiguousarray(array, dtype=np.float16)
save_file(out, sys.argv[2])
