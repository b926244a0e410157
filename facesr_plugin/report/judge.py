"""Enlarged pictures judged as their users judge: by fidelity, by how natural they look, by whom they show."""

import csv
import io
import statistics
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from basicsr.metrics import calculate_metric, calculate_niqe
from basicsr.utils import tensor2img
from scipy.stats import t as student
from tqdm import tqdm

from facesr_plugin.archs.plain import enlarge
from facesr_plugin.data.image_source import Images
from facesr_plugin.data.lmdb_images import name_of
from facesr_plugin.data.sizes import check_pair
from facesr_plugin.degradations.pictures import as_batch
from facesr_plugin.errors import UserError
from facesr_plugin.faces.identity import Box, Embedder
from facesr_plugin.files import write
from facesr_plugin.models.validation import BASELINES, STANDARD_METRICS, ssim
from facesr_plugin.report.table import markdown_table

HR = 'HR'
NIQE_BLOCK = 96  # px; BasicSR's calculate_niqe needs two of them
MEASURES = {  # title, form of a number, form of a difference
    'psnr': ('PSNR', '.2f', '+.3f'),
    'ssim': ('SSIM', '.4f', '+.4f'),
    'identity': ('identity', '.3f', '+.3f'),
    'niqe': ('NIQE', '.2f', '+.2f'),
}
GAINS = {f'gain_{mode}': mode for mode in BASELINES}
COLUMNS = ('picture', 'candidate', *MEASURES, 'face_seen', *GAINS)
Score = dict[str, Any]  # of a picture by a candidate: `COLUMNS`; what is not known is None
NOTES = (
    'PSNR in dB and SSIM: RGB, 8 bits, no border cropped, as in validation. Gain: mean of the PSNR over that of plain'
    ' enlarging, on the same pairs.',
    "Identity: distance of dlib's embeddings of the face here and in HR; 0 is the same picture, above 0.6 dlib takes"
    ' two pictures for two people. The face is looked for in HR, and the same box is taken in all pictures of it; five'
    ' points in it are found in each. Faces seen: pictures in which the detector, left alone, sees a face too.',
    "NIQE: BasicSR's, with its parameters; less looks more natural. It does not know what HR looks like.",
)


@dataclass(frozen=True)
class Candidate:
    """Where a candidate's pictures come from.

    Attributes:
        name: Its row's title.
        picture: Returns its picture, uint8 RGB (H, W, 3), of the key of an HR picture and of the LR picture (h, w, 3),
            or raises UserError.
        from_lr: Whether it needs an LR picture; if not, it may get None.
    """

    name: str
    picture: Callable[[str, np.ndarray | None], np.ndarray]
    from_lr: bool = False


@dataclass
class Verdict:
    """All scores, and what could not be judged.

    Attributes:
        scores: A picture after the other, a candidate after the other.
        problems: A line each.
        pictures: How many HR pictures were gone through.
        faces: In how many of them a face was found; None where nobody looked.
    """

    scores: list[Score] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    pictures: int = 0
    faces: int | None = None


def from_images(name: str, images: Images, template: str = '{}') -> Candidate:
    """Return the candidate whose pictures lie in a folder or an LMDB.

    Args:
        name: Its title.
        images: Its pictures.
        template: Their name for an HR name, e.g. `{}_out`.
    """
    return Candidate(name, lambda key, _: images.read(partner(key, template)))


def partner(key: str, template: str) -> str:
    """Return the key of a picture whose name is made of another's.

    Example:
        >>> partner('set%201/a', '{}_x4')
        'set%201/a_x4'
    """
    return quote(template, safe='{}').replace('.', '%2E').format(key)


def from_network(
    name: str, net: Callable[[torch.Tensor], torch.Tensor], device: torch.device | str = 'cpu'
) -> Candidate:
    """Return the candidate that enlarges LR pictures.

    Args:
        name: Its title.
        net: (1, 3, h, w) to (1, 3, H, W), RGB in [0, 1].
        device: Where the network is.
    """

    @torch.inference_mode()
    def picture(_: str, lr: np.ndarray) -> np.ndarray:
        return tensor2img(net(as_batch(lr).to(device)))[..., ::-1]

    return Candidate(name, picture, from_lr=True)


def plain_candidates(scale: int) -> list[Candidate]:
    """Return plain enlarging by each of `BASELINES`."""
    return [from_network(mode, partial(enlarge, scale=scale, mode=mode)) for mode in BASELINES]


def judge(
    hr: Images,
    lr: Images | None,
    keys: Sequence[str],
    candidates: Sequence[Candidate],
    embedder: Embedder | None,
    verdict: Verdict,
) -> None:
    """Judge pictures one after the other; those of HR, and plain enlarging of LR, are judged beside the candidates'.

    Args:
        hr: The HR pictures.
        lr: The LR pictures of the same keys; candidates that need them are left out without.
        keys: Which of them.
        candidates: What is compared.
        embedder: For the identity; None leaves it out.
        verdict: Filled picture by picture, so that it holds what is done when this ends early.
    """
    verdict.faces = None if embedder is None else 0
    for key in tqdm(keys, unit='picture'):
        try:
            target = hr.read(key)
        except UserError as error:
            verdict.problems.append(str(error))
            continue
        verdict.pictures += 1
        small, scale = None, 1
        if lr:
            try:
                small = lr.read(key)
                scale = max(1, target.shape[0] // small.shape[0])
                check_pair(small.shape[:2], target.shape[:2], scale, f'{lr.root}: {name_of(key)}')
            except UserError as error:
                verdict.problems.append(str(error))
                small = None
        box = embedder.find(target) if embedder else None
        if embedder and box is None:
            verdict.problems.append(f'{hr.root}: {name_of(key)}: no face found, so no identity')
        face = embedder.embed(target, box) if box is not None else None
        verdict.faces = embedder and verdict.faces + (box is not None)
        own = Candidate(HR, lambda _key, _lr, target=target: target)
        rows = []
        for candidate in (*plain_candidates(scale), *candidates, own):
            if candidate.from_lr and small is None:
                continue  # told above
            try:
                image = candidate.picture(key, small)
                rows.append(_score(key, candidate.name, image, target, embedder, box, face))
            except UserError as error:
                verdict.problems.append(f'{candidate.name}: {error}')
                continue
            if rows[-1]['niqe'] is None:
                squares = f'two squares of {NIQE_BLOCK} px with something in them expected'
                verdict.problems.append(f'{candidate.name}: {name_of(key)}: no NIQE, {squares}')
        plain = {row['candidate']: row['psnr'] for row in rows if row['candidate'] in BASELINES}
        for row in rows:
            if row['candidate'] != HR:
                row |= {gain: row['psnr'] - plain[mode] for gain, mode in GAINS.items() if mode in plain}
        verdict.scores += rows


def _score(
    key: str,
    name: str,
    image: np.ndarray,
    target: np.ndarray,
    embedder: Embedder | None,
    box: Box | None,
    face: np.ndarray | None,
) -> Score:
    """Return the scores of a picture of `target`, in which `face` is at `box`.

    Raises:
        UserError: It has another size.
    """
    if image.shape != target.shape:
        size, expected = (f'{shape[1]}x{shape[0]}' for shape in (image.shape, target.shape))
        raise UserError(f'{name_of(key)}: {expected} px expected, the size of HR, got {size}')
    score = dict.fromkeys(COLUMNS) | {'picture': name_of(key), 'candidate': name, 'niqe': niqe(image)}
    if name != HR:
        score['psnr'] = float(calculate_metric({'img': image, 'img2': target}, STANDARD_METRICS['psnr']))
        score['ssim'] = ssim(image, target)
    if face is not None:
        score['identity'] = float(np.linalg.norm(embedder.embed(image, box) - face))
        score['face_seen'] = embedder.find(image) is not None
    return score


def niqe(image: np.ndarray) -> float | None:
    """Return BasicSR's NIQE of uint8 RGB (H, W, 3); None where it cannot be: too small, or nothing in it."""
    height, width = image.shape[:2]
    if (height // NIQE_BLOCK) * (width // NIQE_BLOCK) < 2:
        return None
    try:
        with warnings.catch_warnings(action='ignore', category=RuntimeWarning):  # of flat blocks
            value = float(calculate_niqe(image[..., ::-1], crop_border=0))
    except np.linalg.LinAlgError:  # all features are NaN
        return None
    return value if np.isfinite(value) else None


# ------------------------------------------------------------------------------ the tables
def means(verdict: Verdict) -> list[Score]:
    """Return a row for each candidate: the mean of each measure over the pictures that have it, and how many there are.

    Example:
        >>> row = {'candidate': 'a', 'psnr': 30.0, 'ssim': None, 'identity': None, 'niqe': 5.0, 'face_seen': True}
        >>> means(Verdict([row | dict.fromkeys(GAINS), row | dict.fromkeys(GAINS) | {'psnr': 32.0}]))[0]['psnr']
        31.0
    """
    rows = []
    for name in dict.fromkeys(score['candidate'] for score in verdict.scores):
        own = [score for score in verdict.scores if score['candidate'] == name]
        row = {'candidate': name, 'pictures': len(own)}
        for measure in (*MEASURES, *GAINS):
            values = [score[measure] for score in own if score[measure] is not None]
            row[measure] = statistics.fmean(values) if values else None
        seen = [score['face_seen'] for score in own if score['face_seen'] is not None]
        rows.append(row | {'faces': len(seen), 'faces_seen': sum(seen)} if seen else row)
    return rows


def differences(verdict: Verdict, reference: str) -> list[dict[str, Any]]:
    """Return how the reference differs from each other candidate, over the pictures that both have.

    Returns:
        A row for each candidate and measure: `candidate`, `measure`, `pictures`, `mean` of reference - candidate, and
        `low` and `high`, its 95 % interval by Student's t over pictures; None of a single picture.
    """
    by_name: dict[str, dict[str, Score]] = {}
    for score in verdict.scores:
        by_name.setdefault(score['candidate'], {})[score['picture']] = score
    rows = []
    for name, own in by_name.items():
        for measure in MEASURES if name not in (reference, HR) else ():
            pairs = [
                (score[measure], own[key][measure]) for key, score in by_name.get(reference, {}).items() if key in own
            ]
            values = [first - second for first, second in pairs if None not in (first, second)]
            if values:
                low, high = interval(values)
                row = {'candidate': name, 'measure': measure, 'pictures': len(values), 'mean': statistics.fmean(values)}
                rows.append(row | {'low': low, 'high': high})
    return rows


def interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % interval of the mean by Student's t; one value has none.

    Example:
        >>> ['%.3f' % end for end in interval([1.0, 2.0, 3.0])]
        ['-0.484', '4.484']
    """
    if len(values) < 2:
        return None, None
    mean = statistics.fmean(values)
    half = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return mean - half, mean + half


def write_verdict(folder: Path, verdict: Verdict, reference: str) -> None:
    """Write pictures.csv, table.csv and differences.csv, with all digits, and judge.md into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    averages = ('candidate', 'pictures', *MEASURES, *GAINS, 'faces', 'faces_seen')
    apart = ('candidate', 'measure', 'pictures', 'mean', 'low', 'high')
    write(folder / 'pictures.csv', _csv(COLUMNS, verdict.scores))
    write(folder / 'table.csv', _csv(averages, means(verdict)))
    write(folder / 'differences.csv', _csv(apart, differences(verdict, reference)))
    write(folder / 'judge.md', format_verdict(verdict, reference).encode())


def format_verdict(verdict: Verdict, reference: str) -> str:
    """Return means, differences and all pictures as Markdown."""
    parts = [format_means(verdict)]
    if verdict.faces is not None:
        parts.append(f'Faces found: in {verdict.faces} of {verdict.pictures} HR pictures.')
    if len({row['pictures'] for row in means(verdict)}) > 1:
        parts.append('The rows are not over the same pictures; the differences below are over those that both have.')
    if apart := differences(verdict, reference):
        parts += [f'**{reference} less the others**, 95 % interval over pictures:', format_differences(apart)]
        if any(row['low'] is None for row in apart):
            parts.append('One picture alone has no interval.')
    if verdict.problems:
        parts += ['Left out:', '\n'.join(f'- {line}' for line in verdict.problems)]
    parts += [*NOTES, '**Picture by picture**', _all_pictures(verdict)]
    return '\n\n'.join(parts) + '\n'


def format_means(verdict: Verdict) -> str:
    """Return the table of the means as Markdown."""
    rows, with_faces = means(verdict), verdict.faces is not None
    with_gains = any(row[gain] is not None for row in rows for gain in GAINS)
    gains = {gain: f'over {mode}' for gain, mode in GAINS.items() if with_gains}
    shown = {key: form for key, form in MEASURES.items() if with_faces or key != 'identity'}
    header = ['candidate', 'pictures', *(title for title, _, _ in shown.values()), *gains.values()]
    cells = [
        [row['candidate'], str(row['pictures'])]
        + [_number(row[key], form) for key, (_, form, _) in shown.items()]
        + [_number(row[gain], '+.2f') for gain in gains]
        + ([f'{row["faces_seen"]} of {row["faces"]}' if 'faces' in row else '-'] if with_faces else [])
        for row in rows
    ]
    return markdown_table(header + (['faces seen'] if with_faces else []), cells, pad=True)


def format_differences(rows: Iterable[dict[str, Any]]) -> str:
    """Return the table of the differences as Markdown, a row for each candidate."""
    names = dict.fromkeys(row['candidate'] for row in rows)
    measures = [measure for measure in MEASURES if any(row['measure'] == measure for row in rows)]
    cells = {(row['candidate'], row['measure']): _difference(row) for row in rows}
    body = [[name, *(cells.get((name, measure), '-') for measure in measures)] for name in names]
    return markdown_table(['candidate', *(MEASURES[measure][0] for measure in measures)], body, pad=True)


def _difference(row: dict[str, Any]) -> str:
    form = MEASURES[row['measure']][2]
    ends = f' ({row["low"]:{form}} to {row["high"]:{form}})' if row['low'] is not None else ''
    return f'{row["mean"]:{form}}{ends}, n = {row["pictures"]}'


def _all_pictures(verdict: Verdict) -> str:
    titles = ['picture', 'candidate', *(title for title, _, _ in MEASURES.values())]
    rows = [
        [score['picture'], score['candidate'], *(_number(score[key], form) for key, (_, form, _) in MEASURES.items())]
        for score in verdict.scores
    ]
    return markdown_table(titles, rows)


def _number(value: float | None, form: str) -> str:
    return '-' if value is None else f'{value:{form}}'


def _csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
