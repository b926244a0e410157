"""A protocol: the cells of an experiment, each an option file with changes, and the runs of each, one per seed."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len
from pydantic import AfterValidator, Field

from facesr_plugin.blocks import Block, Count, did_you_mean
from facesr_plugin.errors import UserError
from facesr_plugin.options.check import check
from facesr_plugin.options.read import load_yaml, set_option
from facesr_plugin.options.types import TrainingOptions


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError('each seed once expected')
    return seeds


Seeds = Annotated[list[Count], Len(1), AfterValidator(_distinct)]
Changes = dict[str, Any]


class CellOptions(Block):
    """`cells.NAME`: what is compared with the other cells."""

    option_file: str = Field(description='that it starts from')
    set: Changes = Field({}, description='options changed in it, by their path: train.optim_g.type')
    seeds: Seeds | None = Field(None, description="values of manual_seed; default: the protocol's")


class ProtocolOptions(Block):
    """The top level of a protocol file."""

    name: str = Field(description='first part of the names of its runs')
    seeds: Seeds = Field(description='values of manual_seed')
    set: Changes = Field({}, description="options changed in all cells; a cell's own come after")
    cells: Annotated[dict[str, CellOptions], Len(1)]


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: Of its folder in `experiments/`.
        cell: Of the protocol.
        option_file: That it starts from.
        changes: What differs from that, in this cell as against the others.
        opt: The options it is made with, as plain data.
    """

    name: str
    cell: str
    option_file: str
    changes: Changes
    opt: dict[str, Any]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.opt['manual_seed']

    @cached_property
    def options(self) -> TrainingOptions:
        """Its options with their defaults."""
        return TrainingOptions.parse(self.opt)


def load_protocol(path: Path) -> list[Run]:
    """Read a protocol file and return its runs: the first seed of every cell, then the second, and so on.

    Raises:
        UserError: The file, a cell's option file or a change is not as expected.
    """
    protocol = ProtocolOptions.parse(load_yaml(path))
    runs = [
        (turn, _make_run(protocol, name, cell, seed))
        for name, cell in protocol.cells.items()
        for turn, seed in enumerate(cell.seeds or protocol.seeds)
    ]
    return [run for _, run in sorted(runs, key=lambda entry: entry[0])]


def choose(runs: list[Run], cells: list[str] | None, seeds: list[int] | None) -> list[Run]:
    """Return the runs of some cells and seeds; None takes all.

    Raises:
        UserError: There is no such cell, or none of these has one of the seeds.
    """
    known = dict.fromkeys(run.cell for run in runs)
    for name in cells or ():
        if name not in known:
            raise UserError(f'--only {name}: no such cell in the protocol{did_you_mean(name, known)}')
    chosen = [run for run in runs if run.cell in (cells or known) and (seeds is None or run.seed in seeds)]
    if not chosen:
        raise UserError(f'--seeds {" ".join(map(str, seeds))}: the cells have none of them')
    return chosen


def check_runs(runs: list[Run]) -> None:
    """Check the options of every cell, and the data they name, as training does.

    Raises:
        UserError: One line per problem, with the cell's name.
    """
    problems = []
    for run in {run.cell: run for run in runs}.values():
        if (run.opt.get('path') or {}).get('root'):
            problems.append(f'{run.cell}: path.root: none expected, runs lie below the current folder')
        if 'val' not in (run.opt.get('datasets') or {}):
            problems.append(f'{run.cell}: datasets.val: missing, the table is of its scores')
        try:
            check(run.opt, is_train=True)
        except UserError as error:
            problems += [f'{run.cell}: {line}' for line in str(error).splitlines()]
    if problems:
        raise UserError('\n'.join(problems))


def differences(first: Any, second: Any, path: str = '') -> list[str]:
    """Return what differs between two option blocks, as `train.total_iter: 1500, now 750`."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [] if first == second else [f'{path}: {first}, now {second}']
    keys = [*first, *(key for key in second if key not in first)]
    return [
        line
        for key in keys
        for line in differences(first.get(key), second.get(key), f'{path}.{key}' if path else str(key))
    ]


def _make_run(protocol: ProtocolOptions, name: str, cell: CellOptions, seed: int) -> Run:
    opt = load_yaml(cell.option_file)
    for key, value in {**protocol.set, **cell.set}.items():
        set_option(opt, key.split('.'), value, f'cells.{name}: {cell.option_file}: {key}')
    run_name = f'{protocol.name}_{name}_seed{seed}'
    opt |= {'name': run_name, 'manual_seed': seed}
    return Run(run_name, name, cell.option_file, cell.set, json.loads(json.dumps(opt)))
