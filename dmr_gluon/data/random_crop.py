"""Random parts of an image, to be scaled to a square (Szegedy et al. 2015)."""

#: Range of a part's width divided by its height, and the attempts to draw one that fits into the
#: image: those of torchvision's RandomResizedCrop.
RATIOS, ATTEMPTS = (3 / 4, 4 / 3), 10


def random_part(image, areas, attempts, top, left):
    """Return a part of random area, aspect ratio and place.

    The area is uniform within its range, and so is the logarithm of the aspect ratio. If no
    attempt fits, return the largest central part with an allowed aspect ratio.

    Parameters
    ----------
    image : numpy.ndarray
        (height, width, 3).
    areas : (float, float)
        Range of the area, as a share of the image's.
    attempts : sequence of (float, float)
        Uniform random numbers from 0 to 1: for area and aspect ratio.
    top, left : float
        Uniform random numbers from 0 to 1: for the place.

    Returns
    -------
    numpy.ndarray
        A view of the image.
    """
    height, width = image.shape[:2]
    (least, most), (narrow, wide) = areas, RATIOS
    for share, exponent in attempts:
        area = height * width * (least + share * (most - least))
        ratio = narrow * (wide / narrow) ** exponent
        across, down = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < across <= width and 0 < down <= height:
            break
    else:
        across = min(width, max(1, round(height * wide)))
        down = min(height, max(1, round(width / narrow)))
        top = left = 0.5
    row, column = int(top * (height - down + 1)), int(left * (width - across + 1))
    return image[row : row + down, column : column + across]
