"""The JobSet that Kubernetes is given: parsed as YAML, field by field."""

import subprocess

import pytest
import yaml

from groundwork.errors import UserError
from launch import jobset
from tests.conftest import ROOT

COMMAND = ["python", "-m", "lottery.main", "--config=configs/lottery/digits.py"]
NAMED = ["--name=mnist", "--image=registry/lottery:1"]


def rendered(capsys, *flags, command=COMMAND):
    jobset.main([*NAMED, *flags, "--dry-run", "--", *command])
    return yaml.safe_load(capsys.readouterr().out)


def pod(document):
    (job,) = document["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def test_every_host_is_a_process_that_finds_the_first(capsys):
    document = rendered(capsys, "--nodes=4", "--namespace=lab")
    assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert document["kind"] == "JobSet"
    assert document["metadata"] == {"name": "mnist", "namespace": "lab"}
    assert document["spec"]["network"] == {
        "enableDNSHostnames": True,
        "publishNotReadyAddresses": True,
    }
    (job,) = document["spec"]["replicatedJobs"]
    assert (job["name"], job["replicas"]) == ("hosts", 1)
    spec = job["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    (container,) = pod(document)["containers"]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["env"] == [
        {"name": "JAX_COORDINATOR_ADDRESS", "value": "mnist-hosts-0-0.mnist:8476"},
        {"name": "JAX_NUM_PROCESSES", "value": "4"},
        {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}},
    ]


def test_a_preempted_host_restarts_all_and_only_failures_count(capsys):
    document = rendered(capsys, "--max-restarts=5", "--save-seconds=600")
    assert document["spec"]["failurePolicy"] == {
        "maxRestarts": 5,
        "rules": [
            {
                "name": "preempted",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["PodFailurePolicy"],
            }
        ],
    }
    (job,) = document["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "main", "operator": "In", "values": [75, 143]},
        },
    ]
    assert pod(document)["restartPolicy"] == "Never"
    assert pod(document)["terminationGracePeriodSeconds"] == 600
    assert pod(document)["containers"][0]["name"] == "main"


def test_the_command_its_host_and_its_disk(capsys):
    words = [*COMMAND, "--workdir=runs/mnist", "--config.prune.rate={'*': 0.2}", 'a "$(B)" ${c} ä']
    flags = ["--resource=nvidia.com/gpu=8", "--node=pool=spot", "--claim=shared"]
    spec = pod(rendered(capsys, *flags, command=words))
    (container,) = spec["containers"]
    assert container["image"] == "registry/lottery:1"
    assert container["args"] == [*words[:-1], 'a "$$(B)" ${c} ä']  # Kubernetes replaces $(…)
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    assert spec["nodeSelector"] == {"pool": "spot"}
    assert container["volumeMounts"] == [{"name": "runs", "mountPath": "/code/runs"}]
    assert spec["volumes"] == [{"name": "runs", "persistentVolumeClaim": {"claimName": "shared"}}]


def test_kubectl_gets_what_was_shown(tmp_path, monkeypatch, capsys):
    flags = [*NAMED, "--nodes=2"]
    jobset.main([*flags, "--dry-run", "--", *COMMAND])
    shown = capsys.readouterr().out
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/flags\ncat > {tmp_path}/given')
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    jobset.main([*flags, "--", *COMMAND])
    given = (tmp_path / "given").read_text()
    assert shown == f"# kubectl apply --filename=- < this\n{given}"
    assert (tmp_path / "flags").read_text() == "apply --filename=-\n"
    assert "kubectl delete jobset --namespace=default mnist" in capsys.readouterr().out
    kubectl.write_text("#!/bin/sh\nexit 1")
    with pytest.raises(UserError, match="kubectl refused"):
        jobset.main([*flags, "--", *COMMAND])


REFUSED = {
    "no command": (NAMED, "no command"),
    "no image": (["--name=a", "--", "x"], "--image"),
    "a name": (["--name=My_run", "--image=i", "--", "x"], "--name=My_run"),
    "a long name": ([f"--name={'a' * 60}", "--image=i", "--", "x"], "too long"),
    "no node": ([*NAMED, "--nodes=0", "--", "x"], "--nodes: 0 must be at least 1"),
    "a resource": ([*NAMED, "--resource=gpu", "--", "x"], "KEY=VALUE"),
    "a run that would be lost": ([*NAMED, "--", *COMMAND, "--workdir=/tmp/x"], "/tmp/x"),
    "a run above runs": ([*NAMED, "--", *COMMAND, "--workdir", "runs/../x"], "lost with its host"),
    "the claim itself": ([*NAMED, "--", *COMMAND, "--workdir=runs"], "lost with its host"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_one_line(case):
    argv, said = REFUSED[case]
    with pytest.raises(UserError, match=said):
        jobset.main([*argv[: argv.index("--")], "--dry-run", *argv[argv.index("--") :]]
                    if "--" in argv else argv)  # fmt: skip


def test_the_template_parses_as_it_is_and_the_image_starts_commands_under_an_init():
    template = yaml.safe_load((ROOT / "launch/kubernetes/jobset.yaml").read_text())
    assert template["kind"] == "JobSet"
    docker = (ROOT / "launch/kubernetes/Dockerfile").read_text()
    assert 'ENTRYPOINT ["tini", "--"]' in docker
    assert "WORKDIR /code" in docker
    ignored = (ROOT / "launch/kubernetes/Dockerfile.dockerignore").read_text().split()
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    assert {"runs", ".venv*"} <= set(ignored)
    assert not {path.partition("/")[0] for path in kept.split()} & set(ignored)
