"""Set-up: BasicSR's build, the stages of scripts/set_up.py, what goes wrong in a line, the search in the Makefile."""

import ast
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tiny import ROOT

import set_up

BUILD = ROOT / 'scripts' / 'basicsr_build'

# The part of BasicSR's setup.py that Python 3.13 breaks, and an `exec` of each other kind.
SETUP = """
from setuptools import setup

def get_version():
    exec(compile("__version__ = '1.4.2'", 'version.py', 'exec'))
    return locals()['__version__']

exec('at_top = 1')
class Inside:
    exec('attribute = 2')
into = {}
exec('given = 3', into)
assert (at_top, Inside.attribute, into['given']) == (1, 2, 3)
setup(name='basicsr', version=get_version(), py_modules=[])
"""


def make_sdist(folder: Path) -> Path:
    folder.mkdir()
    path = folder / 'basicsr-1.4.2.tar.gz'
    with tarfile.open(path, 'w:gz') as archive:
        for name, text in (('setup.py', SETUP), ('PKG-INFO', 'Metadata-Version: 2.1\nName: basicsr\nVersion: 1.4.2\n')):
            info = tarfile.TarInfo(f'basicsr-1.4.2/{name}')
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def pip(*words: str | Path, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-index', '--no-deps', '--no-build-isolation', *words]
    env = {**os.environ, 'PIP_CONFIG_FILE': os.devnull, 'PIP_FIND_LINKS': '', **variables}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_builds_what_python_3_13_breaks(tmp_path):
    sdist = make_sdist(tmp_path / 'packages')
    done = pip(sdist, '-w', tmp_path, PYTHONPATH=str(BUILD))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.glob('*.whl')] == ['basicsr-1.4.2-py3-none-any.whl']
    if sys.version_info >= (3, 13):
        assert "KeyError: '__version__'" in (done := pip(sdist, '-w', tmp_path, PYTHONPATH='')).stdout + done.stderr


def test_refuses_another_source_package(tmp_path):
    sdist = make_sdist(tmp_path / 'packages')
    requirements = BUILD / 'requirements.txt'
    done = pip('--find-links', sdist.parent, '-r', requirements, '-w', tmp_path, PYTHONPATH=str(BUILD))
    assert done.returncode != 0
    assert 'DO NOT MATCH THE HASHES' in done.stderr
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() in done.stderr


@pytest.mark.parametrize(
    ('said', 'expected'),
    [
        ('WARNING: Retrying ... NewConnectionError(...)\nERROR: No matching', 'the package index cannot be reached'),
        ('pip._vendor.urllib3.exceptions.IncompleteRead: (1 read, 2 more)\n', 'the package index cannot be reached'),
        ('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device', 'the disk is full'),
        (
            "error: command 'gcc' failed: No such file\nERROR: Failed",
            'a package has no wheel here and needs a C compiler',
        ),
        ('Collecting a\nERROR: No matching distribution found for a\n', 'No matching distribution found for a'),
        ('Killed\n', 'Killed'),
        ('', 'no reason given'),
    ],
)
def test_cause_in_some_words(said, expected):
    assert set_up.cause(said) == expected


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Return a folder with a space and a letter outside ASCII in its name, in which pip is called and does nothing."""
    root = tmp_path / 'my façade'
    (root / 'scripts').mkdir(parents=True)
    (root / 'scripts' / 'link_basicsr.py').write_text('print("linked")')
    monkeypatch.setattr(set_up, 'ROOT', root)
    run = set_up.run

    def instead(command, log, **variables):
        code = f'print({command[3:]!r}, {variables.get("PYTHONPATH")!r})'
        run([command[0], '-c', code] if 'pip' in command else command, log)

    monkeypatch.setattr(set_up, 'run', instead)
    return root


def test_a_line_for_each_stage_and_the_rest_in_the_log(checkout, capsys):
    for _ in range(2):  # it goes on from what is there
        set_up.main(['--extras', 'report,test'])
        lines = capsys.readouterr().out.splitlines()
        assert [line[:6] for line in lines] == [f'[{i}/5] ' for i in range(1, 6)]
        (checkout / '.venv' / 'mine').touch()
    log = (checkout / '.venv' / 'setup.log').read_text()
    assert "'.[report,test]'" in log
    assert log.count(f'] {BUILD}\n') == 2  # PYTHONPATH, while BasicSR is built
    assert (checkout / '.venv' / 'mine').exists()


def test_what_fails_is_told_in_a_line_and_the_next_try_goes_on(checkout, capsys):
    script = checkout / 'scripts' / 'link_basicsr.py'
    script.write_text('import sys; print("much"); sys.exit("error: basicsr: a link expected")')
    with pytest.raises(set_up.SetUpError) as told:
        set_up.main([])
    log = checkout / '.venv' / 'setup.log'
    assert str(told.value) == f'basicsr: a link expected; all of it is in {log}; the same command goes on from here'
    (checkout / '.venv' / 'mine').touch()
    script.write_text('')
    set_up.main([])
    assert (checkout / '.venv' / 'mine').exists()


def test_an_environment_of_another_python_is_made_anew(checkout):
    python = set_up.environment_python(checkout / '.venv')
    python.parent.mkdir(parents=True)
    shutil.copy('/bin/false', python)
    set_up.make_environment(checkout / '.venv')
    assert set_up.is_of_this_python(checkout / '.venv')


def test_python_without_the_module_venv(checkout, monkeypatch):
    monkeypatch.setattr(set_up, 'find_spec', lambda name: None if name == 'ensurepip' else name)
    with pytest.raises(set_up.SetUpError, match=r'no module ensurepip; install it \(Debian, Ubuntu: apt'):
        set_up.main([])
    assert not (checkout / '.venv').exists()


def test_python_that_is_too_old(monkeypatch):
    monkeypatch.setattr(set_up, 'OLDEST', (9, 9))
    with pytest.raises(set_up.SetUpError, match=r'^Python 3.11 or later is needed, this is '):
        set_up.main([])


def test_pythons_that_are_too_old_understand_it():
    """On 3.7 there was a traceback instead of a line."""
    ast.parse((ROOT / 'scripts' / 'set_up.py').read_text(), feature_version=(3, 6))


def make(*words: str, path: Path) -> subprocess.CompletedProcess:
    above = {
        'MAKEFLAGS',
        'MAKEOVERRIDES',
        'PYTHON',
    }  # of the make that runs the tests
    env = {key: value for key, value in os.environ.items() if key not in above} | {'PATH': f'{path}:/usr/bin:/bin'}
    return subprocess.run(['make', *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_make_takes_the_first_python_that_is_new_enough(tmp_path):
    for name in ('python3', 'python3.14', 'python3.13', 'python3.12', 'python3.11'):
        (tmp_path / name).write_text(f'#!/bin/sh\n{"exit 1" if name != "python3.12" else ""}\n')  # as a shim of pyenv
        (tmp_path / name).chmod(0o755)
    assert '"python3.12" scripts/set_up.py' in make('-n', '-B', 'env', path=tmp_path).stdout
    (tmp_path / 'python3.12').write_text('#!/bin/sh\nexit 1\n')
    assert 'found none; set one: make PYTHON=/path/to/python3.13 env' in make('-n', '-B', 'env', path=tmp_path).stdout
