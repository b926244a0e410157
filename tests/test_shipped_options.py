"""Option files that come with the plugin are found by name where the current folder has no such file."""

import shutil
from pathlib import Path

import pytest
from tiny import ROOT

from facesr_plugin.errors import UserError
from facesr_plugin.options.check import check
from facesr_plugin.options.load import parse_options
from facesr_plugin.options.read import find_option_file, load_yaml, shipped_options

OPTIONS = ROOT / 'options'


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_shipped_options():
    assert shipped_options() == {path.name: path for path in OPTIONS.glob('*.yml')}


@pytest.mark.parametrize('name', ['exp1_lsr.yml', 'options/exp1_lsr.yml', './exp1_lsr.yml'])
def test_the_shipped_file_is_found_and_named(name, capsys):
    assert find_option_file(name) == OPTIONS / 'exp1_lsr.yml'
    said = f'not in the current folder; {OPTIONS}/exp1_lsr.yml, which comes with the plugin, is used\n'
    assert capsys.readouterr().out == f'{Path(name)}: {said}'


@pytest.mark.parametrize('name', ['exp1_lsr.yml', 'options/exp1_lsr.yml'])
def test_a_file_of_ones_own_comes_first(name, capsys):
    Path(name).parent.mkdir(exist_ok=True)
    shutil.copy(OPTIONS / 'exp2_l1.yml', name)
    assert find_option_file(name) == Path(name)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('name', ['exp1.yml', 'other/exp1_lsr.yml', '../exp1_lsr.yml', '/exp1_lsr.yml', 'a' * 300])
def test_a_missing_file_names_the_shipped_ones(name):
    with pytest.raises(UserError) as caught:
        find_option_file(name)
    names = ', '.join(sorted(path.name for path in OPTIONS.glob('*.yml')))
    assert 'demo_exp1.yml, demo_exp2.yml, ' in names
    assert str(caught.value) == f'{name}: no such file, and none of those that come with the plugin: {names}'


def test_the_command_line_reads_it(monkeypatch, tmp_path):
    monkeypatch.setattr('sys.argv', ['facesr-train', '-opt', 'demo_exp1.yml'])
    with pytest.raises(
        UserError, match=r'^datasets\.train\.dataroot_gt: no such file or folder: demo/train_hr\.lmdb \('
    ):
        parse_options(str(tmp_path))


@pytest.mark.parametrize('path', OPTIONS.glob('*.yml'), ids=lambda path: path.stem)
def test_a_missing_data_set_names_the_command_that_makes_it(path):
    content = load_yaml(path)
    with pytest.raises(UserError) as caught:
        check(content, is_train='train' in content)
    target = 'demo' if path.stem.startswith('demo') else 'faces'
    lines = [line for line in str(caught.value).splitlines() if '.dataroot_' in line]  # weights may be missing, too
    assert len(lines) >= 2
    rules = (ROOT / 'Makefile').read_text()
    for line in lines:
        missing, _, how = line.partition(' (')
        assert how.startswith(f'made by `make {target}` in a checkout')
        assert missing.rpartition(' ')[2] in rules
    assert f'\n{target}: ' in rules
