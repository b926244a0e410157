"""Two optimisation steps on a given batch, or on this process's part of it; a script for test_distributed.

python two_processes.py FORWARD OUTPUT            the whole batch in one process; `second`: the second stage
torchrun --nproc_per_node=2 two_processes.py ...  half of it in each
"""

import sys
from pathlib import Path

import facesr_plugin

# isort: split
import torch
from basicsr.utils.dist_util import get_dist_info
from small import SECOND_STAGE, model_options
from torch import distributed

forward, output = sys.argv[1], Path(sys.argv[2])
is_dist = distributed.is_torchelastic_launched()
if is_dist:
    distributed.init_process_group('gloo')
rank, world_size = get_dist_info()

torch.manual_seed(0)
changes = {'train.total_iter': 2, 'train.scheduler.periods': [2]}
if forward == 'second':
    changes |= {**SECOND_STAGE, 'train.feature_opt': {'loss_weight': 1.0}}
else:
    changes |= {'train.pixel_opt.forward': forward}
opt = model_options(output.parent, changes) | {'dist': is_dist, 'rank': rank, 'world_size': world_size}
model = getattr(facesr_plugin, opt['model_type'])(opt)
generator = torch.Generator().manual_seed(1)
for iteration in (1, 2):
    lq, gt = torch.rand(4, 3, 12, 12, generator=generator), torch.rand(4, 3, 48, 48, generator=generator)
    part = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
    model.lq, model.gt = lq[part], gt[part]
    model.optimize_parameters(iteration)
log = model.get_current_log()
if rank == 0:
    params = model.get_bare_model(model.net_g).state_dict()
    if forward == 'second':
        params |= model.get_bare_model(model.net_d).state_dict()
    torch.save({'params': params, 'l_pix': log['l_pix']}, output)
if is_dist:
    distributed.destroy_process_group()
