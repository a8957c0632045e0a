"""SqueezeDet's parts in plain numpy, one image and one number at a time, from arXiv:1612.01051."""

import itertools

import numpy as np


def overlap(first, second):
    """Intersection over union of two boxes (centre x, centre y, width, height)."""
    (x, y, w, h), (u, v, a, b) = (map(float, box[:4]) for box in (first, second))
    wide = min(x + w / 2, u + a / 2) - max(x - w / 2, u - a / 2)
    high = min(y + h / 2, v + b / 2) - max(y - h / 2, v - b / 2)
    shared = max(wide, 0.0) * max(high, 0.0)
    union = w * h + a * b - shared
    return shared / union if union > 0 else 0.0


def moved(anchor, changes):
    """Equation 1."""
    x, y, w, h = map(float, anchor)
    return np.array(
        [x + w * changes[0], y + h * changes[1], w * np.exp(changes[2]), h * np.exp(changes[3])]
    )


def moves(anchor, box):
    """Equation 2."""
    x, y, w, h = map(float, anchor)
    return np.array([(box[0] - x) / w, (box[1] - y) / h, np.log(box[2] / w), np.log(box[3] / h)])


def chosen(anchors, truths):
    """Truth → its anchor: the freest of the best, else the nearest; greedily, in their order."""
    taken, places = set(), []
    for truth in truths:
        if truth[4] < 0:
            places.append(-1)
            continue
        free = [place for place in range(len(anchors)) if place not in taken]
        best = max(free, key=lambda place: (overlap(anchors[place], truth), -place))
        if overlap(anchors[best], truth) == 0:
            best = min(free, key=lambda place: (np.sum((anchors[place] - truth[:4]) ** 2), place))
        taken.add(best)
        places.append(best)
    return places


def loss(outputs, truths, anchors, box=5.0, positive=75.0, negative=100.0):
    """Equation 3 for one image, and which objects' anchors are right."""
    places = chosen(anchors, truths)
    objects = [(p, truth) for p, truth in zip(places, truths, strict=True) if p >= 0]
    total, right = 0.0, []
    for place, truth in objects:
        changes, confidence, logits = outputs[place, :4], outputs[place, 4], outputs[place, 5:]
        share = overlap(moved(anchors[place], changes), truth)
        chances = np.exp(logits) / np.exp(logits).sum()
        total += box / len(objects) * np.sum((changes - moves(anchors[place], truth)) ** 2)
        total += positive / len(objects) * (1 / (1 + np.exp(-confidence)) - share) ** 2
        total += -np.log(chances[int(truth[4])]) / len(objects)
        right.append(share >= 0.5 and int(np.argmax(logits)) == int(truth[4]))
    others = [place for place in range(len(anchors)) if place not in places]
    for place in others:
        confidence = 1 / (1 + np.exp(-outputs[place, 4]))
        total += negative / (len(anchors) - len(objects)) * confidence**2
    return total, np.mean(right) if right else 1.0


def suppressed(boxes, scores, classes, limit):
    """Which boxes, the likeliest first, are hidden by one before them that is not."""
    hidden = set()
    for later in range(len(boxes)):
        for earlier in range(later):
            alike = classes[earlier] == classes[later]
            near = overlap(boxes[earlier], boxes[later]) > limit
            if earlier not in hidden and alike and near and scores[earlier] > 0:
                hidden.add(later)
    return hidden


def average_precision(found, truths, number, limit=0.5):
    """`found`: (image, score, box, class); the area by its definition, over all recalls."""
    objects = {
        (image, place): truth
        for image, row in enumerate(truths)
        for place, truth in enumerate(row)
        if truth[4] == number
    }
    if not objects:
        return None
    mine = sorted((f for f in found if f[3] == number), key=lambda f: -f[1])
    seen, hits, curve = set(), 0, []
    for rank, (image, _, box, _) in enumerate(mine, 1):
        near = {key: overlap(box, truth) for key, truth in objects.items() if key[0] == image}
        best = max(near, key=near.get, default=None)
        if best is not None and near[best] >= limit and best not in seen:
            seen.add(best)
            hits += 1
        curve.append((hits / len(objects), hits / rank))
    total, before = 0.0, 0.0
    for recall, _ in itertools.groupby(point[0] for point in curve):
        height = max(precision for other, precision in curve if other >= recall)
        total += (recall - before) * height
        before = recall
    return total
