"""Mean average precision, the measure of detectors; on the host, in numpy."""

# N images, K detections of an image, M objects of an image

from collections.abc import Sequence

import numpy as np

from groundwork.detection.boxes import overlaps
from groundwork.detection.found import Detections


def average_precisions(
    found: Detections, truths: np.ndarray, classes: int, overlap: float = 0.5
) -> list[float | None]:
    """Returns the average precision of each class, in [0, 1]; None of one without an object.

    A class's detections are taken from all images, the highest score first (ties in the order of
    images). One is right if the object of its class that it overlaps most is overlapped by
    `overlap` at least and was not found before; otherwise it is a false alarm. The average
    precision is the area under the precision as a function of recall, where the precision at a
    recall is the greatest at this recall or a higher one.

    Args:
      found: leaves [N, K, …]; scores of 0 are no detections.
      truths: [N, M, 5], see the package.
      classes: their number.
      overlap: intersection over union, in (0, 1].

    Source: the PASCAL Visual Object Classes challenge, development kit of 2010 and later (all
    points of the curve, where that of 2007 takes eleven). Departs: overlaps are those of boxes in
    continuous coordinates, where the kit counts whole pixels; no object is called difficult.
    """
    boxes, scores, labels = (np.asarray(leaf) for leaf in found)
    truths = np.asarray(truths)
    shared = overlaps(boxes[:, :, None], truths[:, None, :, :4])  # [N, K, M]
    return [_of_class(shared, scores, labels, truths[..., 4], c, overlap) for c in range(classes)]


def mean_average_precision(
    found: Detections, truths: np.ndarray, classes: int, overlap: float = 0.5
) -> float:
    """Returns the mean of `average_precisions` over the classes that have an object, in [0, 1].

    Raises:
      ValueError: there is no object at all.
    """
    known = [ap for ap in average_precisions(found, truths, classes, overlap) if ap is not None]
    if not known:
        raise ValueError("there is no object whose detection could be judged")
    return float(np.mean(known))


def area(right: Sequence[bool], objects: int) -> float:
    """Returns the area under precision against recall, of detections in the order of their scores.

    Args:
      right: which of them are.
      objects: that there are.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    return float(np.sum(best[np.asarray(right, bool)]) / objects)


def _of_class(
    shared: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    truths: np.ndarray,
    number: int,
    overlap: float,
) -> float | None:
    objects = truths == number  # [N, M]
    if not objects.any():
        return None
    images, places = np.nonzero((labels == number) & (scores > 0))
    order = np.argsort(-scores[images, places], kind="stable")
    left, right = objects.copy(), []
    for image, place in zip(images[order], places[order], strict=True):
        candidates = np.where(objects[image], shared[image, place], -1.0)
        best = int(np.argmax(candidates))
        hit = bool(candidates[best] >= overlap and left[image, best])
        left[image, best] &= not hit
        right.append(hit)
    return area(right, int(objects.sum()))
