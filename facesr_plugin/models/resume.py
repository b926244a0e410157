"""Finding the training state to go on from; stands in for `basicsr.train.load_resume_state`."""

from pathlib import Path
from typing import Any

from basicsr.utils import check_resume

from facesr_plugin.errors import UserError
from facesr_plugin.models import checkpoint


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """Return the training state that `--auto_resume` or `path.resume_state` asks for, on the CPU.

    Args:
        opt: Options of the run; as in stock, its network is set to load the weights of that iteration.

    Returns:
        The state, or None to start anew.

    Raises:
        UserError: A state or its weights are missing, damaged or of another run.
    """
    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        folder = Path(opt['path']['training_states'])
        states = [file for file in folder.glob('*.state') if file.stem.isdigit()]
        path = str(max(states, key=lambda file: int(file.stem))) if states else None
        print(f'--auto_resume: {f"going on from {path}" if path else f"no state in {folder}, starting anew"}')
    if path is None:
        return None
    state = checkpoint.load(path)
    if missing := {'iter', 'epoch', 'optimizers', 'schedulers'} - state.keys():
        raise UserError(f'{path}: a training state expected, it lacks {", ".join(sorted(missing))}')
    opt['path']['resume_state'] = path
    check_resume(opt, state['iter'])
    weights = Path(opt['path']['pretrain_network_g'])
    if not weights.is_file():
        raise UserError(f'{weights}: no such file, the weights that belong to {path}')
    return state
