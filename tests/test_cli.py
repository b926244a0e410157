"""facesr_plugin/cli.py: one command, its subcommands a line each, and nothing imported that is not asked for."""

import re
import subprocess
import sys

import pytest

from facesr_plugin import __version__, cli
from facesr_plugin.errors import UserError

NAMES = ['train', 'test', 'upscale', 'extract', 'lmdb', 'degrade', 'curves', 'compare', 'judge', 'report', 'export']
NAMES += ['web']


@pytest.fixture
def say(monkeypatch, capsys):
    """Run the command and return the exit status and what it says."""
    monkeypatch.setattr(sys, 'argv', ['facesr'])
    monkeypatch.setenv('COLUMNS', '80')

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(list(words))
        said = capsys.readouterr()
        return end.value.code, said.out + said.err

    return run


def test_help_lists_every_command_with_a_line(say):
    status, text = say('--help')
    assert (status, re.findall(r'^    (\w+) +\S.*\S$', text, re.M)) == (0, NAMES)
    assert [line for line in text.splitlines() if line.startswith(' ' * 8)] == []  # none is wrapped


def test_version(say):
    assert say('--version') == (0, f'facesr {__version__}\n')


@pytest.mark.parametrize('words', [[], ['uspcale'], ['--none'], ['upscale.py', '-i', 'a.png']])
def test_unknown_command(say, words):
    status, text = say(*words)
    assert (status, text.startswith('usage: facesr [-h] [--version] COMMAND ...\n')) == (2, True)


@pytest.mark.parametrize('name', NAMES[2:])
def test_command_is_called_by_its_name(say, name):
    status, text = say(name, '--help')
    assert (status, text.startswith(f'usage: facesr {name} [-h] ')) == (0, True)


@pytest.mark.parametrize('name', NAMES[2:])
def test_every_command_tells_its_version_and_its_defaults(say, name):
    assert say(name, '--version') == (0, f'facesr {__version__}\n')
    text = say(name, '--help')[1]
    assert 'default:' in text
    assert not re.search(r'default:\s+(None|False|\[\])', text)


def test_a_default_of_nought_is_told(say):
    assert 'of all draws (default: 0)' in ' '.join(say('degrade', '--help')[1].split())


def run(*words: str, cwd) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'facesr_plugin.cli', *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_the_loops_of_basicsr_read_their_own_options(name, tmp_path):
    done = run(name, '-opt', 'none.yml', cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('error: none.yml: no such file, and none of those that come with the plugin: ')
    assert run(name, '--version', cwd=tmp_path).stdout == f'facesr {__version__}\n'
    assert run(name, '--help', cwd=tmp_path).stdout.startswith(f'usage: facesr {name} [-h] [--version] -opt OPT ')


def test_errors_are_a_line_and_status_2(tmp_path):
    done = run('lmdb', '--hr', 'none', 'x.lmdb', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, 'error: none: no such folder\n')


@pytest.mark.parametrize('package', cli.EXTRAS)
def test_a_package_of_an_extra_is_told(package, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['facesr'])
    monkeypatch.setitem(sys.modules, package, None)
    words = {'report': ['report', 'experiments/none'], 'web': ['web']}[cli.EXTRAS[package]]
    wings = ('facesr_plugin.report.', 'facesr_plugin.web.', f'facesr_plugin.commands.{words[0]}')
    for name in [name for name in sys.modules if name.startswith(wings)]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError) as told:
        cli.main(words)
    expected = f"facesr {words[0]}: needs a package: pip install -e '.[{cli.EXTRAS[package]}]' ({package})"
    assert str(told.value) == expected


def test_help_imports_no_command():
    """Nor torch, nor anything else that takes time."""
    code = (
        'import sys; before = set(sys.modules); from facesr_plugin import cli\n'
        'try: cli.main(["--help"])\n'
        'except SystemExit: print("", *{name.partition(".")[0] for name in set(sys.modules) - before})\n'
        'print("", *(name for name in sys.modules if name.startswith("facesr_plugin.commands")))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    *_, packages, commands = done.stdout.splitlines()
    assert set(packages.split()) - set(sys.stdlib_module_names) == {'facesr_plugin'}
    assert commands.split() == []
