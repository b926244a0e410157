"""Test: `python facesr_plugin/test.py -opt options/test.yml`, installed as `facesr-test`.

The numbers are those of stock `basicsr/test.py`: BasicSR's own `test_pipeline` does the work, with the current folder
as root and checked options.
"""

import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import the package of this checkout, not its parts by their bare names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import facesr_plugin  # noqa: F401  (first: it makes BasicSR importable and registers the plugin)

# isort: split
from basicsr import test as pipeline
from basicsr.models import build_model

from facesr_plugin.errors import run_command
from facesr_plugin.options.load import parse_options
from facesr_plugin.run.archive import Archive
from facesr_plugin.run.processes import leave


def main() -> None:
    """Test as the command line says."""

    def parse(root_path: str, is_train: bool) -> tuple[dict[str, Any], Any]:
        opt, args = parse_options(root_path, is_train)
        if opt['val'].get('metrics') and not all(block.get('dataroot_gt') for block in opt['datasets'].values()):
            print('val.metrics: a data set has no dataroot_gt (HR images), so no metric is computed')
            opt['val']['metrics'] = None
        return opt, args

    archive = Archive()

    def make_folders(opt: dict[str, Any]) -> None:
        if opt['rank'] == 0:
            archive.make(Path(opt['path']['results_root']))
            Path(opt['path']['visualization']).mkdir()

    def build(opt: dict[str, Any]) -> Any:
        model = build_model(opt)
        archive.keep()
        return model

    pipeline.parse_options, pipeline.make_exp_dirs, pipeline.build_model = parse, make_folders, build
    try:
        pipeline.test_pipeline(str(Path.cwd()))
    finally:
        archive.undo()
        leave()


def command() -> None:
    """Run as a console command."""
    run_command(main)


if __name__ == '__main__':
    command()
