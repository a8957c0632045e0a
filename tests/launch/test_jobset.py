"""The JobSet that Kubernetes is given: as YAML, by the schemas of JobSet, and field by field."""

import json
import subprocess

import jsonschema
import pytest
import yaml
from jax._src.clusters import GkeTpuCluster

from groundwork.errors import UserError
from launch import jobset, tpu_slices
from launch.jobset_manifest import DIGEST
from tests.conftest import ROOT

COMMAND = ["python", "-m", "lottery.main", "--config=configs/lottery/digits.py"]
NAMED = ["--name=mnist", "--image=registry/lottery:1"]


SCHEMAS = sorted((ROOT / "tests/fixtures/jobset").glob("*.json"))


def rendered(capsys, *flags, command=COMMAND):
    jobset.main([*NAMED, *flags, "--dry-run", "--", *command])
    return yaml.safe_load(capsys.readouterr().out)


def closed(schema):
    """A schema of Kubernetes that refuses fields which it does not have, as kubectl does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    more = {} if "properties" not in schema else {"additionalProperties": False}
    return more | {key: closed(value) for key, value in schema.items()}


def validators():
    for path in SCHEMAS:
        schema = closed(json.loads(path.read_text()))
        jobs = schema["properties"]["spec"]["properties"]["replicatedJobs"]
        job = jobs["items"]["properties"]["template"]
        schema["properties"]["metadata"] = job["properties"]["metadata"]  # the same, in full
        yield jsonschema.Draft202012Validator(schema)


def pod(document):
    (job,) = document["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def test_every_host_is_a_process_that_finds_the_first(capsys):
    document = rendered(capsys, "--nodes=4", "--namespace=lab")
    assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert document["kind"] == "JobSet"
    assert document["metadata"] == {
        "name": "mnist",
        "namespace": "lab",
        "labels": {},
        "annotations": {DIGEST: document["metadata"]["annotations"][DIGEST]},
    }
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


def test_words_with_anything_in_them_arrive_as_they_are(capsys):
    words = ["a\x7fb\x85c\u2028d\U0001f600\U000e0001", "tab\tline\nend", '"', "\\", "null", "#"]
    (container,) = pod(rendered(capsys, command=words))["containers"]
    assert container["args"] == words


@pytest.mark.parametrize("claims", [[], ["--claim=data"]])
def test_a_run_in_a_bucket_needs_no_claim(capsys, claims):
    words = [*COMMAND, "--workdir=gs://lab/runs/mnist"]
    spec = pod(rendered(capsys, *claims, command=words))
    (container,) = spec["containers"]
    assert container["args"] == words
    mounted = [{"name": "runs", "mountPath": "/code/runs"}] if claims else None
    assert container.get("volumeMounts") == mounted
    assert ("volumes" in spec) == bool(claims)


CASES = {
    "plain": [],
    "GPUs": ["--nodes=4", "--resource=nvidia.com/gpu=8", "--node=pool=spot", "--ttl-seconds=60"],
    "a queue": ["--queue=lab", "--priority=high", "--cpu=8", "--memory=64Gi"],
    "taints": ["--tolerate=a/b=c:NoSchedule", "--tolerate=d", "--tolerate=e:NoExecute"],
    "slices": ["--type=v6e-64", "--slices=2", "--tolerate=google.com/tpu:NoSchedule"],
}


@pytest.mark.parametrize("case", CASES)
def test_the_schemas_of_jobset_accept_it(case, capsys):
    document = rendered(capsys, *CASES[case])
    for validator in validators():
        assert [error.message for error in validator.iter_errors(document)] == []


def test_the_schemas_of_jobset_refuse_what_it_does_not_have(capsys):
    assert [path.stem for path in SCHEMAS] == ["v0.12.0", "v0.8.0"]
    document = rendered(capsys)
    document["spec"]["ttlSecondsAfterFinish"] = 60
    pod(document)["tolerations"] = [{"key": "a", "effects": "NoSchedule"}]
    document["metadata"]["labels"] = {"a": 1}
    for validator in validators():
        assert len(list(validator.iter_errors(document))) == 3


def test_what_the_scheduler_and_kueue_read(capsys):
    document = rendered(capsys, *CASES["a queue"], "--tolerate=a/b=c:NoSchedule", "--tolerate=d")
    assert document["metadata"]["labels"] == {
        "kueue.x-k8s.io/queue-name": "lab",
        "kueue.x-k8s.io/priority-class": "high",
    }
    (container,) = pod(document)["containers"]
    assert container["resources"] == {"limits": {}, "requests": {"cpu": "8", "memory": "64Gi"}}
    assert pod(document)["tolerations"] == [
        {"key": "a/b", "operator": "Equal", "value": "c", "effect": "NoSchedule"},
        {"key": "d", "operator": "Exists"},
    ]
    assert "ttlSecondsAfterFinished" not in document["spec"]
    assert rendered(capsys, "--ttl-seconds=60")["spec"]["ttlSecondsAfterFinished"] == 60


TYPES = {  # as GKE has them: accelerator, topology, hosts, chips of a host
    "v4-8": ("tpu-v4-podslice", "2x2x1", 1, 4),
    "v4-1536": ("tpu-v4-podslice", "8x8x12", 192, 4),
    "v5p-16": ("tpu-v5p-slice", "2x2x2", 2, 4),
    "v5p-12288": ("tpu-v5p-slice", "16x16x24", 1536, 4),
    "v5e-1": ("tpu-v5-lite-podslice", "1x1", 1, 1),
    "v5litepod-16": ("tpu-v5-lite-podslice", "4x4", 4, 4),
    "v6e-8": ("tpu-v6e-slice", "2x4", 2, 4),
    "v6e-64": ("tpu-v6e-slice", "8x8", 16, 4),
    "v6e-256": ("tpu-v6e-slice", "16x16", 64, 4),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_type_stands_for_labels_hosts_and_chips(name, capsys):
    accelerator, topology, hosts, chips = TYPES[name]
    document = rendered(capsys, f"--type={name}", "--node=pool=spot")
    assert pod(document)["nodeSelector"] == {
        "pool": "spot",
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": topology,
    }
    (container,) = pod(document)["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": str(chips)}
    (job,) = document["spec"]["replicatedJobs"]
    assert (job["template"]["spec"]["completions"], job["replicas"]) == (hosts, 1)
    alone = "alpha.jobset.sigs.k8s.io/exclusive-topology" in document["metadata"]["annotations"]
    assert alone == (hosts > 1)


def test_every_generation_has_each_size_once():
    for generation in tpu_slices.GENERATIONS.values():
        chips = [tpu_slices._chips(topology) for topology in generation.topologies]
        assert chips == sorted(set(chips))


def environment(container, job, index, hosts):
    """What a host sees: the manifest's variables, and those that GKE adds to hosts of TPUs."""
    of = {
        "metadata.annotations['jobset.sigs.k8s.io/job-index']": str(job),
        "metadata.annotations['batch.kubernetes.io/job-completion-index']": str(index),
    }
    seen = {
        variable["name"]: variable.get("value")
        or of[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in container["env"]
    }
    names = [f"mnist-hosts-{job}-{host}.mnist" for host in range(hosts)]
    return {**seen, "TPU_WORKER_ID": str(index), "TPU_WORKER_HOSTNAMES": ",".join(names)}


@pytest.mark.parametrize("slices", [1, 3])
def test_jax_numbers_the_hosts_of_all_slices_and_finds_the_first(slices, capsys, monkeypatch):
    """As JAX itself reads the variables."""
    document = rendered(capsys, "--type=v5litepod-16", f"--slices={slices}")
    (job,) = document["spec"]["replicatedJobs"]
    assert job["replicas"] == slices
    pool = document["metadata"]["annotations"]["alpha.jobset.sigs.k8s.io/exclusive-topology"]
    assert pool == "cloud.google.com/gke-nodepool"
    (container,) = pod(document)["containers"]
    looked_up = []
    monkeypatch.setattr("socket.gethostbyname", looked_up.append)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.get_metadata", lambda key: ("", 200))
    numbers = []
    for index in range(slices):
        for host in range(4):
            with monkeypatch.context() as scope:
                for name, value in environment(container, index, host, 4).items():
                    scope.setenv(name, value)
                numbers.append(GkeTpuCluster.get_process_id())
                assert GkeTpuCluster.get_process_count() == 4 * slices
                first = GkeTpuCluster.get_coordinator_address(60, None)
                assert first == "mnist-hosts-0-0.mnist:8482"
    assert numbers == list(range(4 * slices))
    assert set(looked_up) == {"mnist-hosts-0-0.mnist"}
    assert {"name": "JAX_DISTRIBUTED", "value": "auto"} in container["env"]


def test_a_slice_of_one_host_needs_no_others(capsys):
    (container,) = pod(rendered(capsys, "--type=v6e-4"))["containers"]
    assert {"name": "JAX_NUM_PROCESSES", "value": "1"} in container["env"]


@pytest.mark.parametrize(
    ("flags", "most"), [((), 47), (("--nodes=11",), 46), (("--type=v6e-64", "--slices=12"), 45)]
)
def test_a_name_is_as_long_as_the_pods_names_allow(flags, most, capsys):
    """As JobSet's webhook counts: NAME-hosts-JOB-POD and five letters may have 63."""
    named = [f"--name={'a' * most}", "--image=i", *flags, "--dry-run", "--", "x"]
    jobset.main(named)
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["name"] == "a" * most
    named[0] += "a"
    with pytest.raises(UserError, match=rf"has {most + 1} letters and may have {most}: .*63$"):
        jobset.main(named)


KUBECTL = """#!/bin/sh
echo "$@" >> {folder}/commands
case $1 in
get) cat {folder}/there;;
create) cat > {folder}/given;;
esac
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder that stands for a cluster: `there` is its JobSet, `commands` what it was told."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL.format(folder=tmp_path))
    kubectl.chmod(0o755)
    (tmp_path / "there").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def there(cluster, document, **status):
    document = {**document, "status": status}
    (cluster / "there").write_text(json.dumps(document))


def test_kubectl_gets_what_was_shown(cluster, capsys):
    flags = [*NAMED, "--nodes=2"]
    jobset.main([*flags, "--dry-run", "--", *COMMAND])
    get, delete, create, text = capsys.readouterr().out.split("\n", 3)
    assert not (cluster / "commands").exists()
    jobset.main([*flags, "--", *COMMAND])
    assert create == "# kubectl create --filename=- < this"
    assert (cluster / "given").read_text() == text
    done = (cluster / "commands").read_text().splitlines()
    assert [f"# kubectl {line}" for line in done] == [get, "# kubectl create --filename=-"]
    assert delete.startswith("# kubectl delete jobset mnist --namespace=default ")
    assert "kubectl delete jobset --namespace=default mnist" in capsys.readouterr().out


@pytest.mark.parametrize("state", ["Completed", "Failed", "Deleted"])
def test_one_that_has_ended_is_removed_and_started_again(state, cluster, capsys):
    document = rendered(capsys)
    if state == "Deleted":
        document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        there(cluster, document)
    else:
        there(cluster, document, conditions=[{"type": state, "status": "True"}])
    jobset.main([*NAMED, "--save-seconds=60", "--", *COMMAND])
    get, delete, create = (cluster / "commands").read_text().splitlines()
    assert (get.split()[0], create.split()[0]) == ("get", "create")
    assert delete == (
        "delete jobset mnist --namespace=default --ignore-not-found --cascade=foreground "
        "--timeout=360s"
    )
    assert (cluster / "given").read_text().startswith("apiVersion:")
    out = capsys.readouterr().out
    assert f"JobSet mnist is there ({state.lower()}) and is started again\n" in out


def test_one_that_has_not_ended_is_left_alone(cluster, capsys):
    conditions = [{"type": "Suspended", "status": "True"}, {"type": "Completed", "status": "False"}]
    there(cluster, rendered(capsys), conditions=conditions)
    jobset.main([*NAMED, "--", *COMMAND])
    assert len((cluster / "commands").read_text().splitlines()) == 1
    out = capsys.readouterr().out
    assert out.startswith("JobSet mnist is there and has not ended: nothing is started\n")
    assert "kubectl logs" in out


def test_one_with_another_command_is_not_ended_for_this_one(cluster, capsys):
    document = rendered(capsys)
    for annotations in (document["metadata"]["annotations"], {}):
        document["metadata"]["annotations"] = annotations
        there(cluster, document)
        with pytest.raises(UserError, match="has not ended, and has another command") as refused:
            jobset.main([*NAMED, "--", *COMMAND, "--config.seed=1"])
        end = "kubectl delete jobset --namespace=default mnist"
        assert str(refused.value).endswith(f"give another --name, or end it with {end}")
    assert set((cluster / "commands").read_text().split()) & {"delete", "create"} == set()


@pytest.mark.parametrize("verb", ["get", "create", "delete"])
def test_what_kubectl_refuses_is_one_line(verb, cluster, capsys):
    there(cluster, rendered(capsys), conditions=[{"type": "Failed", "status": "True"}])
    text = (cluster / "kubectl").read_text()
    refusing = f"[ $1 != {verb} ] || {{ printf 'a\\nError: no rights\\n' >&2; exit 1; }}\n"
    (cluster / "kubectl").write_text(text.replace("case", f"{refusing}case", 1))
    with pytest.raises(
        UserError, match=rf"^kubectl {verb} failed \(exit code 1\): Error: no rights$"
    ):
        jobset.main([*NAMED, "--", *COMMAND])


def test_an_answer_that_is_no_jobset_is_one_line(cluster):
    for answer in ("{", "[]", "{}", '{"metadata": 5}'):
        (cluster / "there").write_text(answer)
        with pytest.raises(UserError, match="kubectl get jobset mnist gave no JobSet: "):
            jobset.main([*NAMED, "--", *COMMAND])


def test_without_kubectl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="kubectl is not on the PATH: --dry-run prints"):
        jobset.main([*NAMED, "--", *COMMAND])


REFUSED = {
    "no command": (NAMED, "no command"),
    "no image": (["--name=a", "--", "x"], "--image"),
    "a name": (["--name=My_run", "--image=i", "--", "x"], "--name=My_run"),
    "a type": ([*NAMED, "--type=v6e-63", "--", "x"], "'v6e-63'; did you mean 'v6e-64'.*v6e-8"),
    "a generation": ([*NAMED, "--type=v7-8", "--", "x"], "known: v4-N, v5e-N, v5p-N, v6e-N"),
    "slices of nothing": ([*NAMED, "--slices=2", "--", "x"], "--slices=2 needs --type"),
    "slices of one host": ([*NAMED, "--slices=2", "--type=v6e-4", "--", "x"], "larger --type"),
    "nodes of a type": ([*NAMED, "--nodes=3", "--type=v6e-64", "--", "x"], "16 hosts: leave"),
    "chips of a type": (
        [*NAMED, "--resource=google.com/tpu=8", "--type=v6e-64", "--", "x"],
        "--resource=google.com/tpu=8 and --type are about the same",
    ),
    "labels of a type": (
        [*NAMED, "--node=cloud.google.com/gke-tpu-topology=2x2", "--type=v6e-64", "--", "x"],
        "and --type are about the same",
    ),
    "a resource twice": (
        [*NAMED, "--resource=a=1", "--resource=a=2", "--", "x"],
        "--resource=a=1 and --resource=a=2 are about the same",
    ),
    "cpu twice": ([*NAMED, "--resource=cpu=4", "--cpu=8", "--", "x"], "--resource=cpu=4 and --cpu"),
    "no quantity": ([*NAMED, "--memory=64 GB", "--", "x"], "--memory=64 GB must be a quantity"),
    "a priority alone": ([*NAMED, "--priority=high", "--", "x"], "it needs --queue"),
    "a queue's name": ([*NAMED, "--queue=My_queue", "--", "x"], "--queue=My_queue must be"),
    "a taint": ([*NAMED, "--tolerate==x", "--", "x"], "--tolerate==x must be KEY=VALUE:EFFECT"),
    "an effect": ([*NAMED, "--tolerate=a:No", "--", "x"], "one of NoSchedule, Prefer"),
    "no node": ([*NAMED, "--nodes=0", "--", "x"], "--nodes: 0 must be at least 1"),
    "an empty image": ([*NAMED, "--image=", "--", "x"], "--image= must be an image"),
    "resources in words": ([*NAMED, "--resource=a/b=two", "--", "x"], "as Kubernetes has them"),
    "resources without a number": ([*NAMED, "--resource=a=", "--", "x"], "--resource=a= must be"),
    "a label's value": ([*NAMED, "--node=a=b c", "--", "x"], "--node=a=b c must be KEY=VALUE"),
    "a label's key": ([*NAMED, "--node=a b=c", "--", "x"], "--node=a b=c must be KEY=VALUE"),
    "a taint's value": ([*NAMED, "--tolerate=a=b=c", "--", "x"], "--tolerate=a=b=c must be"),
    "dots in a queue": ([*NAMED, "--queue=a..b", "--", "x"], "--queue=a..b must be"),
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
