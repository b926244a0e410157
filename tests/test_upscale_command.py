"""`facesr upscale`: any picture in, the same kind of picture out."""

import os
import subprocess
import sys
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from samples import make_image, make_net

from facesr_plugin.commands import upscale
from facesr_plugin.enlarge import files
from facesr_plugin.enlarge.network import DEFAULT_WEIGHTS, load_dial, load_network
from facesr_plugin.enlarge.tiles import upscale_image
from facesr_plugin.errors import UserError
from facesr_plugin.pictures.picture import Picture
from facesr_plugin.pictures.read import decode_picture, read_picture
from facesr_plugin.pictures.write import write_picture
from facesr_plugin.run import checkpoint


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The current folder, with `net.pth`, a network that is bilinear upsampling, x2."""
    monkeypatch.chdir(tmp_path)
    net = make_net(num_block=1, upscale=2)
    for parameter in net.conv_last.parameters():
        torch.nn.init.zeros_(parameter)
    checkpoint.save('net.pth', {'params': net.state_dict()})
    return tmp_path


def bilinear(image: np.ndarray, scale: int = 2) -> np.ndarray:
    enlarged = cv2.resize(image.astype(np.float64), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.rint(enlarged)


def read(path: Path) -> np.ndarray:
    return read_picture(path).pixels


def write(path: Path, image: np.ndarray) -> None:
    write_picture(path, Picture([image]))


def run(*options: str) -> int | None:
    return upscale.main(['-o', 'out', '--weights', 'net.pth', '--device', 'cpu', *options])


@pytest.mark.parametrize('channels', [(), (3,), (4,)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('kind', ['png', 'tif'])
def test_kinds_stay(work, channels, dtype, kind):
    image = make_image(9, 7, *channels, dtype=dtype)
    write(Path(f'in/sub/a.b.{kind}'), image)
    assert run('-i', 'in', '--format', kind, '--tile', '5') is None
    result = read(Path(f'out/sub/a.b.{kind}'))
    assert (result.shape, result.dtype) == ((18, 14, *channels), dtype)
    colours = (..., slice(0, 3)) if channels == (4,) else ...
    step = np.abs(result[colours] - bilinear(image[colours] if channels else image))
    assert step.max() <= np.iinfo(dtype).max // 255
    if not channels:  # rounding after the mean of three equal channels
        assert Image.open(f'out/sub/a.b.{kind}').mode in ('L', 'I;16')


def test_grey_with_alpha(work):
    grey = make_image(9, 7)
    Image.fromarray(np.dstack([grey, 255 - grey]), 'LA').save('a.png')
    assert run('-i', 'a.png') is None
    result = read(Path('out/a.png'))
    assert result.shape == (18, 14, 4)
    assert (result[..., :1] == result[..., 1:3]).all()


def test_formats_of_8_bits(work):
    image = make_image(8, 8, 4, dtype=np.uint16)
    image[..., :3] = image[:1, :1, :3]
    image[..., 3] = 0
    image[:, 4:, 3] = 65535
    write(Path('a.png'), image)
    for kind, channels in (('jpg', 3), ('webp', 4)):
        assert run('-i', 'a.png', '--format', kind, '--quality', '100') is None
        result = read(Path(f'out/a.{kind}'))
        assert (result.shape, result.dtype) == ((16, 16, channels), np.uint8)
        assert np.abs(result[:, 12:, :3] - image[0, 0, :3] / 257).max() < 6
    assert (read(Path('out/a.jpg'))[:, :4] > 250).all(), 'transparent is white'
    assert result[:, :4, 3].max() == 0


@pytest.mark.parametrize('quality', [30, 95])
def test_jpeg_of_the_quality_asked_for(work, quality):
    """Its tables are those that Pillow writes for that quality."""
    write(Path('a.png'), make_image(8, 8, 3))
    Image.fromarray(make_image(8, 8, 3)).save('b.jpg', quality=quality)
    options = ['-i', 'a.png', '--format', 'jpg', *(['--quality', '30'] if quality == 30 else [])]  # 95 without
    assert run(*options) is None
    assert Image.open('out/a.jpg').quantization == Image.open('b.jpg').quantization


def test_unreadable_pictures_are_skipped(work, capsys):
    write(Path('in/a.png'), make_image(4, 4, 3))
    data = Path('in/a.png').read_bytes()
    Path('in/b.png').write_bytes(data[: len(data) // 2])
    Path('in/c.jpg').write_bytes(b'')
    cv2.imwrite('in/d.tif', np.zeros((4, 4, 3), np.float32))
    assert run('-i', 'in') == 1
    assert [path.name for path in Path('out').iterdir()] == ['a.png']
    said = capsys.readouterr()
    for line in (
        'skipped: in/b.png: cannot be read as an image (empty, damaged or another file type)',
        'skipped: in/c.jpg: cannot be read as an image (empty, damaged or another file type)',
        'skipped: in/d.tif: pixels of 8 or 16 bits expected, got float32',
        '3 of 4 pictures were skipped',
    ):
        assert f'{line}\n' in said.err
    assert said.out == 'out: 1 written\n'


def test_results_are_kept_unless_told_otherwise(work, capsys):
    for name in 'ab':
        write(Path(f'in/{name}.png'), make_image(4, 4, 3))
    write(Path('out/a.png'), make_image(1, 1, 3))
    assert run('-i', 'in') is None
    assert capsys.readouterr().out == 'out: 1 written, 1 existed (--overwrite replaces them)\n'
    assert read(Path('out/a.png')).shape == (1, 1, 3)
    assert run('-i', 'in', '--overwrite') is None
    assert read(Path('out/a.png')).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['-i', 'none.png'], 'none.png: no such file or folder'),
        (['-i', 'in', '-o', 'in'], 'in: another output folder than the input in expected'),
        (['-i', 'in/a.png', '-o', 'in'], 'in/a.png: another output folder expected, in/a.png is an input'),
        (['-i', 'in', '-o', 'a.png'], '--output a.png: a folder expected, results keep the names of their pictures'),
        (['-i', 'in', '--tile', '0'], f'--tile: 1 to {2**20} expected, got 0'),
        (['-i', 'in', '--quality', '101'], '--quality: 1 to 100 expected, got 101'),
        (['-i', 'in', '--key', 'params_ema'], "net.pth: key 'params_ema' expected, found params"),
    ],
)
def test_errors(work, options, message):
    write(Path('in/a.png'), make_image(4, 4, 3))
    before = Path('in/a.png').read_bytes()
    with pytest.raises(UserError) as caught:
        run(*options)
    assert str(caught.value) == message
    assert Path('in/a.png').read_bytes() == before


def test_a_picture_needs_no_more_than_its_name(work, capsys):
    """The weights and the output folder have defaults."""
    write(Path('a.png'), make_image(4, 5, 3))
    assert upscale.main(['-i', 'a.png']) is None
    assert capsys.readouterr().out == 'upscaled: 1 written\n'
    expected = upscale_image(load_network(DEFAULT_WEIGHTS), read(Path('a.png')))
    np.testing.assert_allclose(read(Path('upscaled/a.png')), expected, atol=1)
    assert expected.shape == (16, 20, 3)


@pytest.mark.parametrize('how', ['cuda', 'torch', 'numpy'])
def test_out_of_memory(work, monkeypatch, capsys, how):
    def fail(*args, **kwargs):
        if how == 'cuda':
            raise torch.OutOfMemoryError
        torch.empty(2**60) if how == 'torch' else np.empty(2**48)

    write(Path('a.png'), make_image(4, 4, 3))
    monkeypatch.setattr(files, 'upscale_image', fail)
    assert run('-i', 'a.png', '--tile', '256') == 1
    assert 'skipped: a.png: out of memory; a --tile below 256 needs less\n' in capsys.readouterr().err


def test_a_large_result_is_gone_before_the_next_is_made(work, monkeypatch):
    for name in 'abc':
        write(Path(f'in/{name}.png'), make_image(9, 7, 3))
    alive, most = [], []

    def enlarge(*args, **kwargs):
        most.append(sum(result() is not None for result in alive))
        result = upscale_image(*args, **kwargs)
        alive.append(weakref.ref(result))
        return result

    monkeypatch.setattr(files, 'upscale_image', enlarge)
    monkeypatch.setattr(files, 'BATCH_PIXELS', 0)
    monkeypatch.setattr(files, 'BEHIND_BYTES', 100)
    assert run('-i', 'in') is None
    assert most == [0, 0, 0]


def test_other_errors_are_not_taken_for_it(work, monkeypatch):
    def fail(*args, **kwargs):
        torch.zeros(2) @ torch.zeros(3)

    write(Path('a.png'), make_image(4, 4, 3))
    monkeypatch.setattr(files, 'upscale_image', fail)
    with pytest.raises(RuntimeError, match='size'):
        run('-i', 'a.png')


# --------------------------------------------------------------------- batches
def names_of(folder: str = 'out') -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob('*') if path.is_file())


@pytest.mark.parametrize('length', [241, 250, 251])
def test_long_names(work, length):
    name = 'n' * length
    write(Path(f'in/{name}.png'), make_image(4, 4, 3))
    assert run('-i', 'in') is None
    assert names_of() == [f'{name}.png']


def test_a_name_that_gets_too_long(work, capsys):
    for name in ('a', 'n' * 251, 'z'):
        write(Path(f'in/{name}.png'), make_image(4, 4, 3))
    for _ in range(2):
        assert run('-i', 'in', '--format', 'webp') == 1
        assert names_of() == ['a.webp', 'z.webp']
        assert 'File name too long' in capsys.readouterr().err


def test_a_result_that_the_format_cannot_hold(work, monkeypatch, capsys):
    write(Path('in/a.png'), make_image(1, 8192, 3))
    write(Path('in/b.png'), make_image(4, 4, 3))
    monkeypatch.setattr(files.Enlarger, 'enlarge_batch', None)
    assert run('-i', 'in', '--format', 'webp') == 1
    assert names_of() == ['b.webp']
    expected = 'skipped: in/a.png: another file type expected, webp cannot hold 16384x2 px\n'
    assert expected in capsys.readouterr().err


def test_a_full_disk_for_one_file(work, monkeypatch, capsys):
    write(Path('in/a.png'), make_image(64, 64, 3))
    write(Path('in/b.png'), make_image(4, 4, 3))
    stock = os.fsync

    def fsync(number: int) -> None:
        if os.fstat(number).st_size > 20_000 and not os.path.isdir(f'/proc/self/fd/{number}'):
            raise OSError(28, 'No space left on device')
        stock(number)

    monkeypatch.setattr(os, 'fsync', fsync)
    assert run('-i', 'in') == 1
    assert names_of() == ['b.png']
    assert 'skipped: out/a.png: No space left on device\n' in capsys.readouterr().err


def test_pictures_of_one_stem(work, capsys):
    image = make_image(4, 4, 3)
    for name in ('a.jpg', 'a.png', 'a.webp', 'a_jpg.png'):
        write(Path(f'in/{name}'), image)
    for _ in range(2):  # names are the same in a rerun
        assert run('-i', 'in') is None
        assert names_of() == ['a.png', 'a_2.png', 'a_jpg.png', 'a_webp.png']
        assert 'in/a.jpg: becomes out/a_2.png, another picture has its name\n' in capsys.readouterr().err


def test_folders_with_equal_names_and_a_file_named_twice(work):
    write(Path('x/a.png'), make_image(4, 4, 3))
    write(Path('y/a.png'), make_image(5, 5, 3))
    assert run('-i', 'x', 'y', 'x/a.png') is None
    assert names_of() == ['a.png', 'a_2.png']
    assert read(Path('out/a_2.png')).shape == (10, 10, 3)


def test_the_current_folder_without_an_output_folder(work):
    write(Path('a.png'), make_image(4, 4, 3))
    for _ in range(2):
        assert upscale.main(['-i', '.', '--weights', 'net.pth', '--device', 'cpu']) is None
        assert names_of('upscaled') == ['a.png']


def test_what_is_left_out_is_told(work, capsys):
    write(Path('in/a.png'), make_image(4, 4, 3))
    data = Path('in/a.png').read_bytes()
    Path('in/photo').write_bytes(data)
    Image.fromarray(make_image(4, 4, 3)).save('in/b.gif')
    Image.fromarray(make_image(4, 4, 3)).save('in/c.jfif', 'JPEG')
    Image.fromarray(make_image(4, 4, 3)).save('in/d.ppm')
    Path('in/notes.txt').write_text('x')
    Path('in/README').write_text('x')
    assert run('-i', 'in') is None
    assert names_of() == ['a.png', 'b.png', 'c.png', 'd.png', 'photo.png']
    assert 'left out (no picture): 1 .txt, 1 no suffix: in/README, in/notes.txt\n' in capsys.readouterr().err


def test_frames(work, capsys):
    first, *others = [Image.new('RGB', (6, 4), (70 * i, 0, 0)) for i in range(3)]
    first.save('a.gif', save_all=True, append_images=others, duration=80, loop=0)
    assert run('-i', 'a.gif') is None
    with Image.open('out/a.png') as result:
        assert (result.n_frames, result.size) == (3, (12, 8))
    assert run('-i', 'a.gif', '--format', 'jpg') is None
    assert 'a.gif: frame 1 of 3\n' in capsys.readouterr().err


def test_a_jpeg_without_its_end_is_told(work, capsys):
    write(Path('a.jpg'), make_image(16, 16, 3))
    Path('a.jpg').write_bytes(Path('a.jpg').read_bytes()[:-2])
    assert run('-i', 'a.jpg') is None
    assert 'a.jpg: its end is missing, its pixels are all there\n' in capsys.readouterr().err


def test_pictures_of_one_size_give_what_each_gives_alone(work):
    images = [make_image(6 + i % 2, 7, *channels) for i, channels in enumerate([(3,)] * 5 + [()] * 4 + [(4,)] * 4)]
    for i, image in enumerate(images):
        write(Path(f'in/{i:02}.png'), image)
    assert run('-i', 'in', '--precision', 'fp32') is None
    net = load_network('net.pth')
    for i, image in enumerate(images):
        np.testing.assert_allclose(read(Path(f'out/{i:02}.png')).astype(int), upscale_image(net, image), atol=1)


# --------------------------------------------------------------------- options
@pytest.mark.parametrize(('factor', 'size'), [('1', (9, 7)), ('1.5', (14, 10)), ('2', (18, 14))])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_outscale(work, factor, size, dtype):
    image = np.full((9, 7, 3), 100, dtype)
    write(Path('a.png'), image)
    assert run('-i', 'a.png', '--outscale', factor) is None
    result = read(Path('out/a.png'))
    assert (result.shape[:2], result.dtype) == (size, dtype)
    assert np.abs(result.astype(int) - 100).max() <= 1


@pytest.mark.parametrize(
    ('factor', 'message'), [('0', 'above 0, 4 at most'), ('3', '2 at most expected of this network')]
)
def test_outscale_beyond_the_network(work, factor, message):
    write(Path('a.png'), make_image(4, 4, 3))
    with pytest.raises(UserError, match=message):
        run('-i', 'a.png', '--outscale', factor)


def test_between_the_two_stages(work):
    """The picture is that of the blended network; of the faithful one alone unless it is told."""
    checkpoint.save('other.pth', {'params': make_net(1, num_block=1, upscale=2).state_dict()})
    write(Path('in.png'), image := make_image(9, 7, 3))
    for options, share in (([], 0.0), (['--natural', '0.25'], 0.25), (['--natural', '1'], 1.0)):
        assert (
            run('-i', 'in.png', '--overwrite', '--natural-weights', 'other.pth', '--precision', 'fp32', *options)
            is None
        )
        net = load_dial('net.pth', 'other.pth').at(share)
        np.testing.assert_array_equal(read(Path('out/in.png')), upscale_image(net, image))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--natural', '0.5'], '--natural: --natural-weights expected with it, the second stage of --weights'),
        (['--natural-weights', 'none.pth'], 'none.pth: No such file or directory'),
    ],
)
def test_half_of_the_second_stage(work, options, message):
    write(Path('in.png'), make_image(9, 7, 3))
    write(Path('out/in.png'), make_image(18, 14, 3))  # nothing is to be done, and still it is wrong
    with pytest.raises(UserError) as error:
        run('-i', 'in.png', *options)
    assert str(error.value) == message


@pytest.mark.parametrize('text', ['1.1', '-0.5', 'nan', 'half'])
def test_a_part_is_from_0_to_1(work, capsys, text):
    with pytest.raises(SystemExit, match='2'):
        run('-i', 'in.png', '--natural', text)
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith(f"error: argument --natural: 0 to 1 expected, got '{text}'")


def test_pipe_and_quiet(work):
    write(Path('a.png'), make_image(4, 5, 3))
    command = [
        sys.executable,
        '-m',
        'facesr_plugin.cli',
        'upscale',
        '--weights',
        str(work / 'net.pth'),
        '--device',
        'cpu',
    ]
    done = subprocess.run(
        [*command, '-i', '-', '-o', '-', '--format', 'tif'], input=Path('a.png').read_bytes(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert decode_picture(done.stdout, 'out').pixels.shape == (8, 10, 3)
    done = subprocess.run([*command, '-i', 'a.png', '-o', 'quiet', '--quiet'], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b'', b'')
    done = subprocess.run([*command, '-i', '-', '-o', '-'], input=b'no picture', capture_output=True, text=False)
    assert (done.returncode, done.stdout) == (1, b'')
    assert b'skipped: stdin: cannot be read as an image' in done.stderr


def test_one_picture_fits_through_a_pipe(work):
    for name in 'ab':
        write(Path(f'in/{name}.png'), make_image(4, 4, 3))
    with pytest.raises(UserError, match=r'^--output -: one picture expected, got 2$'):
        run('-i', 'in', '-o', '-')


def test_strip_and_srgb(work):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.fromarray(make_image(8, 8, 3)).save('a.png', dpi=(300, 300), icc_profile=profile)
    assert run('-i', 'a.png') is None
    with Image.open('out/a.png') as kept:
        assert [round(value) for value in kept.info['dpi']] == [300, 300]
        assert kept.info['icc_profile'] == profile
    assert run('-i', 'a.png', '-o', 'bare', '--strip', '--srgb') is None
    with Image.open('bare/a.png') as bare:
        assert not {'dpi', 'icc_profile'} & bare.info.keys()


def test_an_output_folder_that_the_terminal_cannot_print(work):
    write(Path('a.png'), make_image(4, 5, 3))
    command = [
        sys.executable,
        '-m',
        'facesr_plugin.cli',
        'upscale',
        '--weights',
        'net.pth',
        '--device',
        'cpu',
        '-i',
        'a.png',
    ]
    env = os.environ | {'PYTHONIOENCODING': 'ascii', 'PYTHONUTF8': '0'}
    done = subprocess.run([*command, '-o', 'größer'], capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b'gr\\xf6\\xdfer: 1 written\n'


# -------------------------------------------------------------------- start-up
HEAVY = ('torch', 'cv2', 'numpy', 'PIL', 'basicsr', 'torchvision', 'matplotlib', 'torch._dynamo')


def imported_by(*options: str) -> tuple[int, set[str]]:
    """Return the status of the command in a process of its own, and the heavy packages that it imported."""
    code = (
        'import sys\nfrom facesr_plugin.commands.upscale import command\n'
        f'sys.argv = ["facesr-upscale", *{options!r}]\n'
        'try:\n    command()\n'
        f'finally:\n    print("imported:", *[name for name in {HEAVY!r} if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    return done.returncode, set(done.stdout.split('imported:')[1].split())


@pytest.mark.parametrize(
    ('options', 'status'),
    [
        (('--help',), 0),
        (('-i', 'a.png', '--device', 'tpu'), 2),
        (('-i', 'a.png', '--quality', '0'), 2),
        (('-i', 'none.png'), 2),
        (('-i', 'a.png', '--weights', 'none.pth'), 2),
    ],
)
def test_answers_that_need_nothing_heavy(work, options, status):
    write(Path('a.png'), make_image(4, 5, 3))
    assert imported_by(*options) == (status, set())


def test_one_picture_with_the_default_weights_needs_no_basicsr(work):
    write(Path('a.png'), make_image(4, 5, 3))
    status, imported = imported_by('-i', 'a.png', '--device', 'cpu')
    assert status == 0
    assert not imported & {
        'basicsr',
        'torchvision',
        'matplotlib',
        'torch._dynamo',
        'sympy',
    }  # the last: PyTorch's compiler


def test_ctrl_c_during_start_up(work):
    write(Path('a.png'), make_image(4, 5, 3))
    Path('slow').mkdir()
    interrupt = 'signal.signal(signal.SIGINT, signal.default_int_handler)\nos.kill(os.getpid(), signal.SIGINT)\n'
    Path('slow/torch.py').write_text(f'import os, signal, time\n{interrupt}time.sleep(9)\n')  # a job may ignore it
    path = os.pathsep.join(['slow', os.environ.get('PYTHONPATH', '')])
    code = 'import sys; sys.argv[1:] = ["-i", "a.png"]; from facesr_plugin.commands.upscale import command; command()'
    env = os.environ | {'PYTHONPATH': path}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (130, '')
