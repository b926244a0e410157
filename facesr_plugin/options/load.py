"""The command line of `train.py` and `test.py`, and what it makes of its option file.

`parse_options` replaces BasicSR's: the same flags and the same result, but a YAML file is only data, and all that is
wrong with it is said before anything starts. What may stand in a file is in `types.py`, the check of it in `check.py`.
"""

import argparse
import os
import random
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from basicsr.utils import set_random_seed
from basicsr.utils.dist_util import get_dist_info

from facesr_plugin.command_line import Parser
from facesr_plugin.errors import UserError, one_line, raise_all
from facesr_plugin.files import write
from facesr_plugin.options.check import check, check_state
from facesr_plugin.options.compare import ALLOW, check_data
from facesr_plugin.options.gpus import gpus_used
from facesr_plugin.options.read import find_option_file, import_modules, load_yaml, override
from facesr_plugin.options.schedules import EXTEND, RESTART, extend
from facesr_plugin.options.types import RunOptions
from facesr_plugin.run import checkpoint, state
from facesr_plugin.run.device import device_for
from facesr_plugin.run.processes import from_first, join

_OLD_COPY = '# GENERATE TIME: '  # the first line of BasicSR's copy of an option file


def copy_option_file(text: str, path: Path) -> None:
    """Write a run's copy of its option file, with BasicSR's lines on top; nothing that is linked there is followed.

    Args:
        text: The file's content, which may be such a copy itself.
        path: Where to.

    Raises:
        RunError: It cannot be written.
    """
    if text.startswith(_OLD_COPY):
        text = text.partition('\n\n')[2]
    top = f'{_OLD_COPY}{time.asctime()}\n# CMD:\n# {one_line(" ".join(sys.argv))}\n\n'
    write(path, (top + text).encode())


def build_parser(is_train: bool) -> argparse.ArgumentParser:
    """Return the command line of `train.py` or `test.py`: BasicSR's flags."""
    parser = Parser(f'{"Train" if is_train else "Test"} with the loop of BasicSR.')
    parser.add_argument('-opt', required=True, help='option file, YAML, or the name of one that comes with the plugin')
    parser.add_argument(
        '--check',
        action='store_true',
        help='check the file and all it names, and stop; with --auto_resume, the state too',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help='who started the processes: torchrun (pytorch) or srun (slurm)',
    )
    parser.add_argument(
        '--import',
        dest='imports',
        nargs='+',
        default=[],
        metavar='MODULE',
        help='modules or files that register classes of your own',
    )
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest training state of this run')
    if is_train:
        parser.add_argument(
            ALLOW, action='store_true', help='go on though the training images are not those of the training state'
        )
        parser.add_argument(
            EXTEND,
            type=int,
            metavar='TOTAL_ITER',
            help='with --auto_resume: go on to so many iterations, more than the option file says',
        )
        parser.add_argument(
            RESTART,
            action='store_true',
            help=f'with {EXTEND}: learning rate and alpha that end with the shorter run begin anew there',
        )
    parser.add_argument('--debug', action='store_true', help='a short cycle of log, save and validation, named debug_*')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by launchers; not used')
    parser.add_argument('--force_yml', nargs='+', default=[], metavar='KEY:SUBKEY=VALUE', help='set options')
    return parser


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """Read the command line and its option file; stands in for `basicsr.utils.options.parse_options`.

    Args:
        root_path: Where `experiments/` and `results/` lie.
        is_train: For training, else for a test.

    Returns:
        The options as BasicSR's pipelines expect them, and the parsed command line, with `run`: the typed file.

    Raises:
        UserError: One line per problem.
    """
    args = build_parser(is_train).parse_args()
    # Classes that are not ours may load files, too; PyTorch before 2.6 would run what is pickled there.
    os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    args.opt = str(find_option_file(args.opt))
    args.text = Path(args.opt).read_text('utf-8', errors='replace') if os.path.isfile(args.opt) else ''
    content = load_yaml(args.opt)
    for entry in args.force_yml:
        override(content, entry)
    import_modules('--import', args.imports)
    import_modules('imports', content.get('imports'))
    if is_train:
        _extend(content, args)
    args.run = run = check(content, is_train)
    name = f'debug_{run.name}' if args.debug and not run.name.startswith('debug') else run.name
    root = Path(run.path.root or root_path).expanduser().resolve() / ('experiments' if is_train else 'results') / name
    _check_writable(root)
    if not is_train or not (args.auto_resume or run.path.resume_state):
        check_outside(run, root)
    if args.check:
        if is_train and args.auto_resume:
            _, found = state.newest(root / 'training_states', root / 'models')
            if found:
                check_state(run, found)
        elif is_train:
            found = run.path.resume_state and checkpoint.load(Path(run.path.resume_state).expanduser())
        if is_train and found:
            train_set = run.datasets.train.model_dump(exclude_none=True)
            if line := check_data(train_set, found, args.allow_other_data):
                print(line)
        print(f'{args.opt}: the file and all it names are fine')
        sys.exit(0)

    opt = as_opt(run, root, is_train)
    opt['dist'] = args.launcher != 'none'
    if opt['dist']:
        if device_for(opt['num_gpu']).type == 'mps':
            raise UserError('num_gpu: 0 expected with --launcher: MPS is one device, on which one process trains')
        join(opt['num_gpu'] > 0, args.launcher)
    opt['rank'], opt['world_size'] = get_dist_info()
    if run.manual_seed is None:
        opt['manual_seed'] = from_first(partial(random.randint, 1, 10000))
    set_random_seed(opt['manual_seed'] + opt['rank'])
    opt['auto_resume'] = args.auto_resume
    if args.debug and name != run.name:
        opt['name'] = name
        if is_train:
            opt['logger'] |= {'print_freq': 1, 'save_checkpoint_freq': 8}
        if 'val' in opt:
            opt['val']['val_freq'] = 8
    return opt, args


def _extend(content: dict[str, Any], args: argparse.Namespace) -> None:
    """Make the run longer if the command line says so."""
    if args.restart_schedules and args.extend is None:
        raise UserError(f'{RESTART}: {EXTEND} expected with it')
    if args.extend is None:
        return
    path = content.get('path')
    if not args.auto_resume and not (isinstance(path, dict) and path.get('resume_state')):
        raise UserError(f'{EXTEND}: --auto_resume or path.resume_state expected with it, the run to go on with')
    extend(content, args.extend, args.restart_schedules)


def as_opt(run: RunOptions, root: Path, is_train: bool) -> dict[str, Any]:
    """Return a typed file as the options that BasicSR's pipelines take: its dump, without what is not set.

    Args:
        run: The file.
        root: Folder of the run.
        is_train: For training, else for a test.
    """
    opt = run.model_dump(exclude_none=True) | {'is_train': is_train, 'num_gpu': gpus_used(run)}
    device = device_for(opt['num_gpu']).type
    for phase, block in opt['datasets'].items():
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            if isinstance(roots := block.get(key), list):
                block[key] = [str(Path(root).expanduser()) for root in roots]
            elif roots:
                block[key] = str(Path(roots).expanduser())
        if phase == 'train' and device == 'cuda':
            block.setdefault('pin_memory', True)  # or copies to the device wait for it
        mode = block.get('prefetch_mode')
        if mode == 'cpu' or (mode == 'cuda' and device != 'cuda'):
            why = {'cpu': 'is not used', 'cuda': 'needs a CUDA device, none is used here'}[mode]
            print(f'datasets.{phase}.prefetch_mode: {mode} {why}; going on without')
            del block['prefetch_mode']
    if run.val:
        opt['val']['suffix'] = run.val.suffix  # BasicSR asks for it
    path = opt['path']
    path.pop('root', None)  # BasicSR would make a folder of every entry
    path['param_key_g'] = run.path.param_key_g  # none: the file is the state dict
    for key in ('pretrain_network_g', 'pretrain_network_d', 'resume_state'):
        path[key] = path.get(key) and str(Path(path[key]).expanduser())
    path |= {'log': str(root), 'visualization': str(root / 'visualization')}
    if is_train:
        path |= {'experiments_root': str(root), 'models': str(root / 'models')}
        path['training_states'] = str(root / 'training_states')
    else:
        path['results_root'] = str(root)
    return opt


def check_outside(run: RunOptions, root: Path) -> None:
    """Check that a run does not read what it moves aside when it starts anew.

    Args:
        run: Its options.
        root: Its folder.

    Raises:
        UserError: Weights or data are in it; a line for each.
    """
    named = {'path.pretrain_network_g': run.path.pretrain_network_g}
    for phase, block in run.datasets.items():
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file'):
            named[f'datasets.{phase}.{key}'] = getattr(block, key, None)
    raise_all(
        f'{key}: a place outside {root} expected, which a new run of this name moves aside, got {path}'
        for key, paths in named.items()
        for path in (paths if isinstance(paths, list) else [paths])
        if path and Path(path).expanduser().resolve().is_relative_to(root)
    )


def _check_writable(folder: Path) -> None:
    """Check that a folder exists, or can be made, and can be written to.

    Raises:
        UserError: It cannot.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        raise UserError(f'{there}: a folder expected, to hold {folder}')
    effective = {'effective_ids': True} if os.access in os.supports_effective_ids else {}
    if not os.access(there, os.W_OK | os.X_OK, **effective):
        raise UserError(f'{there}: no permission to write there, for {folder}')
