"""`options/schema.json`: current, true of every option file, and unlike a wrong one."""

import copy
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

import make_schema as script
from make_schema import SCHEMA, make_schema

OPTIONS = sorted(SCHEMA.parent.glob('*.yml'))
BY_NAME = {path.stem: yaml.safe_load(path.read_text(encoding='utf-8')) for path in OPTIONS}


@pytest.fixture(scope='module')
def validator() -> Draft202012Validator:
    schema = yaml.safe_load(make_schema())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def wrong_places(validator: Draft202012Validator, opt: dict[str, Any]) -> list[str]:
    """Return the paths of the blocks or values that the schema objects to, other than for not being null."""

    def places(error: ValidationError) -> Iterator[str]:
        if error.context:
            for part in error.context:
                yield from places(part)
        elif error.schema != {'type': 'null'}:
            yield '.'.join(map(str, error.absolute_path))

    return [place for error in validator.iter_errors(opt) for place in places(error)]


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    opt = copy.deepcopy(BY_NAME[name])
    *parents, last = path.split('.')
    block = reduce(lambda block, key: block.setdefault(key, {}), parents, opt)
    if value is None:
        del block[last]
    else:
        block[last] = value
    return opt


def test_schema_is_current(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, 'SCHEMA', tmp_path / 'schema.json')
    script.main([])
    assert capsys.readouterr().out == f'{tmp_path}/schema.json\n'
    assert (tmp_path / 'schema.json').read_bytes() == SCHEMA.read_bytes(), 'run python scripts/make_schema.py'


@pytest.mark.parametrize('path', OPTIONS, ids=lambda path: path.stem)
def test_first_line_names_the_schema(path: Path):
    first = path.read_text(encoding='utf-8').splitlines()[0]
    assert first == '# yaml-language-server: $schema=schema.json'
    assert (path.parent / first.partition('=')[2]).samefile(SCHEMA)


@pytest.mark.parametrize('name', BY_NAME)
def test_option_file_is_valid(validator, name):
    assert wrong_places(validator, BY_NAME[name]) == []


@pytest.mark.parametrize(
    ('path', 'value', 'place'),
    [
        ('queue_sizes', 4, ''),
        ('train.total_iters', 4, 'train'),
        ('train.optim_g.weigth_decay', 0, 'train.optim_g'),
        ('train.alpha_opt.strat', 0.8, 'train.alpha_opt'),
        ('train.ema_decay', 1.5, 'train.ema_decay'),
        ('train.total_iter', 0, 'train.total_iter'),
        ('train.optim_g.lr', '1e-4', 'train.optim_g.lr'),
        ('train.pixel_opt.forward', 'both', 'train.pixel_opt.forward'),
        ('num_gpu', 'all', 'num_gpu'),
        ('resize_prob', [0.5, 0.5], 'resize_prob'),
        ('datasets.train.gt_sise', 128, 'datasets.train'),
        ('datasets.train.dataroot_lq', 'x', 'datasets.train'),
        ('datasets.val.gt_size', 128, 'datasets.val'),
        ('datasets.val_2', {'type': 'PairedImageDataset', 'name': 'x'}, 'datasets.val_2'),
        ('datasets.training', {}, 'datasets'),
        ('datasets.train.io_backend.type', 'hdf5', 'datasets.train.io_backend.type'),
        ('network_g.num_blocks', 8, 'network_g'),
        ('network_g.upscale', 6, 'network_g.upscale'),
        ('network_g.type', None, 'network_g'),
        ('val.val_frequ', 4, 'val'),
        ('val.metrics.psnr.type', None, 'val.metrics.psnr'),
        ('train', None, ''),
        ('logger', None, ''),
    ],
)
def test_wrong_option_is_not_valid(validator, path, value, place):
    places = wrong_places(validator, changed('demo_exp1', path, value))
    assert set(places) == {place}


def test_a_test_needs_val(validator):
    assert wrong_places(validator, changed('test', 'val', None)) == ['']


@pytest.mark.parametrize(
    ('path', 'needed'),
    [
        ('network_g', {}),
        ('datasets.train', {'name': 'x', 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2}),
        ('datasets.val', {'name': 'x'}),
    ],
)
def test_somebody_elses_class_has_its_own_options(validator, path, needed):
    theirs = {'type': 'TheirClass', 'their_option': 3, **needed}
    assert wrong_places(validator, changed('demo_exp1', path, theirs)) == []


@pytest.mark.parametrize(
    ('path', 'value'),
    [
        ('train.total_iter', 5e3),
        ('x-anchors', {'any': 1}),
        ('num_gpu', 0),
        ('datasets.val_2', BY_NAME['demo_exp1']['datasets']['val']),
    ],
)
def test_what_may_stand_there(validator, path, value):
    assert wrong_places(validator, changed('demo_exp1', path, value)) == []
