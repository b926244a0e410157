"""Image sets for validation and tests: whether BasicSR's own classes can read them, which is less than what ours do."""

from collections.abc import Container
from multiprocessing.pool import ThreadPool
from pathlib import Path

from facesr_plugin.data.image_source import Backend, Images, open_images
from facesr_plugin.data.lmdb_images import LmdbImages, name_of
from facesr_plugin.data.sizes import check_pair
from facesr_plugin.errors import UserError, each, raise_all


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
    lr, hr = _open_plain(lr_root, backend), _open_plain(hr_root, backend)
    is_lmdb, shown = (True, name_of) if backend == 'lmdb' else (False, str)
    lr_names, hr_names = (images.keys if is_lmdb else images.names for images in (lr, hr))
    lr_at, hr_at = ({name: index for index, name in enumerate(names)} for names in (lr_names, hr_names))
    names = hr_names if listed is None or is_lmdb else _listed_names(listed, hr_root, hr_at)

    def partner_of(name: str) -> str:
        path = Path(name)
        partner = name if is_lmdb else str(path.with_name(template.format(path.stem) + path.suffix))
        if partner not in lr_at:
            raise UserError(f'{lr_root}: {shown(partner)} expected, the LR image of {hr_root}: {shown(name)}')
        check_pair(lr.shapes[lr_at[partner]], hr.shapes[hr_at[name]], scale, f'{hr_root}: {shown(name)}')
        return partner

    partners = each(partner_of, names)
    if len(names) == len(hr_names):
        raise_all(
            f'{lr_root}: {shown(name)} has no HR image in {hr_root}' for name in sorted(lr_at.keys() - set(partners))
        )
    _read_all([(hr, hr.keys[hr_at[name]]) for name in names] + [(lr, lr.keys[lr_at[name]]) for name in partners])


def check_images(root: Path, backend: Backend) -> None:
    """Check that BasicSR's classes can read an image set.

    Raises:
        UserError: It is laid out otherwise than they read it, or images cannot be read: one line for each.
    """
    images = _open_plain(root, backend)
    _read_all([(images, key) for key in images.keys])


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


def _open_plain(root: Path, backend: Backend) -> Images:
    """Open an image set that is laid out as BasicSR's own classes read it."""
    images = open_images(root, backend)
    if isinstance(images, LmdbImages):
        if images.has_raw:
            raise UserError(f'{root}: PNG values expected, raw pixels are for training only: make it without --raw')
        dotted = [key for key in images.keys if '.' in key]
        raise_all(f'{root}: {key}: a key without a dot expected, where BasicSR cuts it' for key in dotted)
        return images
    nested = [name for name in images.names if Path(name).name != name]
    raise_all(f'{root}: {name}: no images in subfolders expected, BasicSR does not see them here' for name in nested)
    others = {path.name for path in root.iterdir() if path.is_file() and path.name[0] != '.'} - set(images.names)
    raise_all(f'{root}: {name}: only images expected, BasicSR reads every file here' for name in sorted(others))
    return images


def _listed_names(listed: Path, hr_root: Path, known: Container[str]) -> list[str]:
    names = [line.strip().split(' ')[0] for line in listed.read_text('utf-8', errors='replace').splitlines()]
    if missing := [name for name in names if name not in known]:
        raise_all(f'{listed}: names of images in {hr_root} expected, got {name!r}' for name in missing)
    return names


def _read_all(images: list[tuple[Images, str]]) -> None:
    """Read images by key, side by side; a UserError with a line for each that cannot be read."""

    def read(image: tuple[Images, str]) -> None:
        source, key = image
        source.read(key)

    with ThreadPool() as pool:
        each(read, images, pool.imap)
