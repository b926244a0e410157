"""Stands in for `facesr_plugin/train.py` in tests of what starts it: leaves what a training leaves, in no time.

    python fake_train.py -opt FILE --auto_resume

Each score is a function of seed and iteration, and the weights are `weights.pth` of the current folder. A learning rate
above 1 lets the training fail.
"""

import csv
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml


def rows(opt: dict[str, Any]) -> list[dict[str, float]]:
    """Return the history: PSNR falls to 21 + seed, bilinear enlarging has 20."""
    total, every = opt['train']['total_iter'], opt['val']['val_freq']
    history = []
    for iteration in range(every, total + 1, every):
        psnr = 21 + opt['manual_seed'] + (total - iteration) / total
        raw = psnr - 3 if opt['train'].get('ema_decay') else psnr
        row = {'epoch': iteration // every, 'iter': iteration, 'alpha': 0.5, 'lr': 0.01, 'train_loss': 0.1}
        row |= {'train_psnr': 20, 'val_loss': 0.1, 'val_psnr': psnr, 'val_ssim': 0.5, 'raw_psnr': raw, 'residual': 2}
        history.append({**row, 'bilinear_psnr': 20, 'bicubic_psnr': 19})
    return history


def main(option_file: str) -> int:
    """Write history, states and weights; return the exit status."""
    opt = yaml.safe_load(Path(option_file).read_text())
    if opt['train']['optim_g']['lr'] > 1:
        print('Start training\nerror: the loss is not finite')
        return 1
    folder, history = Path('experiments') / opt['name'], rows(opt)
    for name in ('models', 'training_states'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for row in history:
        (folder / 'training_states' / f'{row["iter"]}.state').touch()
    with open(folder / 'history.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)
    shutil.copy('weights.pth', folder / 'models' / 'net_g_latest.pth')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[2]))
