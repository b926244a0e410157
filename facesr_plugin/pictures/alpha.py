"""Colours under an alpha channel."""

import cv2
import numpy as np


def fill_invisible(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give each pixel of alpha 0 the colour of the nearest visible one, so that a network does not see what none sees.

    Args:
        colours: (H, W, C) of any type.
        alpha: (H, W).

    Returns:
        The same array where nothing, or all, is invisible; a new one otherwise.
    """
    invisible = alpha == 0
    if not invisible.any() or invisible.all():
        return colours
    _, labels = cv2.distanceTransformWithLabels(
        invisible.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = ~invisible
    nearest = np.zeros((labels.max() + 1, colours.shape[2]), colours.dtype)
    nearest[labels[visible]] = colours[visible]
    filled = colours.copy()
    filled[invisible] = nearest[labels[invisible]]
    return filled
