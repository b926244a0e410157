"""Packaging of the plugin. The version is static; nothing here imports or runs project code."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name='facesr-plugin',
    version='0.1.0',
    description='BasicSR plugin for blind x4 face super-resolution with a dual-forward regularised L1 loss',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=[*find_packages(include=['facesr_plugin', 'facesr_plugin.*']), 'facesr_plugin.option_files'],
    package_dir={'facesr_plugin.option_files': 'options'},  # where `options/load.py: shipped_options` looks
    package_data={
        'facesr_plugin': ['weights/*.pth', 'weights/*.md', 'report/template/*'],
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
    # BasicSR 1.4.2's setup.py does not run on Python 3.13 (XPixelGroup/BasicSR#749).
    python_requires='>=3.11,<3.13',
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
        'matplotlib',
    ],
    extras_require={
        'test': [
            'pytest>=8',
            'pytest-xdist',
            'jsonschema',
            'ruff>=0.9',
            'playwright',  # drives a browser that is there; its own are not downloaded
            'facesr-plugin[export,formats,report,spandrel]',
        ],
        'report': ['jinja2', 'markupsafe'],
        'formats': ['pillow-heif', 'pillow-jxl-plugin'],  # HEIC and JPEG XL
        'export': ['torch>=2.7', 'onnx', 'onnx-ir', 'onnxruntime', 'onnxscript', 'safetensors'],
        'spandrel': ['spandrel>=0.4'],
        # Also needs `pip install --no-deps random_face==2021.7.21.1`: only its data files are read.
        'faces': ['openvino'],
    },
)
