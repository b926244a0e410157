"""Image sets for validation and tests: whether BasicSR's own classes can read them, which is less than what ours do."""

from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

from facesr_plugin.data.image_source import Backend, Images, open_images
from facesr_plugin.data.lmdb_images import LmdbImages, name_of
from facesr_plugin.data.sizes import Shape, check_pair
from facesr_plugin.errors import UserError, attempts, lines_of, raise_all


def check_pairs(
    lr_root: Path, hr_root: Path, backend: Backend, template: str, scale: int, listed: Path | None = None
) -> None:
    """Check that `PairedImageDataset` can read two image sets, and that they are LR and HR sides of the same pictures.

    Args:
        lr_root: LMDB or folder of LR images.
        hr_root: LMDB or folder of HR images.
        backend: Which of them both are.
        template: LR file name for an HR name without suffix, e.g. `{}_x4`; folders only.
        scale: HR size / LR size.
        listed: Text file whose lines begin with an HR name: only these are used; folders only.

    Raises:
        UserError: An image has no partner, or not `scale` times its partner's size; or as `check_images`.
    """
    lr, hr = _open(lr_root, backend), _open(hr_root, backend)
    is_lmdb, shown = (True, name_of) if backend == 'lmdb' else (False, str)
    lr_keys, hr_keys = (
        dict(zip(images.keys if is_lmdb else images.names, images.keys, strict=True)) for images in (lr, hr)
    )
    names = list(hr_keys) if listed is None or is_lmdb else _listed_names(listed)

    def partner_of(name: str) -> str:
        path = Path(name)
        return name if is_lmdb else str(path.with_name(template.format(path.stem) + path.suffix))

    def find_partner(name: str) -> tuple[str, str]:
        if name not in hr_keys:
            raise UserError(f'{listed}: names of images in {hr_root} expected, got {name!r}')
        if (partner := partner_of(name)) not in lr_keys:
            raise UserError(f'{lr_root}: {shown(partner)} expected, the LR image of {hr_root}: {shown(name)}')
        return name, partner

    def compare(pair: tuple[str, Shape | UserError, Shape | UserError]) -> None:
        name, hr_shape, lr_shape = pair
        raise_all(lines_of([hr_shape, lr_shape]))
        check_pair(lr_shape, hr_shape, scale, f'{hr_root}: {shown(name)}')

    found = attempts(find_partner, names)
    pairs = [pair for pair in found if not isinstance(pair, UserError)]
    shapes = _judge([(hr, hr_keys[name]) for name, _ in pairs] + [(lr, lr_keys[partner]) for _, partner in pairs])
    compared = attempts(
        compare, zip([name for name, _ in pairs], shapes[: len(pairs)], shapes[len(pairs) :], strict=True)
    )
    without = sorted(lr_keys.keys() - set(map(partner_of, names))) if listed is None or is_lmdb else []
    raise_all(
        [
            *_misplaced(lr),
            *_misplaced(hr),
            *lines_of(found),
            *lines_of(compared),
            *(f'{lr_root}: {shown(name)} has no HR image in {hr_root}' for name in without),
        ]
    )


def check_images(root: Path, backend: Backend) -> None:
    """Check that BasicSR's classes can read an image set.

    Raises:
        UserError: It is laid out otherwise than they read it, or images cannot be read: one line for each.
    """
    images = _open(root, backend)
    raise_all([*_misplaced(images), *lines_of(_judge([(images, key) for key in images.keys]))])


def check_file_names(root: Path, backend: Backend) -> None:
    """Check that results named as BasicSR names them, by the last part of the path without suffix, are all kept.

    Raises:
        UserError: Two images would be written to one file.
    """
    first: dict[str, str] = {}
    for name in open_images(root, backend).names:
        stem = Path(name).name if backend == 'lmdb' else Path(name).stem
        if first.setdefault(stem, name) != name:
            raise UserError(f'{root}: {name}: another file name than that of {first[stem]} expected (val.save_img)')


def _open(root: Path, backend: Backend) -> Images:
    """Open an image set whose images BasicSR's own classes can decode."""
    images = open_images(root, backend)
    if isinstance(images, LmdbImages) and images.has_raw:
        raise UserError(f'{root}: PNG values expected, raw pixels are for training only: make it without --raw')
    return images


def _misplaced(images: Images) -> Iterator[str]:
    """Yield what is laid out otherwise than BasicSR's own classes read it."""
    root = images.root
    if isinstance(images, LmdbImages):
        dotted = [key for key in images.keys if '.' in key]
        yield from (f'{root}: {key}: a key without a dot expected, where BasicSR cuts it' for key in dotted)
        return
    nested = [name for name in images.names if Path(name).name != name]
    yield from (f'{root}: {name}: no images in subfolders expected, BasicSR does not see them here' for name in nested)
    others = {path.name for path in root.iterdir() if path.is_file() and path.name[0] != '.'} - set(images.names)
    yield from (f'{root}: {name}: only images expected, BasicSR reads every file here' for name in sorted(others))


def _listed_names(listed: Path) -> list[str]:
    lines = listed.read_text('utf-8', errors='replace').splitlines()
    return list(dict.fromkeys(line.strip().split(' ')[0] for line in lines))


def _judge(images: list[tuple[Images, str]]) -> list[Shape | UserError]:
    """Read images by key, side by side; return the size of each or what is wrong with it."""

    def read(image: tuple[Images, str]) -> None:
        source, key = image
        source.read(key)

    shapes = attempts(lambda image: image[0].shape(image[1]), images)
    opened = [index for index, shape in enumerate(shapes) if not isinstance(shape, UserError)]
    with ThreadPool() as pool:
        results = attempts(read, [images[index] for index in opened], pool.imap)
    for index, result in zip(opened, results, strict=True):
        shapes[index] = result or shapes[index]
    return shapes
