"""What the config of a pipeline says, and what it may not say."""

import pytest

from compress import spec
from compress.stages.quantize import check_signs
from groundwork.errors import UserError
from tests.compress import small


def names(**sections):
    return [node.name for node in spec.nodes(spec.from_config(small.config(**sections)))]


def test_every_level_is_a_network_and_the_chosen_ones_go_on():
    assert names(prune={"levels": (1, 3)}, quantize={"bits": (2, 5)}) == [
        "original",
        "prune-01",
        "prune-02",
        "prune-03",
        "prune-01+quantize-2",
        "prune-01+quantize-5",
        "prune-03+quantize-2",
        "prune-03+quantize-5",
    ]


def test_a_level_is_pruned_from_the_one_before_and_quantised_from_its_own():
    checked = spec.from_config(small.config(prune={"levels": (2,)}, quantize={"bits": (4,)}))
    parents = {node.name: node.parent for node in spec.nodes(checked)}
    assert parents == {
        "original": "",
        "prune-01": "original",
        "prune-02": "prune-01",
        "prune-02+quantize-4": "prune-02",
    }


def test_leaves_are_where_the_pipeline_ends():
    checked = spec.from_config(small.config(stages=("prune",), prune={"levels": (1, 3)}))
    leaves = [node.name for node in spec.nodes(checked) if node.leaf]
    assert leaves == ["prune-01", "prune-02", "prune-03"]  # more levels change none of them
    alone = spec.from_config(small.config(stages=()))
    assert [node.leaf for node in spec.nodes(alone)] == [True]


def test_a_stage_without_a_choice_has_no_number():
    sections = {"share": {"groups": (("fc1", "fc2"),)}, "quantize": {"method": "ternary"}}
    found = names(stages=("share", "distill", "quantize"), **sections)
    assert found == ["original", "share", "share+distill", "share+distill+quantize"]


def test_shares_name_low_rank_networks():
    found = names(stages=("factorize",), factorize={"shares": (0.25, 0.5)})
    assert found == ["original", "factorize-0.5", "factorize-0.25"]


REFUSED = {
    "no stage 'prun'": (dict(stages=("prun",)), "prune"),
    "twice": (dict(stages=("prune", "prune")), "each stage once"),
    "wrong order": (dict(stages=("prune", "factorize")), "factorize must come before prune"),
    "not last": (dict(stages=("quantize", "distill")), "quantize must be the last"),
    "text for stages": (dict(stages="prune"), "must be names"),
    "no groups": (dict(stages=("share",)), "share.groups is empty"),
    "groups of texts": (dict(share={"groups": ("fc1", "fc2")}), "groups of paths"),
    "shared values": (dict(share={"values": "median"}), "first, mean"),
    "level 0": (dict(prune={"levels": (0,)}), "integers from 1"),
    "no levels": (dict(prune={"levels": ()}), "integers from 1"),
    "rate": (dict(prune={"rate": 1.5}), "prune.rate"),
    "rewind": (dict(prune={"rewind": "late"}), "none, start"),
    "rewind of factors": (
        dict(stages=("factorize", "prune")),
        "no start after factorize: set prune.rewind='none'",
    ),
    "rewind of a source": (dict(source={"path": "x.npz"}), "no start with source.path"),
    "rewind of a kept student": (
        dict(stages=("distill", "prune"), distill={"init": "keep"}),
        "no start after distill",
    ),
    "rewind of a narrowed student": (
        dict(stages=("distill", "prune"))
        | dict(distill={"init": "shrink", "model": {"name": "lenet_300_100", "width": 0.5}}),
        "no start after distill",
    ),
    "binary after prune": (dict(quantize={"method": "binary"}), "no zero for pruned weights"),
    "binary after a kept student": (
        dict(stages=("prune", "distill", "quantize"), quantize={"method": "binary"})
        | dict(distill={"init": "keep"}),
        "no zero for pruned weights",
    ),
    "units of tied layers": (
        dict(stages=("share", "distill"), share={"groups": (("fc1", "fc2"),)})
        | dict(distill={"init": "shrink", "model": {"name": "lenet_300_100"}}),
        "no units of layers after share",
    ),
    "texts for bits": (dict(quantize={"bits": ("4",)}), "must be numbers"),
    "truth for a mean": (dict(quantize={"mixed": True, "bits": (True,)}), "must be numbers"),
    "method": (dict(quantize={"method": "kmean"}), "kmeans"),
    "no bits": (dict(quantize={"bits": ()}), "as (4, 5)"),
    "17 bits": (dict(quantize={"bits": (17,)}), "quantize.bits: bits 17 is outside 1…16"),
    "half a bit": (dict(quantize={"bits": (2.5,)}), "must be an integer"),
    "1 bit of a grid": (dict(quantize={"method": "uniform", "bits": (1,)}), "outside 2…16"),
    "rate below 0": (dict(quantize={"rate": -0.1}), "quantize.rate=-0.1 must be a number"),
    "rate of integers": (
        dict(quantize={"rate": 0.1, "method": "uniform"}),
        "quantize.rate is of method='kmeans': set it to 0 for uniform",
    ),
    "mean of 9": (dict(quantize={"mixed": True, "bits": (9,)}), "outside 1…8"),
    "mixed signs": (dict(quantize={"mixed": True, "method": "ternary"}), "kmeans or uniform"),
    "bits twice": (dict(quantize={"bits": (4, 4)}), "each number once"),
    "bits of a layer": (dict(quantize={"layers": {"fc1": 0}}), "quantize.layers of 'fc1'"),
    "other bits": (dict(quantize={"other_bits": 1}), "(0 = none)"),
    "weight": (dict(distill={"weight": 1.5}), "in [0, 1]"),
    "temperature": (dict(distill={"temperature": 0.0}), "positive"),
    "no teacher": (dict(distill={"teachers": ()}), "name teachers"),
    "teachers' text": (dict(distill={"teachers": "before"}), "must be names"),
    "during": (dict(distill={"during": ("train",)}), "during"),
    "during what is not done": (
        dict(stages=("prune",), distill={"during": ("quantize",)}),
        "distill.during: quantize is none of stages",
    ),
    "shrink to nothing": (dict(distill={"init": "shrink"}), "narrower distill.model"),
    "keep another": (dict(distill={"init": "keep", "model": {"name": "lenet_5"}}), "empty"),
    "share of factors": (dict(factorize={"shares": (2.0,)}), "factorize.shares"),
    "method of factors": (dict(factorize={"method": "qr"}), "factorize.method"),
    "fine-tuning": (dict(fine_tune={"steps": -1}), "fine_tune.steps=-1"),
    "optimiser": (dict(fine_tune_optimizer={"name": "sdg"}), "fine_tune_optimizer.name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_that_cannot_be_is_refused_in_one_line(case):
    sections, message = REFUSED[case]
    with pytest.raises(UserError) as refused:
        spec.from_config(small.config(**sections))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_signs_may_follow_a_student_of_a_pruned_network():
    sections = dict(stages=("prune", "distill", "quantize"), quantize={"method": "binary"})
    assert names(**sections)[-1] == "prune-10+distill+quantize"


def test_signs_may_follow_factors_of_a_pruned_source():
    sections = dict(stages=("factorize", "quantize"), quantize={"method": "binary"})
    own = spec.from_config(small.config(**sections))
    check_signs(own, own.stages)
    with pytest.raises(UserError, match="no zero for pruned weights"):
        check_signs(own, ("quantize",))


def test_a_fresh_student_of_a_source_has_a_start():
    found = names(stages=("distill", "prune"), source={"path": "x.npz"}, prune={"levels": (1,)})
    assert found == ["original", "distill", "distill+prune-01"]


def test_the_longest_pattern_says_the_bits_of_a_layer():
    rules = small.config(quantize={"layers": {"*": 5, "fc*": 6, "fc1": 3}})
    section = spec.from_config(rules).sections["quantize"]
    bits = {"fc1/kernel": 3, "fc2/kernel": 6, "output/kernel": 5}
    assert section.fixed(list(bits)) == bits
