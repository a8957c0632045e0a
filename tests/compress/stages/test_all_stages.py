"""What stages hand on, without training: masks, counts, bits, plans, programs, teachers."""

import json

import jax
import numpy as np
import pytest

from compress import distill, spec
from compress import fit as training
from compress import form as form_lib
from compress import made as made_lib
from compress.form import Form
from compress.made import Experiment, Made
from compress.spec import Node
from compress.stages import all_stages as stages
from compress.stages import bits, refused, teachers
from compress.stages import latent as quantizing
from compress.stages.teachers import Ensemble
from groundwork import architectures, keys
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs.run import Run
from groundwork.train import optim
from groundwork.train.networks import at_step_zero
from tests.compress import small
from tests.conftest import ROOT

GROUPS = (("fc1", "fc2"),)  # of a residual network of 64 units, as many as there are pixels


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def experiment(tmp_path):
    """Made of a config's sections; two replicates on two devices."""

    def build(model="lenet_300_100", width=0.05, **sections):
        section = {"name": model, "width": width, "dtype": "float32"}
        config = small.config(model=section, replicates=2, **sections)
        checked = spec.from_config(config)
        dataset = data_lib.load(config)
        mesh = mesh_lib.make(2, 100, replicate=2, data=1)
        roots = mesh_lib.put(mesh, keys.roots(0, 2), mesh_lib.BY_REPLICATE)
        module = architectures.build(config, dataset.classes)
        refused.check(checked, config, dataset)
        return Experiment(
            checked, module, dataset, mesh, Run(tmp_path), None, Interruption(), roots, None
        )

    return build


@pytest.fixture
def untrained(monkeypatch):
    """Every training gives back what it was given; what it was given."""
    seen = []

    def fit(experiment, node, network, form, variables, mask, **options):
        seen.append((network, form, variables, mask, options))
        return mesh_lib.fetch(mesh_lib.put(experiment.mesh, variables, mesh_lib.BY_REPLICATE))

    monkeypatch.setattr(training, "fit", fit)
    return seen


def node(stage, setting=0):
    return Node(stage, "original", stage, setting, True)


def drawn(experiment):
    shapes = architectures.shapes(experiment.model, experiment.dataset.shape)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.normal(size=(2, *s.shape)).astype("f4"), shapes)


def pruned(experiment, *paths, density=0.5):
    """A network, and its mask, some of whose kernels have zeros."""
    variables = drawn(experiment)
    rng = np.random.default_rng(1)
    for path in paths:
        layer, leaf = path.split("/")
        kernel = variables["params"][layer][leaf]
        kernel *= rng.uniform(size=kernel.shape) < density
    return stages.as_given(Form(experiment.model), variables)


def test_what_was_pruned_stays_so_where_layers_are_tied(experiment, untrained):
    own = experiment("residual_mlp", 0.128, stages=("share",), share={"groups": GROUPS})
    before = pruned(own, "fc1/kernel", "output/kernel")
    made = stages.share_layers(own, node("share"), before)
    assert sorted(made.mask) == ["fc1/kernel", "output/kernel"]
    for path, kept in made.mask.items():
        np.testing.assert_array_equal(kept, before.mask[path])
    assert untrained[0][3].keys() == made.mask.keys()


def test_the_mean_of_tied_layers_is_pruned_where_all_are(experiment, untrained):
    groups = {"groups": GROUPS, "values": "mean"}
    own = experiment("residual_mlp", 0.128, stages=("share",), share=groups)
    before = pruned(own, "fc1/kernel", "fc2/kernel")
    made = stages.share_layers(own, node("share"), before)
    either = before.mask["fc1/kernel"] | before.mask["fc2/kernel"]
    np.testing.assert_array_equal(made.mask["fc1/kernel"], either)


def test_what_was_pruned_stays_so_beside_factors(experiment, untrained):
    rules = {"method": "svd", "leave": ("fc1",)}
    own = experiment(stages=("factorize",), factorize=rules)
    before = pruned(own, "fc1/kernel", "fc2/kernel")
    made = stages.factorize(own, node("factorize", 0.5), before)
    assert "fc2" in made.form.plan
    assert list(made.mask) == ["fc1/kernel"]
    assert untrained[0][3] is made.mask
    np.testing.assert_array_equal(made.mask["fc1/kernel"], before.mask["fc1/kernel"])


@pytest.mark.parametrize("prunable", [("*kernel",), ("*",), ("fc*kernel",)])
def test_a_level_takes_its_share_of_what_a_pruned_network_has_left(experiment, untrained, prunable):
    rules = {"rewind": "none", "rate": 0.25, "prunable": prunable}
    own = experiment(stages=("prune",), prune=rules)
    before = pruned(own, "fc1/kernel", "output/kernel")
    made = stages.prune(own, node("prune", 1), before)
    for layer in ("fc1", "output"):
        paths = [f"{layer}/{leaf}" for leaf in ("kernel", "bias")]
        for r in range(2):
            were, are = (
                sum(int(np.sum(m.mask[p][r])) if p in m.mask else 0 for p in paths)
                for m in (before, made)
            )
            if prunable == ("*",):
                were += before.variables["params"][layer]["bias"][r].size
            if layer == "output" and prunable == ("fc*kernel",):
                assert are == were
            else:
                assert are == were - round(0.25 * were)
    assert untrained[0][3] is made.mask
    kept = made.mask["fc1/kernel"]
    assert not (kept & ~before.mask["fc1/kernel"]).any()


def test_pruned_biases_stay_pruned_while_codebooks_are_trained(experiment, untrained):
    own = experiment(stages=("quantize",))
    before = pruned(own, "fc1/kernel")
    bias = np.arange(15) % 2 == 0
    mask = {**before.mask, "fc1/bias": np.stack([bias, ~bias])}
    stages.quantize(own, node("quantize", 3), before._replace(mask=mask))
    ((_, _, latent, given, _),) = untrained
    assert list(given) == ["fc1/bias"]
    assert latent["params"]["fc1"]["kernel"].shape == (2, 8)


def test_signs_are_refused_where_a_network_was_pruned_before(experiment, untrained):
    own = experiment(stages=("quantize",), quantize={"method": "binary"})
    with pytest.raises(UserError, match="no zero for pruned weights"):
        stages.quantize(own, node("quantize"), pruned(own, "fc1/kernel"))
    assert not untrained


def test_a_plan_that_was_chosen_by_measured_times_is_kept(experiment, untrained, monkeypatch):
    own = experiment(stages=("factorize",), factorize={"method": "svd"})
    before = Made(Form(own.model), drawn(own), {}, {})
    first = stages.factorize(own, node("factorize", 0.5), before)

    def another(*_):
        raise AssertionError("planned again")

    monkeypatch.setattr(stages.planner, "make_planner", another)
    again = stages.factorize(own, node("factorize", 0.5), before)
    assert again.form == first.form


def test_a_budget_that_no_plan_meets_is_said_of_factorize(experiment, monkeypatch):
    own = experiment(stages=("factorize",), factorize={"method": "svd"})

    def planner(point):
        raise UserError("decompose.shares: 0.5 of the dense layers' milliseconds")

    monkeypatch.setattr(stages.planner, "make_planner", lambda *_: planner)
    with pytest.raises(UserError, match=r"^factorize\.shares: 0\.5"):
        stages.factorize(own, node("factorize", 0.5), Made(Form(own.model), drawn(own), {}, {}))


def test_blocks_that_are_tied_are_factorised_once(experiment):
    section = {"groups": (("block1_1", "block1_2"),)}
    own = experiment("resnet_20", 0.25, stages=("share", "factorize"), share=section)
    form = Form(own.model, groups=section["groups"])
    shapes = architectures.shapes(own.model, own.dataset.shape)
    params = refused.tied_shapes(shapes, own.spec)["params"]
    left = made_lib.low_rank(own, form, params).spec.decompose.leave
    assert left == ("block1_2/conv1", "block1_2/conv2")


def test_students_of_other_teachers_have_programs_of_their_own(experiment):
    own = experiment(stages=("factorize", "distill"), factorize={"method": "svd"})
    compiled = training.compiler(own.spec, own.dataset, own.mesh)
    steps, student = own.spec.train, Form(own.model)
    optimizer = optim.make(own.spec.optimizer, steps.steps)

    def of(rank):
        before = student._replace(plan={"fc1": {"method": "svd", "rank": rank}})
        taught = Ensemble(lambda variables, inputs: inputs, (), "looped", before)
        return compiled(own.model, student, "train distill", steps, optimizer, taught)

    assert of(2) is of(2)
    assert of(2) is not of(3)


def test_bits_of_all_layers_may_be_said_beside_a_mean(experiment, untrained):
    rules = {"mixed": True, "layers": {"*": 5}, "fine_tune": False}
    own = experiment(stages=("quantize",), quantize=rules)
    before = Made(Form(own.model), drawn(own), {}, {})
    assert set(stages.quantize(own, node("quantize", 4), before).bits.values()) == {5}


def test_inputs_of_layers_are_rounded_on_each_replicates_own_grids(experiment, untrained):
    rules = {"activation_bits": 5, "activation_range": "percentile", "gradient_bits": 3}
    own = experiment(stages=("quantize",), quantize={"method": "uniform", **rules})
    before = pruned(own, "fc1/kernel")
    made = stages.quantize(own, node("quantize", 3), before)
    widths = dict.fromkeys(("fc1", "fc2", "output"), 5)
    inputs = made_lib.examples(own.dataset, stages.SEEN)
    for r in range(2):
        one = jax.tree.map(lambda leaf, r=r: leaf[r], before.variables)
        want = form_lib.calibrated(before.form, one, inputs, widths, range="percentile")
        found = jax.tree.map(lambda leaf, r=r: leaf[r], made.variables["activations"])
        jax.tree.map(np.testing.assert_array_equal, found, want)
    assert made.form == before.form._replace(activations=widths)
    ((_, trained, _, mask, _),) = untrained
    assert trained.gradients == dict.fromkeys(widths, 3)
    assert mask.keys() == made.mask.keys() == before.mask.keys()


def test_random_pruning_draws_anew_for_each_replicate_and_level(experiment, untrained):
    rules = {"rewind": "none", "rate": 0.5, "criterion": "random", "levels": (1, 2)}
    own = experiment(stages=("prune",), prune=rules)
    before = Made(Form(own.model), drawn(own), {}, {})
    found = [stages.prune(own, node("prune", k), before).mask["fc1/kernel"] for k in (1, 2)]
    assert (found[0] != found[1]).any()
    assert (found[0][0] != found[0][1]).any()


def test_linear_levels_count_from_all_weights(experiment, untrained):
    rules = {"rewind": "none", "rate": 0.2, "schedule": "linear", "levels": (1, 2)}
    own = experiment(stages=("prune",), prune=rules)
    made = Made(Form(own.model), drawn(own), {}, {})
    for level in (1, 2):
        made = stages.prune(own, node("prune", level), made)
        kept = made.mask["fc1/kernel"]
        size = kept[0].size
        assert [int(np.sum(leaf)) for leaf in kept] == [size - round(0.2 * level * size)] * 2


def test_a_rewound_network_starts_from_its_initial_values_tied(experiment, untrained):
    sections = {"share": {"groups": GROUPS}, "prune": {"levels": (1,)}}
    own = experiment("residual_mlp", 0.128, stages=("share", "prune"), **sections)
    tied = stages.share_layers(own, node("share"), Made(Form(own.model), drawn(own), {}, {}))
    stages.prune(own, node("prune", 1), tied)
    _, form, start, mask, _ = untrained[-1]
    assert form.groups == GROUPS
    first = jax.jit(own.model.init)
    for r in range(2):
        key = keys.stream(own.roots[r], "init")
        want = first(key, np.zeros((1, *own.dataset.shape), "f4"))["params"]
        for layer in ("fc1", "output"):
            found = np.asarray(start["params"][layer]["kernel"][r])
            np.testing.assert_allclose(found, want[layer]["kernel"], rtol=1e-6)
    assert "fc2" not in start["params"]
    assert sorted(mask) == ["fc1/kernel", "output/kernel"]


TRAININGS = {  # stage, its setting, what else the config says
    "share": ("share", 0, {"share": {"groups": GROUPS}}),
    "factorize": ("factorize", 0.5, {"factorize": {"method": "svd"}}),
    "prune": ("prune", 1, {"prune": {"rewind": "none"}}),
    "quantize": ("quantize", 0, {"quantize": {"method": "binary"}}),
    "rewound": ("prune", 1, {}),
    "student": ("distill", 0, {}),
    "kept student": ("distill", 0, {"distill": {"init": "keep"}}),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_stages_are_trained_as_the_config_says(case, experiment, untrained):
    stage, setting, sections = TRAININGS[case]
    tuned = case in spec.IN_ORDER
    during = {"distill": {"during": (stage,)}} if stage != "distill" else {}
    own = experiment("residual_mlp", 0.128, stages=(stage,), **during, **sections)
    before = Made(Form(own.model), drawn(own), {}, {})
    stages.STAGES[stage](own, node(stage, setting), before)
    ((*_, options),) = untrained
    assert options["taught"].before == before.form
    assert options["steps"] == (own.spec.fine_tune if tuned else own.spec.train)
    optimizers = own.spec.optimizer, own.spec.fine_tune_optimizer
    assert options["optimizer_spec"] == optimizers[tuned] != optimizers[not tuned]
    if stage == "quantize":
        assert options["wrap"].func is quantizing.clipped


def test_a_kept_student_stays_pruned(experiment, untrained):
    own = experiment(stages=("distill",), distill={"init": "keep"})
    before = pruned(own, "fc1/kernel")
    made = stages.distil(own, node("distill"), before)
    assert made.mask is before.mask
    assert untrained[0][3] is before.mask


def test_each_replicate_is_taught_by_its_own(experiment):
    own = experiment(stages=("distill", "quantize"), distill={"during": ("quantize",)})
    before = Made(Form(own.model), drawn(own), {}, {})
    assert training.taught_by(own, node("prune", 1), before) is None
    taught = training.taught_by(own, node("quantize", 4), before)
    assert taught.before == before.form
    inputs = made_lib.examples(own.dataset, 5)
    for r in range(2):
        carried = [jax.tree.map(lambda leaf, r=r: leaf[r], tree) for tree in taught.carried]
        one = jax.tree.map(lambda leaf, r=r: leaf[r], before.variables)
        answers = taught.teacher(distill.carry({}, *carried), inputs)
        np.testing.assert_allclose(answers[0], own.model.apply(one, inputs), rtol=1e-5)


def test_runs_teach_beside_the_network_before(experiment, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    rules = {"teachers": ("before", f"{folder}", f"{folder}:networks/b"), "unit": "networks/a"}
    own = experiment(stages=("distill",), distill=rules)
    before = Made(Form(own.model), drawn(own), {}, {})
    folder.mkdir()
    config = small.config(model={"name": "lenet_300_100", "width": 0.05, "dtype": "float32"})
    (folder / "config.json").write_text(json.dumps({"config": config}))
    theirs = [jax.tree.map(lambda leaf, s=s: s * leaf, before.variables) for s in (0.5, -1)]
    for unit, variables in zip("ab", theirs, strict=True):
        Run(folder).unit(f"networks/{unit}").finish({"variables": variables}, {})
    monkeypatch.setattr(  # as if XLA computed convolutions of the network before, and of no run
        teachers, "default_form", lambda model, _: "single" if model is own.model else "looped"
    )
    taught = training.taught_by(own, node("distill"), before)
    assert taught.mapped == "single"
    inputs = made_lib.examples(own.dataset, 5)
    carried = [jax.tree.map(lambda leaf: leaf[1], tree) for tree in taught.carried]
    found = taught.teacher(distill.carry({}, *carried), inputs)
    each = [(before.variables, 1), *((tree, r) for tree in theirs for r in (0, 1))]
    for answers, (tree, r) in zip(found, each, strict=True):
        one = jax.tree.map(lambda leaf, r=r: leaf[r], tree)
        np.testing.assert_allclose(answers, own.model.apply(one, inputs), rtol=1e-4, atol=1e-4)


def test_students_hear_their_teachers_as_the_config_says(experiment, monkeypatch):
    rules = {"temperature": 2.5, "weight": 0.25, "mean": "geometric"}
    own = experiment(stages=("distill",), distill=rules)
    seen = []
    monkeypatch.setattr(distill, "make_loss", lambda *_, **options: seen.append(options))
    compiled = training.compiler(own.spec, own.dataset, own.mesh)
    optimizer = optim.make(own.spec.optimizer, own.spec.train.steps)
    taught = Ensemble(lambda variables, inputs: inputs, (), "looped", None)
    compiled(own.model, Form(own.model), "train", own.spec.train, optimizer, taught)
    assert seen == [rules]


def test_training_begins_under_the_mask(experiment):
    own = experiment(stages=("prune",))
    variables, steps = drawn(own), own.spec.train
    kernel = variables["params"]["fc1"]["kernel"]
    mask = {"fc1/kernel": kernel > 0}
    optimizer = optim.make(own.spec.optimizer, steps.steps)
    compiled = training.compiler(own.spec, own.dataset, own.mesh)
    start = compiled(own.model, Form(own.model), "train", steps, optimizer).start
    state = start(at_step_zero(own), own.roots, *made_lib.put(own, (variables, mask)))
    found = state.variables["params"]["fc1"]["kernel"]
    np.testing.assert_array_equal(found, np.maximum(kernel, 0))
    np.testing.assert_array_equal(state.opt_state.mask["fc1/kernel"], mask["fc1/kernel"])


def test_a_budget_of_bits_counts_what_is_not_pruned(experiment, monkeypatch):
    own = experiment(stages=("quantize",), quantize={"mixed": True})
    before = pruned(own, "fc1/kernel", density=0.1)
    losses = {"fc1/kernel": {2: 1.0, 8: 0.0}, "fc2/kernel": {2: 0.1, 8: 0.0}}
    losses["output/kernel"] = losses["fc2/kernel"]
    monkeypatch.setattr(bits, "_sensitivities", lambda *_: losses)
    found = bits.choose_bits(own, before, 5)
    sizes = {path: leaf[0].size for path, leaf in before.mask.items()}
    assert 8 * sizes["fc1/kernel"] > 5 * sum(sizes.values())
    assert found == {"fc1/kernel": 8, "fc2/kernel": 2, "output/kernel": 2}


def test_losses_are_measured_with_what_is_pruned_at_zero(experiment):
    own = experiment(stages=("quantize",))
    before = pruned(own, "fc1/kernel")
    params, mask = jax.tree.map(lambda leaf: leaf[0], (before.variables["params"], before.mask))
    found = bits._one_quantized(own.spec.quantize, "fc1/kernel", 2)(params, mask)
    kernel = np.asarray(found["fc1"]["kernel"])
    assert not kernel[~mask["fc1/kernel"]].any()
    assert len(np.unique(kernel)) == 2**2
    np.testing.assert_array_equal(found["fc2"]["kernel"], params["fc2"]["kernel"])


def test_forms_tell_programs_apart(experiment):
    own = experiment(stages=("quantize",))
    compiled = training.compiler(own.spec, own.dataset, own.mesh)
    steps, form = own.spec.train, Form(own.model)
    optimizer = optim.make(own.spec.optimizer, steps.steps)
    others = [
        form,
        form._replace(groups=GROUPS),
        form._replace(activations={"fc1": 8}),
        form._replace(activations={"fc1": 7}),
        form._replace(gradients={"fc1": 8}),
    ]
    made = [compiled(own.model, other, "train", steps, optimizer) for other in others]
    made.append(compiled(own.model, form, "fine_tune", steps, optimizer))
    assert len({id(one) for one in made}) == len(made)
    assert compiled(own.model, Form(own.model), "train", steps, optimizer) is made[0]
