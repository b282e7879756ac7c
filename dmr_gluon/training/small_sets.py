"""What helps with few images or unequal classes: mixup (Zhang et al. 2018) and class weights."""

import numpy as np


def mixup_share(alpha, seed, epoch, step, reshuffled=0):
    """Draw the share of the first image in each pair of one batch, for mixup.

    Parameters
    ----------
    alpha : float
        The share has the distribution Beta(alpha, alpha); 0: no mixup.
    seed, epoch, step : int
        The epoch is counted from 1, the step from 0.
    reshuffled : int
        How often the epoch has been reshuffled.

    Returns
    -------
    float
        At least 1/2, so that the first image is the main one: every pair occurs in both orders.
    """
    if not alpha:
        return 1.0
    seeds = np.random.SeedSequence((seed, epoch, reshuffled), spawn_key=(0, step))
    share = np.random.default_rng(seeds).beta(alpha, alpha)
    return float(max(share, 1 - share))


def mixup(net, losses_of, x, y, share):
    """Blend each image of a part with its partner, and their losses likewise.

    The partner has the same place counted from the end of the part.

    Parameters
    ----------
    net, losses_of : HybridBlock
        From images to logits; from logits and labels to losses, their sum, and wrong answers.
    x, y : NDArray
        Images and labels.
    share : float
        Weight of each image; the rest is its partner's. 1: no mixup.

    Returns
    -------
    NDArray, NDArray, NDArray
        The loss of each image, their sum, and the number of images that are not classified as
        the main one of the two.
    """
    if share == 1:
        return losses_of(net(x), y)
    logits = net(share * x + (1 - share) * x.flip(axis=0))
    own, _, wrong = losses_of(logits, y)
    partners, _, _ = losses_of(logits, y.flip(axis=0))
    losses = share * own + (1 - share) * partners
    return losses, losses.sum(), wrong


def balanced(prepared):
    """Return class weights N / (K n) for n of N training images in one of K classes.

    Their mean over all training images is 1. A class without images has the weight 0.

    Parameters
    ----------
    prepared : RecordDataset

    Returns
    -------
    numpy.ndarray
        (K,), float32.
    """
    counts = np.array(prepared.split("train").per_class, np.float64)
    weights = counts.sum() / (len(counts) * np.maximum(counts, 1))
    return np.where(counts, weights, 0).astype(np.float32)
