"""A long run at tiny size: memory stays as it is."""

import json
import subprocess
import sys

import pytest
import yaml
from small import make_data, put, training_options

# Trains as `train.py` does, and prints the process's resident memory, bytes, after each iteration.
MEASURED_TRAINING = """
import json, os, sys
import facesr_plugin
from facesr_plugin import AlphaRealESRNetModel, train
from facesr_plugin.errors import run_command

step, sizes = AlphaRealESRNetModel.optimize_parameters, []

def measured(self, current_iter):
    step(self, current_iter)
    with open('/proc/self/statm') as file:
        sizes.append(int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))

def main():
    train.main()
    print(json.dumps(sizes))

AlphaRealESRNetModel.optimize_parameters = measured
run_command(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_memory_is_flat(tmp_path):
    """2000 iterations with a pool, validations, states, TensorBoard, and loader processes started anew each epoch."""
    make_data(tmp_path)
    opt = training_options(tmp_path)
    iterations = 2000
    put(opt, 'datasets.train.num_worker_per_gpu', 2)
    put(opt, 'datasets.train.batch_size_per_gpu', 1)
    put(opt, 'datasets.train.dataset_enlarge_ratio', 7)  # of 3 pictures: 21 iterations an epoch
    put(opt, 'train.total_iter', iterations)
    put(opt, 'train.scheduler.periods', [iterations])
    put(opt, 'train.ema_decay', 0.9)
    put(opt, 'val.val_freq', 200)
    opt['logger'] |= {'print_freq': 50, 'save_checkpoint_freq': 100, 'keep_states': 2, 'use_tb_logger': True}
    (tmp_path / 'opt.yml').write_text(yaml.safe_dump(opt))
    command = [sys.executable, '-c', MEASURED_TRAINING, '-opt', 'opt.yml']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert len(sizes) == iterations
    early, late = (sum(part) / len(part) for part in (sizes[500:600], sizes[-100:]))
    assert late == pytest.approx(early, rel=0.05), (
        f'{early / 1e6:.1f} MB after iteration 500, {late / 1e6:.1f} MB at the end'
    )
