"""A loss of one's own, derived from `RegularizedL1Loss`, registered and named in `pixel_opt.type`, is what trains."""

import copy
import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
import yaml
from basicsr.utils.registry import LOSS_REGISTRY, MODEL_REGISTRY
from small import model_options, put
from tiny import ROOT
from torch.nn import functional as F

from facesr_plugin import AlphaRealESRNetModel, RegularizedL1Loss
from facesr_plugin.blocks import Block, PositiveCount, PositiveNumber
from facesr_plugin.errors import UserError
from facesr_plugin.options.check import check
from facesr_plugin.options.read import import_modules
from facesr_plugin.options.types import TrainingOptions


class CharbonnierDual(RegularizedL1Loss):
    """sqrt(|.|^2 + eps^2) in place of |.|."""

    def __init__(self, eps: float = 0.5, forward: str = 'concat', clean_mode: str = 'bicubic') -> None:
        super().__init__(1.0, forward, clean_mode)
        self.eps = eps

    def forward(self, pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        return ((pred - gt) ** 2 + self.eps**2).sqrt().mean((1, 2, 3))


class CleanTwice(RegularizedL1Loss):
    """|S(D(I)) - I| + 2 alpha |S(R(I)) - I|: weights that do not sum to 1."""

    def branch_weights(self, alpha: float) -> tuple[float, float]:
        return 1.0, 2 * alpha


def charbonnier(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    return ((pred - gt).square() + 0.25).sqrt()


def l1(pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
    return (pred - gt).abs()


# By name: the distance and the branches' weights that the step's gradient must come from.
EXPECTED = {
    'CharbonnierDual': (charbonnier, lambda alpha: (1 - alpha, alpha)),
    'CleanTwice': (l1, lambda alpha: (1.0, 2 * alpha)),
}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for loss in (CharbonnierDual, CleanTwice):
        LOSS_REGISTRY.register(loss)
    yield
    for name in EXPECTED:
        del LOSS_REGISTRY._obj_map[name]


@pytest.mark.parametrize('accumulate', [1, 2])
@pytest.mark.parametrize('forward', ['concat', 'sequential', 'sampled'])
@pytest.mark.parametrize('loss', EXPECTED)
def test_its_gradient_is_the_step_s(loss, forward, accumulate, tmp_path):
    changes = {'train.pixel_opt': {'type': loss, 'forward': forward}, 'train.accumulate': accumulate}
    torch.manual_seed(0)
    model = AlphaRealESRNetModel(model_options(tmp_path, changes))
    net, draws = copy.deepcopy(model.net_g), torch.Generator()
    draws.set_state(model.streams.torch.get_state())
    model.lq, model.gt = torch.rand(4, 3, 12, 12), torch.rand(4, 3, 48, 48)
    model.optimize_parameters(2)

    distance, weights = EXPECTED[loss]
    degraded, clean = weights(0.6 + 0.1 * 2**0.5)  # alpha at a quarter of the run
    lq = F.interpolate(model.gt, size=(12, 12), mode='bicubic', antialias=True)
    losses = (distance(net(images), model.gt).mean((1, 2, 3)) for images in (model.lq, lq))
    if forward == 'sampled':
        total = degraded + clean
        drawn = torch.cat([torch.rand(4 // accumulate, generator=draws) for _ in range(accumulate)])
        is_clean = drawn < clean / total
        assert 0 < is_clean.sum() < 4  # else it would say nothing of one branch
        step_loss = total * torch.where(is_clean, *reversed(list(losses))).mean()
    else:
        step_loss = sum(weight * each.mean() for weight, each in zip((degraded, clean), losses, strict=True))
    gradients = torch.autograd.grad(step_loss, list(net.parameters()))
    for parameter, expected in zip(model.net_g.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-6)
    assert model.get_current_log()['l_pix'] == pytest.approx(step_loss.item(), rel=1e-5)


def test_it_passes_the_check(opt):
    put(opt, 'train.pixel_opt', {'type': 'CharbonnierDual', 'eps': 0.01, 'forward': 'sampled'})
    assert check(opt, True).train.pixel_opt.model_dump()['eps'] == 0.01
    put(opt, 'train.pixel_opt.epz', 0.01)
    with pytest.raises(UserError, match=r"^train\.pixel_opt\.epz: unknown option, did you mean 'eps'\?$"):
        check(opt, True)


def test_it_needs_alpha(opt):
    put(opt, 'train.pixel_opt', {'type': 'CleanTwice'})
    put(opt, 'train.alpha_opt', None)
    with pytest.raises(UserError, match=r'^train\.alpha_opt: expected with pixel_opt type RegularizedL1Loss'):
        TrainingOptions.parse(opt)


OWN_LOSS = """
from basicsr.utils.registry import LOSS_REGISTRY
from facesr_plugin import RegularizedL1Loss, train


@LOSS_REGISTRY.register()
class ThousandTimes(RegularizedL1Loss):
    def forward(self, pred, gt):
        return 1000 * super().forward(pred, gt)


if __name__ == '__main__':
    train.command()
"""


def test_it_trains_in_the_real_loop(opt, data):
    """By a user's module that registers it first; the state says what it was."""
    put(opt, 'train.pixel_opt', {'type': 'ThousandTimes', 'forward': 'sampled', 'loss_weight': 2.0})
    (data / 'opt.yml').write_text(yaml.safe_dump(opt))
    (data / 'own.py').write_text(OWN_LOSS)
    command = [sys.executable, 'own.py', '-opt', 'opt.yml']
    done = subprocess.run(
        command, cwd=data, capture_output=True, text=True, check=False, env={**os.environ, 'PYTHONPATH': str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    with open(data / 'experiments' / 'run' / 'history.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['iter'] for row in rows] == ['2', '4']
    assert all(float(row['train_loss']) > 5 for row in rows)  # RegularizedL1Loss's is at most 2 with its weight of 2
    assert all(float(row['val_loss']) < 1 for row in rows)  # the mean absolute error, whatever trains
    state = torch.load(data / 'experiments' / 'run' / 'training_states' / '4.state', weights_only=True)
    assert state['facesr']['options']['train']['pixel_opt'] == opt['train']['pixel_opt']


def test_the_loss_in_the_docs_trains(opt, data):
    """By `--import`, as docs/contributing.md has it, and by `imports:` in the file."""
    (code,) = re.findall(
        r'```python\n(# my_loss\.py\n.*?)```', (ROOT / 'docs' / 'contributing.md').read_text(), re.DOTALL
    )
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (data / 'my_loss.py').write_text(code)
    put(opt, 'datasets.train.num_worker_per_gpu', 1)
    losses = []
    for kind, by_flag in (('RegularizedL1Loss', ()), ('RegularizedL2Loss', ('--import', 'my_loss'))):
        put(opt, 'train.pixel_opt.type', kind)
        put(opt, 'name', kind)
        (data / 'opt.yml').write_text(yaml.safe_dump(opt))
        args = [sys.executable, str(ROOT / 'facesr_plugin' / 'train.py'), '-opt', 'opt.yml', *by_flag]
        done = subprocess.run(args, cwd=data, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with open(data / 'experiments' / kind / 'history.csv', newline='') as file:
            losses.append(float(next(csv.DictReader(file))['train_loss']))
    assert 0 < losses[1] < losses[0]  # squares of numbers below 1
    (data / 'opt.yml').write_text(yaml.safe_dump({**opt, 'imports': ['./my_loss.py']}))
    args = [sys.executable, str(ROOT / 'facesr_plugin' / 'train.py'), '-opt', 'opt.yml', '--check']
    done = subprocess.run(args, cwd=data, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    assert f'imports: ./my_loss.py ({data}/my_loss.py)' in done.stdout


class Typed(CharbonnierDual):
    """A loss that says what its options are."""

    class Options(Block):
        """Those of its own."""

        eps: PositiveNumber = 0.25
        steps: PositiveCount = 3


def test_its_own_typed_block(opt):
    LOSS_REGISTRY.register(Typed)
    try:
        put(opt, 'train.pixel_opt', {'type': 'Typed', 'steps': 2.0})
        assert TrainingOptions.parse(opt).train.pixel_opt.model_dump() == {'type': 'Typed', 'eps': 0.25, 'steps': 2}
        put(opt, 'train.pixel_opt', {'type': 'Typed', 'eps': -1, 'stepz': 2})
        with pytest.raises(UserError) as error:
            TrainingOptions.parse(opt)
        assert str(error.value).splitlines() == [
            'train.pixel_opt.eps: expected greater than 0, got -1',
            "train.pixel_opt.stepz: unknown option, did you mean 'steps'?",
        ]
    finally:
        del LOSS_REGISTRY._obj_map['Typed']


def test_keys_of_a_model_of_ones_own(opt):
    """They pass at the top level, and reach the model."""

    class Mine(AlphaRealESRNetModel):
        """A model with an option."""

    put(opt, 'my_option', {'deep': 1})
    with pytest.raises(UserError, match=r'^my_option: unknown option'):
        check(opt, True)
    MODEL_REGISTRY.register(Mine)
    try:
        put(opt, 'model_type', 'Mine')
        assert check(opt, True).model_dump()['my_option'] == {'deep': 1}
    finally:
        del MODEL_REGISTRY._obj_map['Mine']


@pytest.mark.parametrize(
    ('name', 'code', 'line'),
    [
        ('./nothing.py', None, 'no such file'),
        ('sub/copy.py', '', 'another file name expected, copy is a module: .*copy.py'),
        ('ends.py', 'raise SystemExit(3)', r'cannot be imported: SystemExit: 3 \(.*ends.py, line 1\)'),
    ],
)
def test_file_that_is_no_module_of_its_name(tmp_path, monkeypatch, name, code, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.path', [*sys.path])
    if code is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    with pytest.raises(UserError, match=f'^--import {re.escape(name)}: {line}$'):
        import_modules('--import', [name])
