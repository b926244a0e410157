"""Test: `python facesr_plugin/test.py -opt options/test.yml`, installed as `facesr-test`.

The numbers are those of stock `basicsr/test.py`: BasicSR's own `test_pipeline` does the work, with the current folder
as root and checked options.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import the package of this checkout, not its parts by their bare names
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import facesr_plugin  # noqa: F401  (first: it makes BasicSR importable and registers the plugin)

# isort: split
from basicsr import test as pipeline
from basicsr.models import sr_model
from basicsr.utils import get_root_logger

from facesr_plugin.errors import run_command
from facesr_plugin.models.validation import measure, needs_hr
from facesr_plugin.options.load import parse_options
from facesr_plugin.run.archive import Archive
from facesr_plugin.run.memory import keep_freed_memory


def main() -> None:
    """Test as the command line says."""
    keep_freed_memory()
    pipeline.parse_options = parse_options
    pipeline.make_exp_dirs = partial(_make_folders, archive := Archive())
    pipeline.build_model = partial(_build_model, pipeline.build_model, archive)
    sr_model.calculate_metric = measure
    try:
        pipeline.test_pipeline(str(Path.cwd()))
    finally:
        archive.undo()


def _make_folders(archive: Archive, opt: dict[str, Any]) -> None:
    """Make the folders of the results; those of an earlier test are moved aside, until this one has its model."""
    if opt['rank'] == 0:
        archive.make(Path(opt['path']['results_root']))
        Path(opt['path']['visualization']).mkdir()


def _build_model(stock: Callable[[dict[str, Any]], Any], archive: Archive, opt: dict[str, Any]) -> Any:
    """Build the model; of a set without HR images it is to compute those metrics only that need none."""
    model = stock(opt)
    archive.keep()
    metrics, validation = opt['val'].get('metrics') or {}, model.validation

    def validate(loader: Any, *args: Any, **kwargs: Any) -> None:
        of_set = metrics
        if 'gt' not in loader.dataset[0]:
            of_set = {name: options for name, options in metrics.items() if not needs_hr(options)}
            if left_out := ', '.join(metrics.keys() - of_set):
                name = loader.dataset.opt['name']
                get_root_logger().warning(f'{name}: no HR images (dataroot_gt), so not computed: {left_out}')
        model.opt['val']['metrics'] = of_set or None
        model.__dict__.pop('metric_results', None)  # BasicSR's, with the metrics of the set before
        validation(loader, *args, **kwargs)

    model.validation = validate
    return model


def command() -> None:
    """Run as a console command."""
    run_command(main)


if __name__ == '__main__':
    command()
