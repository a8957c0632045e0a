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
# gcloud with a slice of two hosts: folders that are the hosts' homes
set -eu
echo "$*" >> "$HOSTS/calls"
if [[ $3 != tpu-vm ]]; then echo ACTIVE; exit; fi
verb=$4 worker=0 words=()
for word in "${@:5}"; do
  case $word in
    --worker=*) worker=${word#*=} ;;
    --command=*) command=${word#*=} ;;
    -*) ;;
    *) words+=("$word") ;;
  esac
done
if [[ $worker == all ]]; then workers="0 1"; else workers=$worker; fi
case $verb in
  describe) cat "$HOSTS/state" ;;
  create) echo READY > "$HOSTS/state" ;;
  delete) rm "$HOSTS/state" ;;
  ssh) # /alone is a disk of each host's own; tail looks ten times a second
    command=${command/#tail /tail -s 0.1 }
    for host in $workers; do
      (cd "$HOSTS/$host" && HOME=$PWD bash -c "${command//\\/alone/$HOSTS/$host/alone}")
    done ;;
  scp)
    if [[ ${words[0]} == pod:* ]]; then cp -r "${words[0]#pod:}" "${words[1]}"; exit; fi
    for host in $workers; do cp "${words[0]}" "$HOSTS/$host/${words[1]#pod:}"; done ;;
esac
"""
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
    assert lines == [
        tpu("describe", "pod", "--format=value(state)"),
        tpu("create", "pod", "--accelerator-type=v4-32", "--spot", "--version=tpu-ubuntu2204-base"),
        ssh(0, "kill -0 $(cat code/run.pid 2>/dev/null) 2>/dev/null"),
        ["git", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"],
        tpu("scp", archive, "pod:code.tar.gz", "--worker=all"),
        ssh("all", "mkdir -p code && tar -xzf code.tar.gz -C code"),
        ssh("all", "python3.11 -c 'import ensurepip' 2>/dev/null || { sudo apt-get -qq update && "
            "sudo apt-get -qq install -y python3.11-venv; }"),
        ssh("all", "cd code && python3.11 -m venv .venv && .venv/bin/pip install -q "
            f"-r requirements.txt 'jax[tpu]=={jax}'"),
        ssh("all", "sudo mount it /mnt"),
        ssh(0, f"mkdir -p /mnt/runs && touch {mark}"),
        ssh("all", f"test -e {mark} || {{ {unseen}; }}"),
        ssh(0, f"rm {mark}"),
        ssh("all", "cd code && JAX_DISTRIBUTED=auto launch/supervise.sh .venv/bin/python -m "
            r"lottery.main --workdir=/mnt/runs/a\ b --config.prune.rate=\{\'\*\':\ 0.2\}"),
        ssh(0, "tail -n +1 --pid=$(cat code/run.pid) -F code/run.log"),
        ssh(0, "cat code/exit-code"),
        ["mkdir", "-p", "runs"],
        tpu("scp", "--recurse", "pod:/mnt/runs/a b", "runs", "--worker=0"),
        tpu("delete", "pod", "--quiet"),
    ]  # fmt: skip
    assert not (pod / "calls").exists()


def test_a_queued_slice_is_waited_for_and_given_back_with_its_place(pod):
    command = [SCRIPT, *SLICE, "--queued", "--delete", "--dry-run", "--", "x", "--workdir=/d/r"]
    out = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert out[1:3] == [
        "gcloud compute tpus queued-resources create pod --node-id=pod --accelerator-type=v4-32 "
        "--runtime-version=tpu-ubuntu2204-base --zone=z",
        r"gcloud compute tpus queued-resources describe pod --format=value\(state.state\) --zone=z",
    ]
    assert out[-1] == "gcloud compute tpus queued-resources delete pod --force --quiet --zone=z"


def test_the_command_runs_on_every_host_and_its_folder_comes_back(pod):
    code, out, err = launch(pod, "--delete", extra=["{'*': 0.2}"])
    assert code == 0, err
    assert out.count("trained [\"{'*': 0.2}\"]") == 1  # host 0 is followed
    fetched = {path.name for path in (pod.parent / "fetched/run").iterdir()}
    assert fetched == {"done-0", "done-1"}
    assert (pod / "1/code/lottery/main.py").is_file()
    assert "jax[tpu]==" in (pod / "1/code/pip.log").read_text()
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
    assert "create" not in calls(pod)


def test_a_slice_that_was_taken_away_is_made_anew(pod):
    (pod / "state").write_text("PREEMPTED\n")
    assert launch(pod)[0] == 0
    assert calls(pod)[:3] == ["describe", "delete", "create"]


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
    assert code == 1
    assert "does not see" in err
    assert "--mount a shared disk" in err
    assert (pod / "1/mounted").exists()
    assert not (pod / "0/code/run.log").exists()


REFUSED = {
    "no name": (["--zone=z", "--type=t", "--", "x"], "--name"),
    "no command": (SLICE, "no command"),
    "no workdir": ([*SLICE, "--", "x"], "--workdir"),
    "a relative workdir": ([*SLICE, "--", "x", "--workdir=runs/x"], "--workdir=/PATH"),
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
