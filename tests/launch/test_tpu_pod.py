"""The TPU launcher: every command printed, and all of it run on two hosts of make-believe."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "launch/tpu_pod.sh"
SLICE = ["--name=pod", "--zone=z", "--type=v4-32"]

GCLOUD = """#!/bin/bash
# gcloud with a slice of two hosts: folders that are the hosts' homes. The files `state` and `queue`
# say how the slice and its request stand; a request's next line is its next state.
set -eu
echo "$*" >> "$HOSTS/calls"
if [[ -e $HOSTS/offline ]]; then echo "ERROR: (gcloud) Your login
has expired" >&2; exit 1; fi
if [[ $1 == storage ]]; then mkdir -p "$5/run"; exit; fi
verb=$4 worker=0 words=()
for word in "${@:5}"; do
  case $word in
    --worker=*) worker=${word#*=} ;;
    --command=*) command=${word#*=} ;;
    --output-directory=*) output=${word#*=} ;;
    -*) ;;
    *) words+=("$word") ;;
  esac
done
if [[ $worker == all ]]; then workers="0 1"; else workers=$worker; fi
file=$HOSTS/state
if [[ $3 == queued-resources ]]; then file=$HOSTS/queue; fi
case $verb in
  describe)
    if [[ ! -e $file ]]; then echo "ERROR: NOT_FOUND: Resource 'pod' was not found" >&2; exit 1; fi
    head -n 1 "$file"
    if (($(wc -l < "$file") > 1)); then sed -i 1d "$file"; fi ;;
  create)
    if [[ -e $file ]]; then echo "ERROR: ALREADY_EXISTS: Resource 'pod'" >&2; exit 1; fi
    if [[ -e $HOSTS/full ]]; then rm "$HOSTS/full"; echo "ERROR: no more capacity" >&2; exit 1; fi
    rm -rf "$HOSTS"/?/code
    if [[ $file == */queue ]]; then printf 'WAITING_FOR_RESOURCES\\nACTIVE\\n' > "$file"; fi
    echo READY > "$HOSTS/state" ;;
  delete) rm -f "$HOSTS/state" "$file" ;;
  ssh) # /alone is a disk of each host's own; tail looks ten times a second
    command=${command/#tail /tail -s 0.1 }
    if [[ $command == tail* && -e $HOSTS/drop ]]; then rm "$HOSTS/drop"; exit 255; fi
    for host in $workers; do
      if [[ -n ${output-} ]]; then exec > "$output/$host.log"; fi
      (cd "$HOSTS/$host" && HOME=$PWD bash -c "${command//\\/alone/$HOSTS/$host/alone}")
    done ;;
  scp)
    if [[ ${words[0]} == pod:* ]]; then cp -r "${words[0]#pod:}" "${words[1]}"; exit; fi
    for host in $workers; do cp "${words[0]}" "$HOSTS/$host/${words[1]#pod:}"; done ;;
esac
"""
GIT = """#!/bin/bash
# git with what starts a command alone, which is quicker to copy than all code
for word; do
  case $word in --output=*) tar -czf "${word#*=}" -C REAL launch/supervise.sh ;; esac
done
"""
SLEEP = "#!/bin/sh\nexec /bin/sleep 0.05\n"  # for half a minute
PYTHON = """#!/bin/bash
# a Python whose virtual environments have its own interpreter, and a pip that writes down its work
if [[ ${1-} != -m ]]; then exit 0; fi
mkdir -p "$3/bin"
ln -sf REAL "$3/bin/python"
printf '#!/bin/bash\\necho "$@" >> pip.log\\n' > "$3/bin/pip"
chmod +x "$3/bin/pip"
"""
MAIN = """
import os, signal, sys, time
workdir = sys.argv[1].partition("=")[2]
assert os.environ["JAX_DISTRIBUTED"] == "auto"
os.makedirs(workdir, exist_ok=True)
host = os.path.basename(os.path.dirname(os.getcwd()))
def save(*_):
    open(f"{workdir}/saved-{host}", "w").close()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
if "--wait" in sys.argv:
    print("waiting", flush=True)
    time.sleep(60)
if "--preempted" in sys.argv and not os.path.exists(f"{workdir}/saved-{host}"):
    os.kill(os.getpid(), signal.SIGTERM)
if "--taken" in sys.argv and not os.path.exists(f"{workdir}/taken-{host}"):
    open(f"{workdir}/taken-{host}", "w").close()
    open(os.environ["HOSTS"] + "/state", "w").write("PREEMPTED\\n")
    sys.exit(9)
print("trained", sys.argv[2:])
open(f"{workdir}/done-{host}", "w").close()
sys.exit(3 if "--fail" in sys.argv else 0)
"""


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """Where gcloud makes believe; a function that starts the launcher."""
    hosts = tmp_path / "hosts"
    programs = tmp_path / "bin"
    for folder in (hosts / "0", hosts / "1", programs):
        folder.mkdir(parents=True)
    (programs / "gcloud").write_text(GCLOUD)
    (programs / "git").write_text(GIT.replace("REAL", str(ROOT)))
    (programs / "sleep").write_text(SLEEP)
    (programs / "python3.11").write_text(PYTHON.replace("REAL", sys.executable))
    for program in programs.iterdir():
        program.chmod(0o755)
    (tmp_path / "main.py").write_text(MAIN)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOSTS", str(hosts))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return hosts


def launch(hosts, *flags, extra=(), wait=True):
    folder = hosts.parent
    command = [SCRIPT, *SLICE, f"--fetch={folder / 'fetched'}", *flags, "--"]
    command += ["python", folder / "main.py", f"--workdir={folder / 'disk/run'}", *extra]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if not wait:
        return process
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def calls(hosts):
    return [line.split(" ")[3] for line in (hosts / "calls").read_text().splitlines()]


def test_dry_run_prints_every_command_and_runs_none(pod):
    done = subprocess.run(
        [
            SCRIPT, *SLICE, "--spot", "--project=p", "--mount=sudo mount it /mnt", "--dry-run",
            "--delete", "--", "python", "-m", "lottery.main", "--workdir=/mnt/runs/a b",
            "--config.prune.rate={'*': 0.2}",
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    where = ["--zone=z", "--project=p"]
    jax = "0.10.2"
    assert f"jax=={jax}\n" in (ROOT / "requirements.txt").read_text()

    def tpu(*words):
        return ["gcloud", "compute", "tpus", "tpu-vm", *words, *where]

    def ssh(worker, command):
        return tpu("ssh", "pod", f"--worker={worker}", f"--command={command}")

    archive = f"{pod.parent}/pod-code.tar.gz"
    mark = "/mnt/runs/.seen-by-all-of-pod"
    unseen = f"echo 'error: '$(hostname)' does not see {mark}: --mount a shared disk' >&2; exit 1"
    status = "then echo running; else cat code/exit-code 2>/dev/null || echo idle; fi"
    assert done.stdout.startswith("# v4-32 has the software tpu-ubuntu2204-base, unless")
    assert lines[1:] == [
        tpu("describe", "pod", "--format=value(state)"),
        tpu("create", "pod", "--accelerator-type=v4-32", "--spot", "--version=tpu-ubuntu2204-base"),
        ssh(0, f"if grep -qs supervise.sh /proc/$(cat code/run.pid 2>/dev/null)/cmdline; {status}"),
        ["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"],
        tpu("scp", archive, "pod:code.tar.gz", "--worker=all"),
        ssh("all", "mkdir -p code && tar -xzf code.tar.gz -C code"),
        ssh("all", "python3.11 -c 'import ensurepip' 2>/dev/null || { for _ in {1..60}; do "
            "sudo apt-get -qq update && break; sleep 10; done; sudo apt-get -qq "
            "-o DPkg::Lock::Timeout=600 install -y python3.11-venv; }"),
        ssh("all", "cd code && python3.11 -m venv .venv && .venv/bin/pip install -q "
            f"-r requirements.txt 'jax[tpu]=={jax}'"),
        ssh("all", "sudo mount it /mnt"),
        ssh(0, f"mkdir -p /mnt/runs && touch {mark}"),
        ssh("all", f"test -e {mark} || {{ {unseen}; }}"),
        ssh(0, f"rm {mark}"),
        ssh("all", "cd code && JAX_DISTRIBUTED=auto launch/supervise.sh .venv/bin/python -m "
            r"lottery.main --workdir=/mnt/runs/a\ b --config.prune.rate=\{\'\*\':\ 0.2\}"),
        ssh(0, "tail -n +1 --pid=$(cat code/run.pid 2>/dev/null) -F code/run.log"),
        ssh(0, "cat code/exit-code"),
        ["mkdir", "-p", "runs/pod-logs"],
        tpu("ssh", "pod", "--worker=all", "--command=cat code/run.log",
            "--output-directory=runs/pod-logs"),
        tpu("scp", "--recurse", "pod:/mnt/runs/a b", "runs", "--worker=0"),
        tpu("delete", "pod", "--quiet"),
    ]  # fmt: skip
    assert not (pod / "calls").exists()


def planned(*argv, workdir="/d/r"):
    """The lines of a dry run."""
    command = [SCRIPT, "--name=pod", "--zone=z", "--dry-run", *argv]
    command += ["--", "x", f"--workdir={workdir}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


VERSIONS = {
    "v3-32": "tpu-ubuntu2204-base",
    "v4-32": "tpu-ubuntu2204-base",
    "v5litepod-16": "v2-alpha-tpuv5-lite",
    "v5p-32": "v2-alpha-tpuv5",
    "v6e-64": "v2-alpha-tpuv6e",
}


@pytest.mark.parametrize("chips", VERSIONS)
def test_each_generation_of_chips_has_its_software(chips):
    out = planned(f"--type={chips}")
    assert out[0] == f"# {chips} has the software {VERSIONS[chips]}, unless you give --version"
    assert f"--accelerator-type={chips} --version={VERSIONS[chips]} " in out[2]


def test_a_given_version_is_the_version_also_of_chips_that_are_not_known():
    out = planned("--type=v9-8", "--version=v2-alpha-tpuv9")
    assert "--accelerator-type=v9-8 --version=v2-alpha-tpuv9 " in out[1]


def test_a_queued_slice_is_waited_for_and_given_back_with_its_place(pod):
    out = planned("--type=v4-32", "--queued", "--delete")
    request = "gcloud compute tpus queued-resources"
    describe = rf"{request} describe pod --format=value\(state.state\) --zone=z"
    assert out[1:4] == [
        describe,
        f"{request} create pod --node-id=pod --accelerator-type=v4-32 "
        "--runtime-version=tpu-ubuntu2204-base --zone=z",
        describe,
    ]
    assert out[-1] == f"{request} delete pod --force --quiet --zone=z"


@pytest.mark.parametrize("queued", [[], ["--queued"]])
def test_a_slice_is_asked_for_with_what_gcloud_has_for_it(queued):
    more = ["--reserved", "--network=net", "--service-account=me@p", "--labels=team=us"]
    (line,) = [line for line in planned("--type=v4-32", *queued, *more) if " create " in line]
    assert f" --accelerator-type=v4-32 {' '.join(more)} " in line


def test_a_bucket_needs_its_packages_and_no_shared_disk_and_gcloud_brings_it():
    out = planned("--type=v4-32", "--mount=mount", workdir="gs://b/runs/a")
    assert not any("seen-by-all" in line for line in out)
    assert any("--command=mount " in line for line in out)  # data may be there
    assert any(r"jax\[tpu\]" in line and "requirements-buckets.txt" in line for line in out)
    assert out[-1] == "gcloud storage cp --recursive gs://b/runs/a runs"


def test_the_command_runs_on_every_host_and_its_folder_comes_back(pod):
    (pod.parent / "bin/git").unlink()
    code, out, err = launch(pod, "--delete", extra=["{'*': 0.2}"])
    assert code == 0, err
    assert out.count("trained [\"{'*': 0.2}\"]") == 1  # host 0 is followed
    fetched = {path.name for path in (pod.parent / "fetched/run").iterdir()}
    assert fetched == {"done-0", "done-1"}
    assert (pod / "1/code/lottery/main.py").is_file()
    assert "jax[tpu]==" in (pod / "1/code/pip.log").read_text()
    logs = [(pod.parent / f"fetched/pod-logs/{host}.log").read_text() for host in (0, 1)]
    assert logs == ["trained [\"{'*': 0.2}\"]\n"] * 2
    assert calls(pod)[:2] == ["describe", "create"]
    assert calls(pod)[-1] == "delete"


def test_a_command_that_was_preempted_is_started_again(pod):
    code, _, err = launch(pod, extra=["--preempted"])
    assert code == 0, err
    names = {path.name for path in (pod.parent / "disk/run").iterdir()}
    assert names == {"saved-0", "saved-1", "done-0", "done-1"}


def test_a_slice_that_is_there_is_taken_and_a_failure_is_the_launchers(pod):
    (pod / "state").write_text("READY\n")
    code, _, err = launch(pod, extra=["--fail"])
    assert code == 3
    assert "taking pod as it is" in err
    assert "the log of every host is in" in err
    assert "create" not in calls(pod)


def test_a_slice_that_was_taken_away_is_made_anew(pod):
    (pod / "state").write_text("PREEMPTED\n")
    assert launch(pod)[0] == 0
    assert calls(pod)[:4] == ["describe", "delete", "describe", "create"]


def test_what_still_runs_is_followed_and_can_be_stopped(pod):
    first = launch(pod, extra=["--wait"], wait=False)
    end = time.monotonic() + 20
    while not (log := pod / "0/code/run.log").exists() or "waiting" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)  # the connection is lost
    first.communicate(timeout=20)
    again = launch(pod, extra=["--wait"], wait=False)
    while again.stdout.readline() != "waiting\n":
        assert time.monotonic() < end
    assert launch(pod, "--stop")[0] == 0
    again.communicate(timeout=20)
    assert again.returncode == 75
    assert calls(pod).count("scp") == 2  # the code once, the folder once
    assert (pod / "1/code/exit-code").read_text() == "75\n"


def test_hosts_that_do_not_share_the_disk_are_refused(pod):
    code, _, err = launch(pod, "--mount=touch mounted", extra=["--workdir=/alone/runs/a"])
    assert code == 2
    assert "does not see" in err
    assert "error: the command was not started; the reason is above" in err
    assert "--mount a shared disk" in err
    assert (pod / "1/mounted").exists()
    assert not (pod / "0/code/run.log").exists()


@pytest.mark.parametrize("place", ["WAITING_FOR_RESOURCES\nPROVISIONING\nACTIVE\n", "ACTIVE\n"])
def test_a_request_that_is_in_the_queue_is_taken_up(place, pod):
    (pod / "queue").write_text(place)
    (pod / "state").write_text("READY\n")
    code, _, err = launch(pod, "--queued", "--fetch=")
    assert code == 0, err
    assert calls(pod)[0] == "describe"
    assert "create" not in calls(pod)
    assert [f"in the queue: {line}" in err for line in place.splitlines()] == [True] * (
        place.count("\n")
    )


@pytest.mark.parametrize("place", ["SUSPENDED", "FAILED"])
def test_a_request_that_will_have_no_slice_any_more_is_made_anew(place, pod):
    (pod / "queue").write_text(f"{place}\n")
    code, _, err = launch(pod, "--queued", "--fetch=")
    assert code == 0, err
    assert calls(pod)[:4] == ["describe", "delete", "describe", "create"]


def test_a_request_that_fails_is_not_repeated(pod):
    gcloud = pod.parent / "bin/gcloud"
    gcloud.write_text(GCLOUD.replace("WAITING_FOR_RESOURCES\\nACTIVE", "FAILED"))
    code, _, err = launch(pod, "--queued")
    assert code == 2
    assert "error: the request for pod is FAILED: gcloud compute tpus queued-resources" in err
    assert calls(pod).count("create") == 1


def test_that_gcloud_cannot_tell_is_not_taken_for_no_slice(pod):
    (pod / "offline").touch()
    code, _, err = launch(pod)
    assert code == 2
    assert err == (
        "error: gcloud cannot tell whether pod is there: ERROR: (gcloud) Your login has expired \n"
    )
    assert calls(pod) == ["describe"]


def test_a_lost_connection_ends_the_launcher_and_says_how_it_goes_on(pod):
    (pod / "drop").touch()
    code, _, err = launch(pod)
    assert code == 2
    assert err.splitlines()[-1] == (
        "error: the connection to pod was lost: the same command goes on with the run; --keep "
        "does so by itself"
    )


def test_a_slice_that_is_to_be_deleted_is_followed_again_to_its_end(pod):
    (pod / "drop").touch()
    code, _, err = launch(pod, "--delete")
    assert code == 0, err
    assert "the connection to pod was lost: trying again in 30 s" in err
    assert calls(pod)[-1] == "delete"
    assert (pod.parent / "fetched/run/done-0").exists()


def test_a_slice_is_given_back_after_a_failure_too(pod):
    code, _, _ = launch(pod, "--delete", extra=["--workdir=/alone/runs/a"])
    assert code == 2
    assert calls(pod)[-1] == "delete"


def test_a_slice_that_is_taken_away_is_not_the_commands_failure(pod):
    code, _, err = launch(pod, "--delete", extra=["--taken"])
    assert code == 2
    assert "error: pod was taken away: the same command takes a new one and continues" in err
    assert calls(pod).count("create") == 1
    assert calls(pod)[-1] == "delete"


def test_with_keep_the_run_goes_on_until_it_has_finished(pod):
    """Over a slice that is taken away, and a zone without a free one."""
    gcloud = pod.parent / "bin/gcloud"
    gcloud.write_text(GCLOUD.replace("delete) ", 'delete) touch "$HOSTS/full"; '))
    code, out, err = launch(pod, "--keep", extra=["--taken"])
    assert code == 0, err
    assert "pod is PREEMPTED: trying again in 30 s" in err
    assert "pod was not created; gcloud says why above: trying again in 30 s" in err
    assert calls(pod).count("create") == 3
    assert out.count("trained") == 1
    assert {"taken-0", "done-0", "done-1"} <= {p.name for p in (pod.parent / "disk/run").iterdir()}


def test_with_keep_a_failure_stays_one(pod):
    code, _, _ = launch(pod, "--keep", extra=["--fail"])
    assert code == 3
    assert calls(pod).count("create") == 1


def test_an_interrupted_launcher_leaves_the_slice_and_says_how_it_is_given_back(pod):
    launcher = launch(pod, "--delete", extra=["--wait"], wait=False)
    assert launcher.stdout.readline() == "waiting\n"
    os.killpg(launcher.pid, signal.SIGINT)
    _, err = launcher.communicate(timeout=20)
    assert launcher.returncode == -signal.SIGINT
    assert err.splitlines()[-2:] == [
        "pod stays as it is, and costs: the same command goes on with it; this gives it back:",
        "gcloud compute tpus tpu-vm delete pod --quiet --zone=z",
    ]
    assert "delete" not in calls(pod)
    assert launch(pod, "--stop")[0] == 0


REST = ["--", "x", "--workdir=/d/r"]
REFUSED = {
    "no name": (["--zone=z", "--type=t", "--", "x"], "--name"),
    "a name": (["--name=../a b", "--zone=z", "--type=v4-32", *REST], "--name=../a b must be"),
    "no command": (SLICE, "no command"),
    "all of the disk": ([*SLICE, "--", "x", "--workdir=//"], "--workdir=/PATH"),
    "a fetched file": ([*SLICE, "--fetch=/dev/null", *REST], "--fetch=/dev/null: no folder can"),
    "no workdir": ([*SLICE, "--", "x"], "--workdir"),
    "a relative workdir": ([*SLICE, "--", "x", "--workdir=runs/x"], "--workdir=/PATH"),
    "chips of GKE": (["--name=n", "--zone=z", "--type=tpu7x-8", *REST], "launch.jobset"),
    "unknown chips": (["--name=n", "--zone=z", "--type=v9-8", *REST], "give its --version"),
    "two ways to pay": ([*SLICE, "--spot", "--reserved", *REST], "not both"),
    "an empty network": ([*SLICE, "--network=", *REST], "unknown flag --network="),
    "an unknown flag": ([*SLICE, "--tpye=v4"], "unknown flag --tpye=v4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_one_line(case, pod):
    argv, said = REFUSED[case]
    done = subprocess.run([SCRIPT, *argv], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_help_has_every_flag():
    out = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True).stdout
    text = SCRIPT.read_text()
    for flag in ("--name=", "--mount=", "--queued", "--stop", "--delete", "--fetch="):
        assert flag in out
        assert f"{flag}*)" in text or f"{flag})" in text
    assert "set -euo" not in out
