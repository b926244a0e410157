"""Put stock BasicSR at `basicsr/` in the current folder, so that `python basicsr/test.py -opt options/test.yml` works.

    python scripts/link_basicsr.py

A link to the installed package is made (git ignores it), and BasicSR's own one-line fix for torchvision 0.17 and later
(XPixelGroup/BasicSR#650, on its master, never released) is applied to the installed file if it lacks it. Nothing else
is changed.
"""

import argparse
import importlib.util
from pathlib import Path

from facesr_plugin.errors import UserError, run_command

BROKEN = 'from torchvision.transforms.functional_tensor import rgb_to_grayscale'
FIXED = 'from torchvision.transforms.functional import rgb_to_grayscale'


def installed_basicsr() -> Path:
    """Return the folder of the installed BasicSR, found without importing it.

    Raises:
        UserError: It is not installed.
    """
    spec = importlib.util.find_spec('basicsr')
    if spec is None or not spec.submodule_search_locations:
        raise UserError('basicsr: not installed in this environment; pip install this project first')
    return Path(spec.submodule_search_locations[0]).resolve()


def apply_fix(package: Path) -> bool:
    """Apply the fix to `package`, the folder of BasicSR; return whether it was needed.

    Raises:
        UserError: The file has neither the broken nor the fixed line, so it is not BasicSR 1.4.2.
    """
    path = package / 'data' / 'degradations.py'
    text = path.read_text(encoding='utf-8')
    if FIXED in text:
        return False
    if BROKEN not in text:
        raise UserError(f'{path}: BasicSR 1.4.2 expected, this file lacks its import of rgb_to_grayscale')
    path.write_text(text.replace(BROKEN, FIXED), encoding='utf-8')
    return True


def link(package: Path, target: Path) -> None:
    """Make `target` a link to `package`.

    Raises:
        UserError: Something else stands at `target`.
    """
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        raise UserError(f'{target}: a link expected, or nothing; move it away first')
    target.symlink_to(package, target_is_directory=True)


def main(argv: list[str] | None = None) -> None:
    """Fix and link."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    package = installed_basicsr()
    try:
        if apply_fix(package):
            print(f'{package}: applied its upstream fix for torchvision >= 0.17')
        link(package, Path('basicsr'))
    except OSError as error:
        raise UserError(f'{error.filename}: {error.strerror}') from error
    print(f'basicsr -> {package}')


if __name__ == '__main__':
    run_command(main)
