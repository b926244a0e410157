"""`import facesr_plugin` from every side, each in a fresh process."""

import subprocess
import sys

import pytest

CHECK = """
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
assert 'FaceSRResNet' in ARCH_REGISTRY
assert 'AlphaRealESRNetModel' in MODEL_REGISTRY
assert 'RegularizedL1Loss' in LOSS_REGISTRY
assert 'FaceDegradationDataset' in DATASET_REGISTRY
print('registered')
"""

# BasicSR 1.4.2 as its authors released it: without the one-line fix that `scripts/link_basicsr.py` applies.
UNPATCHED = """
import importlib.abc, importlib.machinery, sys
class Unpatch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != 'basicsr.data.degradations':
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        class Loader(importlib.machinery.SourceFileLoader):
            def get_data(self, path):
                data = super().get_data(path)
                return data.replace(b'transforms.functional import', b'transforms.functional_tensor import')
            def get_code(self, fullname):
                return self.source_to_code(self.get_data(self.path), self.path)
        spec.loader = Loader(name, spec.origin)
        return spec
sys.meta_path.insert(0, Unpatch())
"""


def run(code: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize(
    'code',
    [
        'import facesr_plugin',
        'import facesr_plugin, importlib; importlib.import_module("facesr_plugin"); import facesr_plugin',
        'import basicsr, facesr_plugin',
        UNPATCHED + 'import facesr_plugin',
        'import facesr_plugin, basicsr, realesrgan',
    ],
    ids=['alone', 'twice', 'after basicsr', 'unpatched basicsr', 'before basicsr'],
)
def test_import_registers(code, tmp_path):
    done = run(code + CHECK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('registered\n')


def test_unpatched_basicsr_alone_does_not_import(tmp_path):
    """The break is real, so the test above shows the repair."""
    done = run(UNPATCHED + 'import basicsr', cwd=tmp_path)
    assert 'functional_tensor' in done.stderr


def test_import_from_another_basicsr_project(tmp_path):
    (tmp_path / 'train.py').write_text(
        'import facesr_plugin\nfrom basicsr.train import train_pipeline\n'
        'from basicsr.archs import build_network\n'
        'print(type(build_network({"type": "FaceSRResNet", "num_block": 1, "num_feat": 4})).__name__)\n'
    )
    done = subprocess.run([sys.executable, 'train.py'], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == 'FaceSRResNet\n', done.stderr


@pytest.mark.parametrize('name', ['train', 'test'])
def test_entry_point_as_script_from_any_folder(name, tmp_path):
    import facesr_plugin

    script = f'{facesr_plugin.__path__[0]}/{name}.py'
    done = subprocess.run([sys.executable, script, '--help'], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert '-opt' in done.stdout
