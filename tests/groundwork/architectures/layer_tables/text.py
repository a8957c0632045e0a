"""Language models, by their equations: 65 tokens, contexts of 64."""

from tests.groundwork.architectures.layer_tables.layers import Cost, Table, norm

CLASSES, LENGTH, FEATURES = 65, 64, 64


def each(inputs, outputs, bias=True):
    """A dense layer that sees every token of the context."""
    return Cost(inputs * outputs + bias * outputs, LENGTH * inputs * outputs)


def transformer(layers=2, tied=False):
    embeddings = [Cost(CLASSES * FEATURES), Cost(LENGTH * FEATURES)]
    attention = [each(FEATURES, FEATURES) for _ in "qkvo"]
    pairs = [Cost(0, LENGTH * LENGTH * FEATURES)] * 2  # of scores, and of values
    hidden = [each(FEATURES, 4 * FEATURES), each(4 * FEATURES, FEATURES)]
    block = [norm(FEATURES), *attention, *pairs, norm(FEATURES), *hidden]
    output = each(FEATURES, CLASSES, bias=not tied)
    if tied:
        output = output._replace(parameters=0)
    return [*embeddings, *layers * block, norm(FEATURES), output]


def lstm(layers=2):
    layer = [each(FEATURES, 4 * FEATURES), each(FEATURES, 4 * FEATURES, bias=False)]
    return [Cost(CLASSES * FEATURES), *layers * layer, each(FEATURES, CLASSES)]


TABLES = {
    "transformer": Table(transformer(), 112_577, 7_606_272, classes=CLASSES),
    "transformer tied": Table(
        transformer(1, True), 58_368, 3_936_256, {"tied": True, "layers": 1}, CLASSES
    ),
    "lstm": Table(lstm(), 74_433, 4_460_544, classes=CLASSES),
}
