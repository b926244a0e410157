"""Set up the environment `.venv`, on machines with or without make (`make env` calls this).

    python3 scripts/set_up.py                        # to enlarge, train and report
    python3 scripts/set_up.py --extras report,test   # to run the tests as well

It shows a line for each stage. What pip says is in `.venv/setup.log`. Started again, it goes on from what is there: so
a PyTorch that is in `.venv` already, such as one without CUDA, stays. Nothing but Python's standard library is needed.
The syntax is that of Python 3.6, so that an old one says in a line that it is too old.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASICSR = ROOT / 'scripts' / 'basicsr_build'
OLDEST = (3, 11)
CAUSES = {  # what pip or a build says, and what that means
    r'No space left on device|Disk quota exceeded': 'the disk is full',
    r'NewConnectionError|NameResolution|name resolution|Timeout|IncompleteRead|ProtocolError|ProxyError|ConnectionReset'
    r'|Connection broken': 'the package index cannot be reached',
    r"command '.*(cc|\+\+|clang)'? failed|Microsoft Visual C\+\+": 'a package has no wheel here and needs a C compiler',
}


class SetUpError(Exception):
    """Set-up cannot go on: the line that says why."""


def environment_python(folder):
    """Return the interpreter of an environment."""
    return folder / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def is_of_this_python(folder):
    """Return whether an environment can be gone on with: it works, and it is of the interpreter that runs this."""
    code = 'import sys, pip; print(sys.version_info[:3], sys.base_prefix)'
    try:
        done = subprocess.run([environment_python(folder), '-c', code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == f'{sys.version_info[:3]} {sys.base_prefix}'


def make_environment(folder):
    """Make the environment anew unless it can be gone on with.

    Raises:
        SetUpError: This Python cannot make one, or not there.
    """
    if is_of_this_python(folder):
        return
    name = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    missing = [module for module in ('venv', 'ensurepip') if find_spec(module) is None]
    if missing:
        raise SetUpError(
            f'{sys.executable}: no module {" and ".join(missing)}; install it (Debian, Ubuntu: apt install {name}-venv)'
        )
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise SetUpError(f'{error.filename}: {error.strerror}') from error
    done = subprocess.run([sys.executable, '-m', 'venv', folder], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or ['no reason given']
        shutil.rmtree(folder, ignore_errors=True)
        raise SetUpError(f'{folder}: not made: {lines[-1]}')


def cause(text):
    """Return in some words why a command failed that said this."""
    for pattern, meaning in CAUSES.items():
        if re.search(pattern, text):
            return meaning
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ['no reason given']
    errors = [line for line in lines if re.match(r'error: ', line, re.I)]
    return re.sub(r'^error: ', '', (errors or lines)[-1], flags=re.I)


def run(command, log, **variables):
    """Run a command whose output goes to the log.

    Raises:
        SetUpError: It failed.
    """
    start = log.stat().st_size if log.exists() else 0
    with log.open('a', encoding='utf-8') as file:
        print('$', *command, file=file, flush=True)
        done = subprocess.run(command, stdout=file, stderr=file, cwd=ROOT, env={**os.environ, **variables}, check=False)
    if done.returncode:
        said = log.read_bytes()[start:].decode('utf-8', 'replace').partition('\n')[2]
        raise SetUpError(f'{cause(said)}; all of it is in {log}; the same command goes on from here')


def stages(folder, extras):
    """Yield the title of each stage and what does it."""
    log = folder / 'setup.log'
    python = str(environment_python(folder))
    pip = [python, '-m', 'pip', 'install', '--progress-bar', 'off', '--disable-pip-version-check']
    version = '.'.join(map(str, sys.version_info[:3]))
    yield f'environment {folder.name} of Python {version}', lambda: make_environment(folder)
    # The bound on setuptools is that of the command `tensorboard` (setup.py).
    yield 'pip, setuptools, wheel', lambda: run([*pip, '--upgrade', 'pip', 'setuptools<82', 'wheel'], log)
    # Without isolation: its source package would pull a second PyTorch into a build environment.
    build = [*pip, '--no-build-isolation', '--no-deps', '--requirement', str(BASICSR / 'requirements.txt')]
    yield 'BasicSR 1.4.2, built from its source package', lambda: run(build, log, PYTHONPATH=str(BASICSR))
    install = [*pip, '--no-build-isolation', '--editable', f'.[{extras}]']
    yield f'packages, PyTorch among them ({extras})', lambda: run(install, log)
    yield 'stock BasicSR at basicsr/', lambda: run([python, 'scripts/link_basicsr.py'], log)


def main(argv=None):
    """Set up.

    Raises:
        SetUpError: It cannot go on.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--venv', type=Path, default=Path('.venv'), help='its folder, in the checkout')
    parser.add_argument('--extras', default='report', help='extras of setup.py, with commas between them')
    args = parser.parse_args(argv)
    if sys.version_info < OLDEST:
        raise SetUpError(f'Python 3.11 or later is needed, this is {sys.version.split()[0]} ({sys.executable})')
    todo = list(stages(ROOT / args.venv, args.extras))
    for number, (title, work) in enumerate(todo, 1):
        print(f'[{number}/{len(todo)}] {title}', end='', flush=True)
        start = time.monotonic()
        try:
            work()
        except BaseException:
            print(flush=True)
            raise
        print(f': {time.monotonic() - start:.0f} s', flush=True)


if __name__ == '__main__':
    try:
        main()
    except SetUpError as problem:
        sys.exit(f'error: {problem}')
    except OSError as problem:
        sys.exit(f'error: {problem.filename}: {problem.strerror}')
    except KeyboardInterrupt:
        sys.exit(130)
