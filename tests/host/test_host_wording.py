"""Messages in the words of the panel."""

from __future__ import annotations

import pytest

from ptychopinn_reconstructor.host.fields import LABELS
from ptychopinn_reconstructor.host.wording import say


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('set data.probe_power=from_counts.', f"set '{LABELS['probe_power']}' = from_counts."),
        ('try refinement.positions=true and refinement.probe=true',
         f"try '{LABELS['positions']}' and '{LABELS['probe']}'"),
        ('set training.nepochs to more', f"set '{LABELS['nepochs']}' to more"),
        ('set model.N back', 'set N back'),
        ('hand one in (probe=)', 'hand one in (Probe)'),
        ('leave out resume=True', f"leave out '{LABELS['resume']}'"),
        ('a pretrained model (initial=)', f"a pretrained model ('{LABELS['start_from_model']}')"),
        ('set another ScratchDir.', f"set another '{LABELS['scratch_dir']}'."),
        ('[PtychoPINNPlugin] ProbePower = 3 is wrong', '[PtychoPINNPlugin] ProbePower = 3 is wrong'),
        ('the PyTorch backend of PtychoPINN', 'the PyTorch backend of PtychoPINN'),
        # What still names an option of the command line.
        ('Refine it: --refine-probe.', f"Refine it: '{LABELS['probe']}'."),
        ('(--probe-power from_counts), or --fix', f"('{LABELS['probe_power']}' = from_counts), or --fix"),
    ],
)  # fmt: skip
def test_the_window_names_its_fields(text: str, expected: str) -> None:
    assert say(text) == expected
