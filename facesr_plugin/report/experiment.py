"""What the folder of an experiment holds, read as far as it goes: what cannot be read is named, the rest is kept."""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from facesr_plugin.errors import UserError
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.options.load import load_yaml, override

Row = dict[str, float | None]
UNSET = object()
# Columns of `history.csv` that a report shows; others may be there.
COLUMNS = ('iter', 'alpha', 'lr', 'train_loss', 'train_psnr', 'val_loss', 'val_psnr', 'val_ssim')
COLUMNS += tuple(f'{mode}_psnr' for mode in BASELINES)
_COMMAND = re.compile(r'# GENERATE TIME: .*\n# CMD:\n# (.*)')  # BasicSR heads its copy of an option file with these


@dataclass(frozen=True)
class Experiment:
    """An experiment as training left it.

    Attributes:
        name: Of its folder.
        folder: Where it lies.
        options: Its option file's, with what `--force_yml` set; empty if there is none that can be read.
        rows: Of its `history.csv`, by column; empty cells are None.
        missing: One line for each thing that is not there or cannot be read. Later steps add theirs.
    """

    name: str
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, Any]:
        """Its options by their dotted names."""
        return flatten(self.options)

    @property
    def weights(self) -> list[Path]:
        """Its checkpoints: the best one, that of the end, then the newest first."""
        models = self.folder / 'models'
        named = [path for path in (models / 'net_g_best.pth', models / 'net_g_latest.pth') if path.exists()]
        return named + [path for _, path in sorted(self._numbered.items(), reverse=True)]

    @property
    def best(self) -> Row | None:
        """The row of the highest validation PSNR, or None without validation."""
        return max(self._validated, key=lambda row: row['val_psnr'], default=None)

    @property
    def last(self) -> Row | None:
        """The row of the last validation, or None without one."""
        return self._validated[-1] if self._validated else None

    @property
    def iteration(self) -> int:
        """The last iteration that a row or a checkpoint tells of."""
        return int(max([0, *self._numbered, *(row['iter'] for row in self.rows)]))

    @property
    def total_iter(self) -> int | None:
        """How many iterations the run is to have, or None where that is not known."""
        total = self.settings.get('train.total_iter')
        return int(total) if is_number(total) else None

    @property
    def is_finished(self) -> bool:
        """Whether it has reached the run's last iteration."""
        return self.total_iter is not None and self.iteration >= self.total_iter

    @property
    def _validated(self) -> list[Row]:
        return [row for row in self.rows if is_number(row['val_psnr'])]

    @property
    def _numbered(self) -> dict[int, Path]:
        paths = self.folder.glob('models/net_g_*.pth')
        return {int(path.stem[6:]): path for path in paths if path.stem[6:].isdecimal()}


class Baseline(NamedTuple):
    """What plain enlarging by one of `BASELINES` scores on a validation set, dB, and whose set that is."""

    mode: str
    psnr: float
    names: list[str]


def is_number(value: Any) -> bool:
    """Return whether a cell or an option is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def load_experiment(folder: Path) -> Experiment:
    """Read an experiment's folder.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    experiment = Experiment(folder.resolve().name, folder)
    try:
        experiment.options.update(_read_options(folder))
    except UserError as error:
        experiment.missing.append(str(error))
    try:
        rows, problems = read_rows(folder / 'history.csv')
        experiment.rows.extend(rows)
        experiment.missing.extend(problems)
    except UserError as error:
        experiment.missing.append(str(error))
    if experiment.rows and not experiment.last:
        experiment.missing.append(f'{folder / "history.csv"}: no validation in it')
    if not experiment.weights:
        experiment.missing.append(f'{folder / "models"}: no checkpoint net_g_*.pth yet')
    return experiment


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Read the whole rows of a `history.csv`, even if it is damaged.

    Returns:
        The rows, and one line for each that had to be left out.

    Raises:
        UserError: There is no such file, or it is not one that training wrote.
    """
    try:
        text = path.read_text('utf-8', errors='replace')
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file; training writes it after its first validation') from error
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error
    head, *lines = text.splitlines(keepends=True) or ['']
    names = head.strip().split(',')
    if 'iter' not in names:
        raise UserError(f'{path}: a history.csv written by training expected, it has no column iter')
    problems = []
    if absent := [name for name in COLUMNS if name not in names]:
        problems.append(f'{path}: no column {", ".join(absent)}')
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(dict.fromkeys(COLUMNS) | _read_row(names, line))
        except ValueError:
            problems.append(f'{path}:{number}: row left out, {len(names)} numbers expected: damaged or cut short')
    if not lines:
        problems.append(f'{path}: no row yet; training writes one after each validation')
    return rows, problems


def _read_row(names: list[str], line: str) -> Row:
    """Read a line; ValueError if it is cut short, even within its last number."""
    cells = line.rstrip('\r\n').split(',') if line.endswith('\n') else []
    row = dict(zip(names, [float(cell) if cell else None for cell in cells], strict=True))
    if not is_number(row['iter']):
        raise ValueError('iter')
    return row


def _read_options(folder: Path) -> dict[str, Any]:
    """Read the copy of the option file that training put into a folder; of several, that of the latest start."""
    paths = [*folder.glob('*.yml'), *folder.glob('*.yaml')]
    if not paths:
        raise UserError(f'{folder}: no option file *.yml, as training copies it there; settings are not known')
    path = max(paths, key=lambda path: path.stat().st_mtime)
    options = load_yaml(path)
    for entry in forced_entries(path.read_text('utf-8')):
        override(options, entry)
    return options


def forced_entries(text: str) -> list[str]:
    r"""Return what `--force_yml` set, as the head of BasicSR's copy of an option file tells.

    Example:
        >>> forced_entries('# GENERATE TIME: x\n# CMD:\n# train.py -opt a.yml --force_yml scale=2 a:b=[1, 2] --debug')
        ['scale=2', 'a:b=[1, 2]']
    """
    command = _COMMAND.match(text)
    entries = command[1].partition(' --force_yml ')[2] if command else ''
    entries = re.split(r' --?[a-z]', entries)[0]
    return [entry for entry in re.split(r' (?=[\w:]+=)', entries) if entry]


def flatten(options: dict[str, Any], above: str = '') -> dict[str, Any]:
    """Return nested options by dotted names.

    Example:
        >>> flatten({'scale': 4, 'val': {'metrics': {'psnr': {'crop_border': 0}}}})
        {'scale': 4, 'val.metrics.psnr.crop_border': 0}
    """
    flat = {}
    for key, value in options.items():
        flat |= flatten(value, f'{above}{key}.') if isinstance(value, dict) and value else {f'{above}{key}': value}
    return flat


def compare_settings(experiments: list[Experiment]) -> list[tuple[str, list[str | None], bool]]:
    """Lay the options of experiments side by side, in the order of their files.

    Returns:
        For each option but `name`: its dotted name, its value in each experiment as text, None where it is not set,
        and whether the experiments whose options are known differ in it.
    """
    all_settings = [experiment.settings for experiment in experiments]
    names = dict.fromkeys(name for settings in all_settings for name in settings)
    table = []
    for name in names:
        values = [settings.get(name, UNSET) for settings in all_settings]
        known = [value for value, settings in zip(values, all_settings, strict=True) if settings]
        differ = any(value != known[0] for value in known)
        table.append((name, [None if value is UNSET else _as_text(value) for value in values], differ))
    return [entry for entry in table if entry[0] != 'name']


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def find_baselines(experiments: list[Experiment]) -> list[Baseline]:
    """Return what plain enlarging scored, once for all experiments of the same validation set."""
    found: dict[tuple[str, float], list[str]] = {}
    for mode in BASELINES:
        for experiment in experiments:
            if experiment.last and is_number(psnr := experiment.last[f'{mode}_psnr']):
                found.setdefault((mode, psnr), []).append(experiment.name)
    return [Baseline(mode, psnr, names) for (mode, psnr), names in found.items()]
