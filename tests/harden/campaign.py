"""The whole campaign of attacks: hours, resumable. `make harden`, or PYTHONPATH=tests python -m harden.campaign.

Each attack of `attacks.SERIES` is run with its number as its seed, in batches in child processes: a crash of a library,
or a loop without an end, is counted and the campaign goes on. Results are lines of JSON in OUT, one file a
series; what is there is not done again. --report writes the table of benchmarks/HARDENING.md anew from them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from harden.attacks import HELD, SERIES, Attack, Series, run_attack
from harden.endurance import reconstruct_repeatedly, refine_repeatedly, start_workers
from harden.environments import attack_environment
from harden.kills import attack_kill


def _run_long(series: Callable[[int, Path], str], count: int) -> Attack:
    return lambda folder, _: series(count, folder)


BATCH, PATIENCE = 100, 600  # attacks a child, CPU seconds that it may take
REPORT = Path(__file__).parents[2] / 'benchmarks' / 'HARDENING.md'
MARK = '<!-- counts -->\n'
TITLES = {'torch': 'PyTorch', 'tensorflow': 'TensorFlow'}
KILLS = {
    f'kill {name}': Series(
        f'trainings, pretrainings, reconstructions, studies with {title} killed, then run again',
        partial(attack_kill, name),
        100,
    )
    for name, title in TITLES.items()
}
LONG = {
    'warm engine': Series('500 reconstructions in one process, engine alone', _run_long(refine_repeatedly, 500), 1),
    **{
        f'warm {name}': Series(
            f'500 reconstructions in one process, {title}', _run_long(partial(reconstruct_repeatedly, name), 500), 1
        )
        for name, title in TITLES.items()
    },
    'workers': Series('100 workers started by one process', _run_long(start_workers, 100), 1),
}
ODD = {'environment': Series('commands in odd surroundings', attack_environment, 300)}
ALL = SERIES | KILLS | LONG | ODD


def read_results(file: Path) -> dict[int, str]:
    """Outcomes by their numbers; a line that was cut short is left out."""
    found: dict[int, str] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
            found[int(entry['number'])] = str(entry['outcome'])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def run_series(name: str, file: Path, count: int, deadline: float) -> None:
    """Run the attacks of a series that are not done, until the time is over."""
    missing = [number for number in range(count) if number not in read_results(file)]
    while missing and time.monotonic() < deadline:
        status = _run_batch(name, missing[:BATCH], file, deadline)
        done = read_results(file)
        missing = [number for number in missing if number not in done]
        if status and missing:  # the child has ended at the first that it did not answer
            with file.open('a') as stream:
                outcome = f'escaped: the process ended with {status}'
                stream.write(json.dumps({'number': missing.pop(0), 'outcome': outcome}) + '\n')


def _run_batch(name: str, numbers: list[int], file: Path, deadline: float) -> int:
    """Run attacks in a child process; its exit status, negative for a signal."""
    with tempfile.TemporaryDirectory(prefix='harden-') as place:  # what a crash leaves goes with it
        child = os.fork()
        if not child:
            status, tempfile.tempdir = 1, place
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 10))
                for number, outcome in _outcomes(name, numbers, deadline):
                    with file.open('a') as stream:
                        stream.write(json.dumps({'number': number, 'outcome': outcome}) + '\n')
                status = 0
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _outcomes(name: str, numbers: list[int], deadline: float) -> Iterator[tuple[int, str]]:
    for number in numbers:
        if time.monotonic() > deadline:
            return
        with tempfile.TemporaryDirectory(prefix='attack-') as folder:
            yield number, run_attack(name, number, Path(folder), ALL)


def make_table(out: Path) -> str:
    """The table of counts: tried, held, escaped."""
    lines = ['| attack | tried | of | held | escaped |', '|---|---|---|---|---|']
    for name, series in ALL.items():
        found = read_results(out / f'{name.replace(" ", "-")}.jsonl')
        held = sum(outcome.startswith(HELD) for outcome in found.values())
        lines.append(f'| {series.what} | {len(found):,} | {series.count:,} | {held:,} | {len(found) - held:,} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('harden'), help='folder of the results')
    parser.add_argument('--only', help='names of series, separated by commas')
    parser.add_argument('--part', type=float, default=1.0, help='of the counts of the whole campaign')
    parser.add_argument('--minutes', type=float, default=600.0, help='after which it stops, to go on later')
    parser.add_argument('--report', action='store_true', help='write the table of benchmarks/HARDENING.md')
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * asked.minutes
    for name in asked.only.split(',') if asked.only else ALL:
        run_series(name, asked.out / f'{name.replace(" ", "-")}.jsonl', round(ALL[name].count * asked.part), deadline)
    if asked.report:
        head, _, rest = REPORT.read_text().partition(MARK)
        _, _, tail = rest.partition(MARK)
        REPORT.write_text(head + MARK + '\n' + make_table(asked.out) + '\n' + MARK + tail)


if __name__ == '__main__':
    main()
