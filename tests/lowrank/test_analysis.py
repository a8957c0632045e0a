"""How well a few of a layer's weights predict the rest, in a run."""

import numpy as np
import pytest

from groundwork import architectures, study, trees
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs.run import Run
from lowrank import analysis, factorization, prediction, results, spec
from lowrank.fit import Experiment
from tests.lowrank import small

pytestmark = pytest.mark.slow


def test_a_few_weights_predict_the_rest(finished, tmp_path):
    source = (f"--config.source.path={finished[0]}", "--config.source.unit=original")
    small.run(tmp_path, *source, "--config.fine_tune.steps=1", predict=("fc1",))
    run = results.read(tmp_path)
    curves = run.predicted["fc1"]
    assert set(curves) == {"neighbouring pixels", "inputs' covariance"}
    kernel = run.kernels()["fc1"]
    for curve in curves.values():
        assert curve.shares[-1] == 1
        assert curve.error.shape == (len(curve.shares), 2)
        np.testing.assert_allclose(curve.error[-1], 0, atol=1e-6)
        np.testing.assert_allclose(curve.accuracy[-1], run.original.test, atol=1e-6)
        assert (curve.accuracy[0] < curve.accuracy[-1]).all()
        hidden = curve.error[0] ** 2 / curve.hidden_error[0] ** 2  # share of the squares
        assert (hidden < 1).all()
        assert (hidden > 0.9).all()
        assert np.isfinite(kernel).all()
    assert "Predicting fc1" in (tmp_path / "report.html").read_text()
    with pytest.raises(UserError, match="unknown layer 'fc3'; did you mean"):
        small.run(tmp_path / "wrong", predict=("fc3",))
    assert not (tmp_path / "wrong").exists()


def test_each_replicates_own_inputs_covary(finished):
    run = results.read(finished[0])
    checked, dataset = spec.from_config(run.config), data_lib.load(run.config)
    mesh = mesh_lib.make(2, 100, replicate=2, data=1)
    folder = Run(run.folder)
    context = study.make_context(checked, dataset, mesh, folder, None, Interruption())
    model = architectures.build(run.config, 10)
    variables = results.load(finished[0], "original")
    layers = {"fc2": factorization.assumed(trees.replicate(variables, 0), "fc2")}
    experiment = Experiment(context=context, spec=checked, model=model, layers=layers)
    first, kernel = (variables["params"][path] for path in ("fc1", "fc2"))
    known = analysis._covariances(experiment, "fc2", variables, kernel["kernel"].shape)
    images = np.asarray(data_lib.first_examples(dataset, analysis.SEEN)[0]).reshape(-1, 64)
    hidden = np.maximum(images @ first["kernel"] + first["bias"][:, None], 0)
    (covariances,) = known.values()
    np.testing.assert_allclose(
        covariances, [prediction.empirical(of_one) for of_one in hidden], 1e-3, 1e-4
    )
