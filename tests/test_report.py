"""facesr report: what stands in the page, read as a browser reads it, and what it says of what is missing."""

import base64
import csv
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from small import make_data, put, training_options
from test_experiment import HEAD, write_record

from facesr_plugin.archs.face_srresnet_arch import FaceSRResNet
from facesr_plugin.commands.degrade import main as degrade
from facesr_plugin.commands.report import main
from facesr_plugin.data.images import list_images, read_image
from facesr_plugin.data.lmdb_writer import write_lmdbs
from facesr_plugin.errors import run_command
from facesr_plugin.models.history import COLUMNS, History
from facesr_plugin.report.charts import COLOURS, GLYPHS
from facesr_plugin.report.faces import load_reported
from facesr_plugin.run import checkpoint

CURVES = ('val_psnr', 'train_psnr', 'val_loss', 'train_loss', 'alpha', 'lr')


class Page(HTMLParser):
    """A page's elements: tags with their attributes, texts of elements with an id, tables as rows of cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self.text = ''
        self._rows: list[list[str]] | None = None
        self._inside: str | None = None
        self.source = path.read_text('utf-8')
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == 'table':
            self._rows = self.tables.setdefault(attributes['class'], [])
        elif tag == 'tr':
            self._rows.append([])
        elif tag in ('th', 'td'):
            self._rows[-1].append('')
        elif tag in ('script', 'style'):
            self._inside = attributes.get('id', tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == 'table':
            self._rows = None
        elif tag in ('script', 'style'):
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, '') + data
            return
        self.text += data
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] += data

    def rows(self, table: str) -> dict[str, list[str]]:
        """Return the cells of a table's rows by the first one, without the mark of an experiment."""
        cells = [[' '.join(cell.split()) for cell in row] for row in self.tables[table] if row]
        return {row[0].lstrip(GLYPHS + ' '): row[1:] for row in cells}

    def figure(self, column: str) -> list[dict]:
        """Return the lines of a chart; none if nothing was recorded."""
        figure = json.loads(self.scripts['figures'])[column]
        return figure['lines'] if figure else []

    def drawn(self, column: str) -> list[str]:
        """Return the experiments, by index, that have lines in a chart."""
        svg = self.source.split(f'id="chart-{column}"')[1].split('</svg>')[0]
        return re.findall(r'data-line="(\d+)"', svg)

    def pictures(self, panel: int) -> list[np.ndarray]:
        """Return a panel's pictures, uint8 RGB."""
        return [decode(uri) for uri in json.loads(self.scripts['panels'])[panel]['pictures']]


def decode(uri: str) -> np.ndarray:
    assert uri.startswith('data:image/webp;base64,')
    data = np.frombuffer(base64.b64decode(uri.partition(',')[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def make_experiment(folder: Path, data: Path, rows: int = 3, seed: int = 0, command: str = '', **options) -> Path:
    """Write what training leaves: options on the pairs in `data`, a history of 10 iterations a row, checkpoints."""
    folder.mkdir(parents=True)
    opt = training_options(data) | {'name': folder.name}
    opt['train']['total_iter'] = 30
    for key, value in options.items():
        put(opt, key.replace('__', '.'), value)
    (folder / 'run.yml').write_text(HEAD.format(command) + yaml.safe_dump(opt), 'utf-8')
    rng = np.random.default_rng(seed)
    history = History(folder / 'history.csv')
    for row in range(rows):
        losses = dict(zip(('train_loss', 'val_loss'), rng.uniform(0.02, 0.05, 2).tolist(), strict=True))
        scores = dict(zip(('train_psnr', 'val_psnr'), rng.uniform(23, 27, 2).tolist(), strict=True))
        alpha = None if seed else 0.8 - 0.1 * row
        baselines = {'bilinear_psnr': 24.25, 'bicubic_psnr': 24.125}
        rates = {'lr': 1e-3 / (row + 1), 'alpha': alpha, 'val_ssim': rng.uniform(0.5, 0.9)}
        history.append(epoch=row + 1, iter=10 * (row + 1), **losses, **scores, **rates, **baselines)
    torch.manual_seed(seed)
    weights = {'params': FaceSRResNet(num_feat=4, num_block=1).state_dict()}
    (folder / 'models').mkdir()
    for label in ('best', 'latest', '10'):
        checkpoint.save(folder / 'models' / f'net_g_{label}.pth', weights)
    return folder


def make_page(folder: Path, *experiments: Path | str, options: tuple[str, ...] = ()) -> Page:
    output = folder / 'pages' / 'report.html'
    assert main([*map(str, experiments), '-o', str(output), '--device', 'cpu', *options]) is None
    return Page(output)


def cells(experiment: Path) -> list[dict[str, str]]:
    with open(experiment / 'history.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data')
    make_data(folder)
    return folder


@pytest.fixture(scope='module')
def experiments(tmp_path_factory, data) -> list[Path]:
    root = tmp_path_factory.mktemp('experiments')
    second = {'seed': 1, 'train__pixel_opt': {'type': 'L1Loss'}, 'train__alpha_opt': None, 'jpeg_range': [20, 40]}
    return [make_experiment(root / 'first', data), make_experiment(root / 'second', data, **second)]


@pytest.fixture(scope='module')
def page(tmp_path_factory, experiments) -> Page:
    return make_page(tmp_path_factory.mktemp('page'), *experiments)


def test_results_are_those_of_the_history(page, experiments):
    for experiment in experiments:
        history = cells(experiment)
        best, last = max(history, key=lambda row: float(row['val_psnr'])), history[-1]
        gains = [f'{float(best["val_psnr"]) - base:+.2f}'.replace('-', '−') for base in (24.25, 24.125)]
        assert page.rows('results')[experiment.name] == [
            'finished, 30 iterations',
            f'{float(best["val_psnr"]):.2f}',
            *gains,
            f'{float(best["val_ssim"]):.4f}',
            best['iter'],
            f'{float(last["val_psnr"]):.2f}',
            f'{float(last["val_ssim"]):.4f}',
            last['iter'],
        ]
    assert 'bilinear 24.25 dB, bicubic 24.12 dB.' in ' '.join(page.text.split())


@pytest.mark.parametrize('column', CURVES)
def test_curves_are_those_of_the_history(page, experiments, column):
    lines = {line['name']: line for line in page.figure(column)}
    for index, experiment in enumerate(experiments):
        history = cells(experiment)
        if column == 'alpha' and index == 1:
            assert experiment.name not in lines
            continue
        line = lines.pop(experiment.name)
        assert line['x'] == [10, 20, 30]
        assert [float(text) for text in line['text']] == pytest.approx(
            [float(row[column]) for row in history], abs=6e-4
        )
        assert (line['index'], line['colour'], line['glyph']) == (index, COLOURS[index], GLYPHS[index])
        assert str(index) in page.drawn(column)
        assert f'color: {COLOURS[index]}' in [tag['style'] for _, tag in page.tags if tag.get('class') == 'mark']
    baselines = {'bilinear': '24.250', 'bicubic': '24.125'} if column == 'val_psnr' else {}
    assert {name: set(line['text']) for name, line in lines.items()} == {k: {v} for k, v in baselines.items()}


def test_what_differs_and_all_settings(page, experiments):
    table = [[' '.join(cell.split()) for cell in row] for row in page.tables['settings']]
    second_head = [row[0] for row in table].index('Option', 1)
    assert table[1:second_head] == [
        ['train.alpha_opt.end', '0.4', 'not set'],
        ['train.alpha_opt.start', '0.8', 'not set'],
        ['train.pixel_opt.forward', 'concat', 'not set'],
        ['train.pixel_opt.type', 'RegularizedL1Loss', 'L1Loss'],
        ['jpeg_range', 'not set', '[20, 40]'],
        ['train.alpha_opt', 'not set', 'null'],
    ]
    everything = {row[0]: row[1:] for row in table[second_head + 1 :]}
    assert everything['train.scheduler.periods'] == ['[4]', '[4]']
    assert everything['datasets.train.gt_size'] == ['80', '80']
    assert 'name' not in everything


def test_pictures_and_their_psnr(page, data, experiments):
    hr = [read_image(path) for path in list_images(data / 'hr')]
    lr = [read_image(path) for path in list_images(data / 'lr')]
    panels = [page.pictures(index) for index in range(5)]
    for shown, expected in ((panels[0], lr), (panels[4], hr)):
        np.testing.assert_array_equal(shown, expected)
    rows = page.rows('psnr')
    assert list(rows) == ['Picture', 'LR, enlarged', 'bicubic', 'first', 'second']
    panels[0] = [np.repeat(np.repeat(image, 4, 0), 4, 1) for image in panels[0]]
    for images, values in zip(panels, list(rows.values())[1:], strict=False):
        mse = [np.square(image.astype(float) - face).mean() for image, face in zip(images, hr, strict=True)]
        psnr = [10 * math.log10(255**2 / value) for value in mse]
        assert [float(value) for value in values] == pytest.approx([*psnr, np.mean(psnr)], abs=0.00501)
    net = FaceSRResNet(num_feat=4, num_block=1).eval()
    net.load_state_dict(checkpoint.load(experiments[1] / 'models' / 'net_g_best.pth')['params'])
    with torch.inference_mode():
        out = net(torch.from_numpy(lr[2].transpose(2, 0, 1)[None] / np.float32(255))).clamp(0, 1)[0] * 255
    assert np.abs(panels[3][2] - out.permute(1, 2, 0).numpy()).max() < 0.501
    captions = json.loads(page.scripts['panels'])[2]['captions']
    assert captions == [f'{value} dB' for value in rows['first'][:3]]


def test_degradation_examples_are_those_of_degrade(page, data, tmp_path, experiments):
    """One set for each of the two degradations, drawn with seeds 0 to 3."""
    images = [decode(tag['src']) for name, tag in page.tags if name == 'img' and 'degraded, draw' in tag.get('alt', '')]
    assert len(images) == 2 * 3 * 4
    for index, experiment in enumerate(experiments):
        folder = tmp_path / experiment.name
        degrade(['-i', str(data / 'hr'), '-o', str(folder), '--opt', str(experiment / 'run.yml'), '--seed', '1'])
        expected = [read_image(path) for path in list_images(folder)]
        np.testing.assert_array_equal(images[12 * index + 1 : 12 * index + 12 : 4], expected)


def test_nothing_is_fetched(page):
    """No element loads anything, and the policy forbids what scripts might."""
    for name, attributes in page.tags:
        for key in ('src', 'href', 'srcset', 'data', 'poster', 'action'):
            assert attributes.get(key, '#').startswith(('data:image/', '#')), (name, key)
    assert not {'link', 'iframe', 'object', 'embed', 'base'} & {name for name, _ in page.tags}
    assert not re.search(r'@import|url\(', page.scripts['style'])
    policy = next(tag['content'] for name, tag in page.tags if 'http-equiv' in tag)
    assert policy.split('; ')[0] == "default-src 'none'"
    assert not re.search(r'https?:|\*', policy)
    assert 'connect-src' not in policy


def test_text_of_users_is_escaped(tmp_path, data):
    name, value = '<script>alert(1)<!--', '</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'
    experiment = make_experiment(tmp_path / name, data, datasets__train__name=value)
    (experiment / 'history.csv').write_text((experiment / 'history.csv').read_text() + 'a\n')
    page = make_page(tmp_path, experiment)
    assert [tag for tag, _ in page.tags].count('script') == 3  # figures, panels, ours
    assert all(not key.startswith('on') for _, attributes in page.tags for key in attributes)
    assert all('src' not in tag or tag['src'].startswith('data:') for _, tag in page.tags)
    assert name in page.rows('results')
    assert page.rows('settings')['datasets.train.name'] == [value]
    assert f'Report: {name}' in page.text
    assert page.figure('val_psnr')[0]['name'] == name
    assert f'{name}/history.csv:5: row left out' in page.text


def cut_history(experiment: Path) -> None:
    text = (experiment / 'history.csv').read_text()
    (experiment / 'history.csv').write_text(text[:-3])


def cut_best(experiment: Path) -> None:
    path = experiment / 'models' / 'net_g_best.pth'
    path.write_bytes(path.read_bytes()[:1000])


def other_scale(experiment: Path) -> None:
    net = FaceSRResNet(num_feat=4, num_block=1, upscale=2)
    checkpoint.save(experiment / 'models' / 'net_g_best.pth', {'params': net.state_dict()})


def no_ssim(experiment: Path) -> None:
    path = experiment / 'history.csv'
    path.write_text(path.read_text().replace('val_ssim', 'other'))


DAMAGES = {
    'no_history': (
        lambda folder: (folder / 'history.csv').unlink(),
        'EXP/history.csv: no such file; training writes it after its first validation',
    ),
    'cut_history': (
        cut_history,
        f'EXP/history.csv:4: row left out, {len(COLUMNS)} numbers expected: damaged or cut short',
    ),
    'no_ssim': (no_ssim, 'EXP/history.csv: no column val_ssim'),
    'no_options': (
        lambda folder: (folder / 'run.yml').unlink(),
        'EXP: no option file *.yml, as training copies it there; settings are not known',
    ),
    'bad_options': (lambda folder: (folder / 'run.yml').write_text('a: ['), 'EXP/run.yml:1: not a valid option file: '),
    'bad_range': (
        lambda folder: (folder / 'run.yml').write_text((folder / 'run.yml').read_text() + 'jpeg_range: 7\n'),
        'degradation examples: jpeg_range: expected a list, got 7',
    ),
    'cut_best': (cut_best, 'EXP/models/net_g_best.pth: damaged, or no checkpoint'),
    'other_scale': (other_scale, 'EXP/models/net_g_best.pth: a network of scale 4, as the faces, expected, got 2'),
    'no_models': (lambda folder: shutil.rmtree(folder / 'models'), 'EXP/models: no checkpoint net_g_*.pth yet'),
}
SHOWN_ITERATIONS = {'no_history': None, 'cut_history': [10, 20]}
SHOWN_TITLE = {'cut_best': 'EXP, net_g_latest.pth', 'other_scale': None, 'no_models': None}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_experiment(tmp_path, capsys, data, experiments, damage):
    """The page beside a sound experiment names what is missing and shows the rest."""
    experiment = make_experiment(tmp_path / 'EXP', data)
    break_it, line = DAMAGES[damage]
    break_it(experiment)
    page = make_page(tmp_path, experiments[0], experiment)
    said, line = capsys.readouterr().out, line.replace('EXP', str(experiment))
    assert f'missing: {line}' in said
    assert said.count('missing: ') == 1
    assert line in ' '.join(page.text.split())
    assert 'EXP' in page.rows('results')
    title = SHOWN_TITLE.get(damage, 'EXP')
    assert [row for row in page.rows('psnr') if row.startswith('EXP')] == ([title] if title else [])
    iterations = SHOWN_ITERATIONS.get(damage, [10, 20, 30])
    curves = [line['x'] for line in page.figure('val_psnr') if line['name'] == 'EXP']
    assert curves == ([iterations] if iterations else [])


def test_sound_experiment_misses_nothing(page):
    assert not any(tag.get('id') == 'missing' for _, tag in page.tags)


def test_unfinished_experiment(tmp_path, data):
    """The newest checkpoint tells how far it came."""
    experiment = make_experiment(tmp_path / 'EXP', data, rows=1, train__total_iter=2000)
    for label in ('best', 'latest'):
        (experiment / 'models' / f'net_g_{label}.pth').unlink()
    (experiment / 'models' / 'net_g_10.pth').rename(experiment / 'models' / 'net_g_15.pth')
    page = make_page(tmp_path, experiment)
    assert page.rows('results')['EXP'][0] == 'unfinished, 15 of 2,000 iterations'
    assert 'EXP, net_g_15.pth' in page.rows('psnr')
    assert [len(line['x']) for line in page.figure('val_psnr')] == [1, 1, 1]


def test_missing_validation_data(tmp_path, data, experiments):
    experiment = make_experiment(tmp_path / 'EXP', tmp_path / 'nowhere')
    page = make_page(tmp_path, experiment)
    text = ' '.join(page.text.split())
    assert f'validation pairs: {tmp_path}/nowhere/lr: no such folder' in text
    assert 'no validation pairs to be found; --lr and --hr give some' in text
    assert 'psnr' not in page.tables
    assert page.figure('val_psnr')
    given = make_page(
        tmp_path, experiment, options=('--lr', str(data / 'lr'), '--hr', str(data / 'hr'), '--faces', '2')
    )
    assert len(given.pictures(0)) == 2
    beside = make_page(tmp_path, experiment, experiments[0])
    assert list(beside.rows('psnr')) == ['Picture', 'LR, enlarged', 'bicubic', 'EXP', 'first']


def test_relative_paths_are_those_of_the_folder_above_experiments(tmp_path, monkeypatch):
    make_data(tmp_path / 'run')
    experiment = make_experiment(tmp_path / 'run' / 'experiments' / 'EXP', Path())
    for folder in (tmp_path, tmp_path / 'run'):
        monkeypatch.chdir(folder)
        assert len(make_page(tmp_path, experiment).pictures(0)) == 3


def test_pairs_by_template_list_and_lmdb(tmp_path):
    make_data(tmp_path)
    for path in list_images(tmp_path / 'lr'):
        path.rename(path.with_name(f'{path.stem}_x.4.png'))
    (tmp_path / 'list.txt').write_text('face_2.png (96,96,3)\nface_0.png (96,96,3)\n')
    names = {'filename_tmpl': '{}_x.4', 'meta_info_file': str(tmp_path / 'list.txt')}
    experiment = make_experiment(tmp_path / 'EXP', tmp_path)
    opt = yaml.safe_load((experiment / 'run.yml').read_text())
    opt['datasets']['val'] |= names
    (experiment / 'run.yml').write_text(yaml.safe_dump(opt))
    expected = [read_image(tmp_path / 'lr' / f'face_{number}_x.4.png') for number in (2, 0)]
    np.testing.assert_array_equal(make_page(tmp_path, experiment).pictures(0), expected)

    lmdbs = [tmp_path / 'lr.lmdb', tmp_path / 'hr.lmdb']
    write_lmdbs(lmdbs, ['a'], lambda key: (expected[0], read_image(tmp_path / 'hr' / 'face_2.png')))
    opt['datasets']['val'] = {'name': 'val', 'dataroot_lq': str(lmdbs[0]), 'dataroot_gt': str(lmdbs[1])}
    (experiment / 'run.yml').write_text(yaml.safe_dump(opt))
    np.testing.assert_array_equal(make_page(tmp_path, experiment).pictures(0), expected[:1])


def test_face_without_partner_is_left_out(tmp_path):
    make_data(tmp_path)
    (tmp_path / 'lr' / 'face_1.png').unlink()
    page = make_page(tmp_path, make_experiment(tmp_path / 'EXP', tmp_path))
    assert len(page.pictures(0)) == 2
    assert f'{tmp_path}/lr: face_1 expected, the partner of an HR image' in page.text


def test_forced_options_count(tmp_path, data):
    """What --force_yml set stands in the head of the copied file only."""
    command = ' --force_yml scale=4 train:scheduler:periods=[7] train:total_iter=50 --debug'
    page = make_page(tmp_path, make_experiment(tmp_path / 'EXP', data, scale=2, command=command))
    settings = page.rows('settings')
    assert [settings[key] for key in ('scale', 'train.scheduler.periods', 'train.total_iter')] == [
        ['4'],
        ['[7]'],
        ['50'],
    ]
    assert page.rows('results')['EXP'][0] == 'unfinished, 30 of 50 iterations'


def test_extended_run(tmp_path, data):
    forced = 'train:total_iter=40 train:scheduler:periods=[40]'
    command = f' --auto_resume --force_yml {forced} --extend 50 --restart_schedules'
    page = make_page(tmp_path, make_experiment(tmp_path / 'EXP', data, command=command))
    settings = page.rows('settings')
    keys = ('train.total_iter', 'train.scheduler.periods', 'train.alpha_opt.periods')
    assert [settings[key] for key in keys] == [['50'], ['[40, 10]'], ['[40, 10]']]
    assert page.rows('results')['EXP'][0] == 'unfinished, 30 of 50 iterations'


def test_no_validation(tmp_path, data):
    experiment = make_experiment(tmp_path / 'EXP', data)
    history = History(experiment / 'history.csv')
    history.append(epoch=1, iter=10, train_loss=0.04, lr=1e-3)
    page = make_page(tmp_path, experiment)
    assert page.rows('results')['EXP'][1:] == ['–'] * 8
    assert f'{experiment}/history.csv: no validation in it' in page.text
    assert page.figure('val_psnr') == []
    assert page.figure('train_loss')[0]['text'] == ['0.04000']


def test_records_and_means_of_several_runs(tmp_path, data, experiments):
    record = write_record(tmp_path / 'recorded.json', experiments[0], **training_options(data))
    page = make_page(tmp_path, f'mean={experiments[0].parent}/*', record)
    rows = page.rows('results')
    scores = [[float(row['val_psnr']) for row in cells(experiment)] for experiment in experiments]
    assert rows['mean'][1] == f'{max(map(np.mean, zip(*scores, strict=True))):.2f}'
    assert rows['recorded'][0] == 'finished, 30 iterations'
    assert page.drawn('val_psnr') == ['0', '0', '1']  # the band and the line of the mean
    assert page.rows('settings')['train.pixel_opt.type'] == ['RegularizedL1Loss, L1Loss', 'RegularizedL1Loss']
    assert list(page.rows('psnr')) == ['Picture', 'LR, enlarged', 'bicubic']
    assert 'enlarged faces: only the history is known, no checkpoint' in page.text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['empty'], 'empty: nothing to show: no option file, history.csv or checkpoint that training left'),
        (['none'], 'none: no such folder or file'),
        (['EXP', 'old/EXP'], 'EXP: experiments of different names expected, two have this one'),
        (['EXP', '--lr', 'lr'], '--lr and --hr: both or none expected'),
        (['EXP', '--lr', 'lr', '--hr', 'none'], 'none: no such folder'),
        (['EXP', '--faces', '0'], '--faces: at least 1 expected, got 0'),
        (['EXP', '-o', 'empty'], 'empty: Is a directory'),
    ],
)
def test_errors(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    Path('empty').mkdir()
    for name in ('EXP', 'old/EXP'):
        make_experiment(tmp_path / name, tmp_path)
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: main(arguments))
    assert caught.value.code == 2
    assert [line for line in capsys.readouterr().err.splitlines() if 'error' in line] == [f'error: {message}']
    assert not Path('report.html').exists()


def test_pictures_are_of_the_weights_that_the_table_reports(tmp_path):
    """The moving average, even where the raw weights scored better."""
    raw, ema = (FaceSRResNet(num_feat=4, num_block=1).state_dict() for _ in range(2))
    content = {'params': raw, 'params_ema': ema, 'psnr': {'params': 26.0, 'params_ema': 25.0}}
    checkpoint.save(tmp_path / 'a.pth', content)
    assert torch.equal(load_reported(tmp_path / 'a.pth').conv_last.weight, ema['conv_last.weight'])
    checkpoint.save(tmp_path / 'a.pth', {'params': raw})
    assert torch.equal(load_reported(tmp_path / 'a.pth').conv_last.weight, raw['conv_last.weight'])
