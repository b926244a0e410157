"""Experiments as training left them, read as far as it goes: what cannot be read is named, the rest is kept."""

import glob
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from facesr_plugin.errors import UserError
from facesr_plugin.models.history import COLUMNS, Row, read_rows
from facesr_plugin.models.validation import BASELINES
from facesr_plugin.options.read import load_yaml, override
from facesr_plugin.options.schedules import EXTEND, RESTART, extend
from facesr_plugin.report.records import mean, read_record

UNSET = object()
_COMMAND = re.compile(r'# GENERATE TIME: .*\n# CMD:\n# (.*)')  # BasicSR heads its copy of an option file with these


@dataclass(frozen=True)
class Experiment:
    """An experiment, or the mean of several runs of one.

    Attributes:
        name: In tables and legends.
        runs: Of each run, the rows of its history by `COLUMNS`; empty cells are None.
        options: Its option file's, with what `--force_yml` set; empty if there is none that can be read.
        folder: Where its checkpoints lie, unless only its history is known.
        problems: One line for each thing that is wrong with its history.
        missing: One line for each other thing that is not there or cannot be read. Later steps add theirs.
    """

    name: str
    runs: list[list[Row]]
    options: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Its history, or the mean of those of its runs; where a run has no value there is none."""
        if len(self.runs) == 1:
            return self.runs[0]
        return [{key: mean([row[key] for row in rows]) for key in COLUMNS} for rows in zip(*self.runs, strict=True)]

    def values(self, column: str) -> list[float]:
        """Return a column, NaN where nothing was recorded."""
        return _column(self.rows, column)

    def band(self, column: str) -> tuple[list[float], list[float]]:
        """Return the least and the greatest value of the runs, row by row."""
        rows = list(zip(*(_column(run, column) for run in self.runs), strict=True))
        return [min(row) for row in rows], [max(row) for row in rows]

    @property
    def settings(self) -> dict[str, Any]:
        """Its options by their dotted names."""
        return flatten(self.options)

    @property
    def weights(self) -> list[Path]:
        """Its checkpoints: the best one, that of the end, then the newest first."""
        named = [self.folder / 'models' / f'net_g_{label}.pth' for label in ('best', 'latest')] if self.folder else []
        return [path for path in named if path.exists()] + [path for _, path in sorted(self._numbered.items())[::-1]]

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
        paths = self.folder.glob('models/net_g_*.pth') if self.folder else ()
        return {int(path.stem[6:]): path for path in paths if path.stem[6:].isdecimal()}


class Baseline(NamedTuple):
    """What plain enlarging by one of `BASELINES` scores on a validation set, dB."""

    mode: str
    psnr: float
    label: str  # the mode, and whose validation set it is where they differ


def is_number(value: Any) -> bool:
    """Return whether a cell or an option is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _column(rows: list[Row], name: str) -> list[float]:
    return [math.nan if row[name] is None else row[name] for row in rows]


def load_experiments(entries: list[str]) -> list[Experiment]:
    """Read experiments: see `load_experiment`.

    Raises:
        UserError: One is not there, or two have the same name.
    """
    experiments = [load_experiment(entry) for entry in entries]
    names = [experiment.name for experiment in experiments]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f'{name}: experiments of different names expected, two have this one')
    return experiments


def load_experiment(entry: str) -> Experiment:
    """Read an experiment.

    Args:
        entry: A folder that training made, a `history.csv`, or the record of a run of `run_experiments.py`, which gives
            the name; or NAME=PATTERN, the mean over several of them.

    Raises:
        UserError: There is none, a record is damaged, or runs to average were not validated alike.
    """
    name, separator, pattern = entry.partition('=')
    if not separator or os.path.exists(entry):
        return _load(Path(entry))
    paths = sorted(glob.glob(pattern))
    if not name or not paths:
        raise UserError(f'{entry}: NAME=PATTERN expected, with a pattern of experiment folders or records that exist')
    runs = [_load(Path(path)) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run.values('iter') != runs[0].values('iter'):
            raise UserError(f'{path}: rows at the same iterations expected as in {paths[0]}')
    problems, missing = ([line for run in runs for line in getattr(run, kind)] for kind in ('problems', 'missing'))
    options = _merge([run.options for run in runs])
    return Experiment(name, [run.rows for run in runs], options, problems=problems, missing=missing)


def _load(path: Path) -> Experiment:
    """Read one run."""
    if not path.exists():
        raise UserError(f'{path}: no such folder or file')
    if path.suffix == '.json' and path.is_file():
        record = read_record(path)
        history = record['history']
        rows = [dict(zip(history, row, strict=True)) for row in zip(*history.values(), strict=True)]
        return Experiment(path.stem, [rows], record['opt'])
    folder = path if path.is_dir() else path.parent if path.name == 'history.csv' else None
    file = path / 'history.csv' if path.is_dir() else path
    rows, problems = read_rows(file)
    experiment = Experiment(folder.resolve().name if folder else path.stem, [rows], folder=folder, problems=problems)
    if not rows and not problems:
        problems.append(f'{file}: no row yet; training writes one after each validation')
    if folder is None:
        return experiment
    try:
        experiment.options.update(_read_options(folder))
    except UserError as error:
        experiment.missing.append(str(error))
    if rows and not experiment.last:
        experiment.missing.append(f'{file}: no validation in it')
    if not experiment.weights:
        experiment.missing.append(f'{folder / "models"}: no checkpoint net_g_*.pth yet')
    return experiment


def _merge(values: list[Any]) -> Any:
    """Return what runs have set for an option, or block of options: all of it, as text, where they differ."""
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: _merge([value.get(key, UNSET) for value in values]) for key in keys}
    if all(value == values[0] for value in values):
        return values[0]
    return ', '.join(dict.fromkeys('not set' if value is UNSET else _as_text(value) for value in values))


def _read_options(folder: Path) -> dict[str, Any]:
    """Read the copy of the option file that training put into a folder; of several, that of the latest start."""
    paths = [*folder.glob('*.yml'), *folder.glob('*.yaml')]
    if not paths:
        raise UserError(f'{folder}: no option file *.yml, as training copies it there; settings are not known')
    path = max(paths, key=lambda path: path.stat().st_mtime)
    options = load_yaml(path)
    text = path.read_text('utf-8')
    for entry in forced_entries(text):
        override(options, entry)
    if longer := re.search(rf' {EXTEND}[ =](\d+)', command := command_of(text)):
        extend(options, int(longer[1]), RESTART in command)
    return options


def command_of(text: str) -> str:
    """Return the command that began a run, as the head of BasicSR's copy of an option file tells; else ''."""
    found = _COMMAND.match(text)
    return found[1] if found else ''


def forced_entries(text: str) -> list[str]:
    r"""Return what `--force_yml` set, as the head of BasicSR's copy of an option file tells.

    Example:
        >>> forced_entries('# GENERATE TIME: x\n# CMD:\n# train.py -opt a.yml --force_yml scale=2 a:b=[1, 2] --debug')
        ['scale=2', 'a:b=[1, 2]']
    """
    entries = command_of(text).partition(' --force_yml ')[2]
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
    baselines = []
    for mode in BASELINES:
        names: dict[float, list[str]] = {}
        for experiment in experiments:
            if experiment.last and is_number(psnr := experiment.last[f'{mode}_psnr']):
                names.setdefault(round(psnr, 6), []).append(experiment.name)
        for psnr, whose in names.items():
            baselines.append(Baseline(mode, psnr, f'{mode} ({", ".join(whose)})' if len(names) > 1 else mode))
    return baselines
