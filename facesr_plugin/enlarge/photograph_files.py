"""Photograph files, enlarged with their faces; each face can be kept as pictures of its own."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from facesr_plugin.enlarge.files import Enlarger
from facesr_plugin.enlarge.photograph import EnlargedFace, FaceOptions, upscale_photograph
from facesr_plugin.enlarge.tiles import Progress
from facesr_plugin.pictures.picture import Picture
from facesr_plugin.pictures.write import write_picture

CROPS, RESULTS, PAIRS = 'cropped_faces', 'restored_faces', 'cmp'  # folders, named as GFPGAN's are


@dataclass(frozen=True)
class PhotographEnlarger(Enlarger):
    """An `Enlarger` that enlarges the faces of a picture on their own.

    Attributes:
        faces: Which faces, and how.
        save_faces: Folder for a picture of each face, of its result, and of both beside each other; None for none.
        names: What those are called, by the name of the photograph's file; the file's own name without.
    """

    faces: FaceOptions = field(default_factory=FaceOptions)
    save_faces: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def enlarge_batch(self, pictures: list[Picture]) -> None:
        """Return None: photographs are done one by one."""

    def enlarge(self, picture: Picture, name: str) -> Picture:
        """Enlarge a photograph, keep its faces and say how many there were.

        Raises:
            UserError: Memory ran out, or a picture of a face cannot be written.
        """
        found: list[list[EnlargedFace]] = []

        def enlarge_frame(frame: np.ndarray, progress: Progress) -> np.ndarray:
            result, faces = upscale_photograph(
                self.net, frame, self.faces, self.outscale, self.tile, progress, self.precision
            )
            found.append(faces)
            return result

        result = self.enlarge_frames(picture, name, enlarge_frame)
        if self.save_faces:
            for number, faces in enumerate(found):
                stem = self.names.get(name, Path(name).stem) + (f'_{number:03d}' if len(found) > 1 else '')
                save_faces(self.save_faces, stem, faces, picture.profile)
        if not self.quiet:
            tqdm.write(f'{name}: {self._told([face for faces in found for face in faces])}', sys.stderr)
        return result

    def _told(self, faces: list[EnlargedFace]) -> str:
        if not faces:
            return f'no face of {self.faces.min_face:g} px or more found, enlarged plainly'
        least, most = (limit(round(face.square.size) for face in faces) for limit in (min, max))
        sizes = f'{least} px' if least == most else f'{least} to {most} px'
        return f'1 face, {sizes}' if len(faces) == 1 else f'{len(faces)} faces, {sizes}'


def save_faces(folder: Path, stem: str, faces: list[EnlargedFace], profile: bytes | None = None) -> None:
    """Write PNGs of each face: as the network saw it, its result, and both beside each other in the result's size.

    Args:
        folder: Gets three folders, `CROPS`, `RESULTS` and `PAIRS`.
        stem: The files are called `STEM_00.png` and so on, from the largest face on; it may hold folders.
        faces: The faces of a photograph.
        profile: Its colour profile.

    Raises:
        UserError: A file cannot be written.
    """
    for index, face in enumerate(faces):
        larger = cv2.resize(face.crop, face.result.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        pair = np.concatenate([larger, face.result], axis=1)
        for kind, pixels in ((CROPS, face.crop), (RESULTS, face.result), (PAIRS, pair)):
            write_picture(folder / kind / f'{stem}_{index:02d}.png', Picture([pixels], profile))
