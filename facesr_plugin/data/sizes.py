"""The one place of the rule that an HR image is `scale` times its LR image; shapes are (height, width), px."""

from pathlib import Path

from facesr_plugin.errors import UserError

Shape = tuple[int, int]


def lr_shape(hr_shape: Shape, scale: int, name: str | Path) -> Shape:
    """Return the shape of the LR image that an HR image is resized to.

    Args:
        hr_shape: Of the HR image.
        scale: HR size / LR size.
        name: What an error calls the HR image.

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
    """Check that an HR image is `scale` times its LR image.

    Args:
        lr_shape: Of the LR image.
        hr_shape: Of the HR image.
        scale: HR size / LR size.
        name: What an error calls the pair.

    Raises:
        UserError: It is not.
    """
    expected = tuple(scale * side for side in lr_shape)
    if tuple(hr_shape) != expected:
        (height, width), found = expected, f'{hr_shape[1]}x{hr_shape[0]}'
        raise UserError(f'{name}: HR of {width}x{height} px expected ({scale} times the LR), got {found}')
