"""The diagnosis of the selected scan in the window: by a button of the panel, beside what else runs."""

from __future__ import annotations

import pytest
from PyQt5.QtWidgets import QDialog, QLabel, QPushButton
from test_jobs import wait
from window import QTest, Window

from ptychopinn_reconstructor.diagnosis.finding import Finding
from ptychopinn_reconstructor.host.diagnosis import DiagnosisRecord
from ptychopinn_reconstructor.host.window.diagnosis import PICTURE, WORD, DiagnosisDialog, format_findings


def press(window: Window) -> QPushButton:
    button = window.panel.findChild(QPushButton, 'diagnosis')
    assert button is not None
    window.click(button)
    return button


def dialogs(window: Window) -> list[DiagnosisDialog]:
    found = window.view.findChildren(QDialog, 'diagnosis-dialog')
    return [each for each in found if isinstance(each, DiagnosisDialog) and each.isVisible()]


def test_findings_are_told_in_the_words_of_the_panel() -> None:
    finding = Finding('probe_modes', 'More modes <3>.', 'likely', 'Refine it: --refine-probe; --fix does.')
    lines = [*format_findings(DiagnosisRecord('scan', (finding,), 7, 12.3, None))]
    assert lines[0] == '<b>1. probe modes</b> (likely)' and lines[1] == 'More modes &lt;3&gt;.'
    assert 'Refine probe' in lines[2] and 'Diagnose the scan first' in lines[2] and '--' not in lines[2]
    assert lines[-1] == 'Trial reconstructions: 7, 12 s of CPU time.'
    assert 'Nothing is wrong' in next(format_findings(DiagnosisRecord('scan', (), 1, 1.0, None)))


@pytest.mark.slow
def test_the_selected_scan_is_diagnosed(window: Window) -> None:
    """The button says how far it is; a window opens with the findings and the picture, and nothing is changed."""
    probes = window.product(0).get_probe_item()
    before = window.product(0).get_product().probes.get_probe_no_opr().get_array().copy()
    button = press(window)
    assert button.text().startswith('Diagnosing')
    window.picture('diagnosis-running')
    wait(lambda: dialogs(window))
    assert button.text() == WORD
    (dialog,) = dialogs(window)
    QTest.qWait(200)
    window.picture('diagnosis', dialog)
    assert 'Trial reconstructions' in dialog.text.text() and window.products.currentText() in dialog.windowTitle()
    (picture,) = dialog.findChildren(QLabel, PICTURE)
    shown = picture.pixmap()
    assert shown is not None and shown.width() > 200
    assert (probes.get_probes().get_probe_no_opr().get_array() == before).all() and window.errors == []
    dialog.close()


@pytest.mark.slow
def test_a_diagnosis_is_stopped_by_the_same_button(window: Window) -> None:
    button = press(window)
    wait(lambda: button.text().startswith('Diagnosing'))
    window.click(button)
    wait(lambda: button.text() == WORD)
    assert not dialogs(window)
