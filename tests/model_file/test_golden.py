"""The golden model file: one that was written once opens, says what it said, and gives what it gave (tests/golden)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from frameworks import needs

from ptychopinn_reconstructor.errors import ModelFileError
from ptychopinn_reconstructor.model_file.opening import open_model
from ptychopinn_reconstructor.model_file.trained import verify_model

GOLDEN = Path(__file__).parents[1] / 'golden' / 'model_format2.safetensors'


def test_it_says_what_it_said() -> None:
    model, recorded = open_model(GOLDEN), json.loads(GOLDEN.with_suffix('.json').read_text())
    manifest = model.manifest.to_json()
    for section, values in recorded.pop('config').items():  # younger settings have their defaults
        found = manifest['config'][section]
        assert found == (values if not isinstance(values, dict) else found | values)
    assert recorded == {key: value for key, value in manifest.items() if key != 'config'}
    assert model.config.model.N == 32 and model.probe.shape == (1, 32, 32)
    assert [epoch for epoch, _ in model.manifest.training.losses] == [1, 2, 3]


@pytest.mark.parametrize(
    'backend',
    [
        pytest.param('torch', marks=needs('torch')),
        pytest.param('tensorflow', marks=[needs('tensorflow'), pytest.mark.slow]),
    ],
)
def test_it_gives_what_it_gave(backend: str) -> None:
    """In every backend that is installed, whichever wrote it."""
    found = verify_model(GOLDEN, backend)
    assert found.written_by == 'torch' and found.patterns == 4
    assert found.difference <= found.tolerance == 1e-5 and found.distance_to_fresh > 1e-3


def test_none_of_its_bytes_may_change(tmp_path: Path) -> None:
    """Four hundred places, half of them in the header; forty lengths."""
    data, rng, path = GOLDEN.read_bytes(), np.random.default_rng(0), tmp_path / 'model.safetensors'
    header = 8 + int.from_bytes(data[:8], 'little')
    for end in (header, len(data)):
        for place in rng.integers(0, end, 200):
            changed = bytearray(data)
            changed[place] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            with pytest.raises(ModelFileError, match=r'model\.safetensors'):
                open_model(path)
    for length in rng.integers(0, len(data), 40):
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r'model\.safetensors'):
            open_model(path)
