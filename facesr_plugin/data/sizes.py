"""The one place of the rule that an HR image is `scale` times its LR image; shapes are (height, width), px."""

from pathlib import Path

from facesr_plugin.errors import UserError

Shape = tuple[int, int]


def lr_shape(hr_shape: Shape, scale: int, name: str | Path) -> Shape:
    """Return the shape of the LR image of an HR image, which an error calls `name`.

    Raises:
        UserError: A side is no multiple of the scale.

    Example:
        >>> lr_shape((96, 80), 4, 'face.png')
        (24, 20)
    """
    height, width = hr_shape
    if height % scale or width % scale:
        raise UserError(f'{name}: sides divisible by {scale} expected, got {width}x{height} px')
    return height // scale, width // scale


def check_pair(lr_shape: Shape, hr_shape: Shape, scale: int, name: str | Path) -> None:
    """Check that an HR image is `scale` times its LR image; an error calls the pair `name`.

    Raises:
        UserError: It is not.
    """
    (lr_height, lr_width), (height, width) = lr_shape, hr_shape
    if (height, width) != (lr_height * scale, lr_width * scale):
        expected = f'HR of {lr_width * scale}x{lr_height * scale} px expected ({scale} times the LR)'
        raise UserError(f'{name}: {expected}, got {width}x{height}')
