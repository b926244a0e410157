"""Train: `python facesr_plugin/train.py -opt options/exp1_lsr.yml [--auto_resume]`.

BasicSR's own `train_pipeline` does the work, with the current folder as root. It looks a few names up in its module;
what stands in for them is set here and nowhere else.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import the package of this checkout, not its parts by their bare names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import facesr_plugin  # noqa: F401  (first: it makes BasicSR importable and registers the plugin)

# isort: split
from basicsr import train as pipeline

from facesr_plugin.data.epoch_sampler import EpochSampler
from facesr_plugin.data.prefetch import Prefetcher
from facesr_plugin.errors import run_command
from facesr_plugin.models.resume import load_resume_state
from facesr_plugin.options import parse_options


def main() -> None:
    """Train as the command line says."""

    def parse(root_path: str, is_train: bool) -> tuple[dict[str, Any], Any]:
        opt, args = parse_options(root_path, is_train)
        batch = opt['datasets']['train']['batch_size_per_gpu'] * max(1, opt['num_gpu'] if not opt['dist'] else 1)
        pipeline.EnlargedSampler = partial(EpochSampler, seed=opt['manual_seed'], batch_size=batch)
        return opt, args

    def resume(opt: dict[str, Any]) -> dict[str, Any] | None:
        state = load_resume_state(opt)
        if state:
            pipeline.EnlargedSampler = partial(pipeline.EnlargedSampler, start_iter=state['iter'])
        return state

    pipeline.parse_options = parse
    pipeline.load_resume_state = resume
    pipeline.CPUPrefetcher = Prefetcher
    pipeline.train_pipeline(str(Path.cwd()))


if __name__ == '__main__':
    run_command(main)
