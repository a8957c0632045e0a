#!/usr/bin/env bash
# A command on every host of a Cloud TPU slice.
#
#   launch/tpu_pod.sh --name=NAME --zone=ZONE --type=v4-32 [FLAGS] -- \
#       python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=/mnt/runs/mnist1d_full
#
# Creates the slice or takes the one that is there, copies the committed code, installs it, starts
# the command on all hosts so that it outlives the connection, follows host 0, and brings the run's
# folder back. The same command follows a run that still goes on, and continues an interrupted one.
#
# The hosts of a slice share no disk, and all of them write a run's checkpoints. So --workdir must be
# on a file system that --mount puts at the same place on each (Filestore or another NFS; a bucket
# mounted by gcsfuse lacks the locks that guard a run). The launcher checks that all hosts see it.
#
#   --name=NAME --zone=ZONE   the slice
#   --type=TYPE               such as v4-32, v5litepod-16, v6e-64
#   --version=VERSION         software of its hosts (tpu-ubuntu2204-base)
#   --project=PROJECT         (gcloud's own)
#   --spot                    cheap, and taken away at any time
#   --queued                  wait in the queue for a free slice
#   --mount=COMMAND           run on every host; must do nothing if the disk is mounted already
#   --python=PROGRAM          3.11 or newer, installed by apt if it is missing (python3.11)
#   --fetch=FOLDER            where to bring the run's folder (runs); --fetch= for nowhere
#   --stop                    tell the command to save and end, instead of starting it
#   --delete                  give the slice back at the end; otherwise it costs until you do
#   --dry-run                 print every command that would be executed, and execute none
#   --help                    this text
set -euo pipefail

name='' zone='' type='' version=tpu-ubuntu2204-base project='' mount='' python=python3.11 fetch=runs
spot='' queued='' stop='' delete='' dry=''
command=()

fail() {
  echo "error: $*" >&2
  exit 2
}

for_reading() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }

while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --mount=*) mount=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --fetch=*) fetch=${1#*=} ;;
    --spot) spot=yes ;;
    --queued) queued=yes ;;
    --stop) stop=yes ;;
    --delete) delete=yes ;;
    --dry-run) dry=yes ;;
    --help | -h) for_reading && exit ;;
    --) shift && command=("$@") && break ;;
    *) fail "unknown flag $1; --help has them all (values as --name=VALUE)" ;;
  esac
  shift
done

[[ -n $name && -n $zone && -n $type ]] || fail 'give --name, --zone and --type'
((${#command[@]})) || fail 'no command: give it after --, as in -- python -m lottery.main …'
workdir=''
for word in "${command[@]}"; do
  [[ $word == --workdir=* ]] && workdir=${word#*=}
done
[[ $workdir == /* ]] || fail 'the command needs --workdir=/PATH, on a disk that all hosts share'
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec 3>&1 # what --dry-run prints, also where output is captured

# Every command goes through here: it is printed as it would be typed, or executed.
run() {
  local printed
  if [[ -n $dry ]]; then
    printed=$(printf '%q ' "$@")
    echo "${printed% }" >&3
  else
    "$@" 3>&-
  fi
}

where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")
tpu() { # VERB ARGUMENTS…
  local verb=$1
  shift
  run gcloud compute tpus tpu-vm "$verb" "$@" "${where[@]}"
}
on() { # WORKER COMMAND: in a login shell of host WORKER, or of all
  tpu ssh "$name" "--worker=$1" "--command=$2"
}
# Prints nothing if there is no such slice; the next command will tell of any other trouble.
state() { tpu describe "$name" '--format=value(state)' 2>/dev/null || true; }

create() {
  local flags=("--accelerator-type=$type") place=''
  [[ -z $spot ]] || flags+=(--spot)
  if [[ -z $queued ]]; then
    tpu create "$name" "${flags[@]}" "--version=$version"
    return
  fi
  run gcloud compute tpus queued-resources create "$name" "--node-id=$name" "${flags[@]}" \
    "--runtime-version=$version" "${where[@]}"
  while [[ $place != ACTIVE ]]; do
    place=$(run gcloud compute tpus queued-resources describe "$name" \
      '--format=value(state.state)' "${where[@]}")
    [[ -z $dry ]] || return 0
    [[ $place != FAILED && $place != SUSPENDED ]] || fail "the request in the queue is $place"
    echo "in the queue: $place" >&2
    sleep 30
  done
}

take() { # the slice that is there, or a new one
  case $(state) in
    READY) echo "taking $name as it is" >&2 ;;
    '') create ;;
    PREEMPTED | TERMINATED)
      give_back
      create
      ;;
    *) fail "$name is not ready: gcloud compute tpus tpu-vm describe $name ${where[*]}" ;;
  esac
}

give_back() {
  if [[ -n $queued ]]; then # a queued slice goes with its place in the queue
    run gcloud compute tpus queued-resources delete "$name" --force --quiet "${where[@]}"
  else
    tpu delete "$name" --quiet
  fi
}

copy() {
  [[ -z $(git status --porcelain) ]] || echo 'warning: what is not committed is not copied' >&2
  local archive
  archive=${TMPDIR:-/tmp}/$name-code.tar.gz
  run git archive --format=tar.gz "--output=$archive" HEAD
  tpu scp "$archive" "$name:code.tar.gz" --worker=all
  on all 'mkdir -p code && tar -xzf code.tar.gz -C code'
}

install() {
  local jax
  jax=$(sed -n 's/^jax==//p' requirements.txt)
  on all "$python -c 'import ensurepip' 2>/dev/null || { sudo apt-get -qq update && sudo apt-get -qq install -y $python-venv; }"
  on all "cd code && $python -m venv .venv && .venv/bin/pip install -q -r requirements.txt 'jax[tpu]==$jax'"
}

check_shared() { # host 0 writes, all must read
  local parent=${workdir%/*} mark
  mark=$(printf '%q' "${parent:-/}/.seen-by-all-of-$name")
  [[ -z $mount ]] || on all "$mount"
  on 0 "mkdir -p $(printf '%q' "${parent:-/}") && touch $mark"
  on all "test -e $mark || { echo 'error: '\$(hostname)' does not see $mark: --mount a shared disk' >&2; exit 1; }"
  on 0 "rm $mark"
}

start() {
  [[ ${command[0]} != python && ${command[0]} != python3 ]] || command[0]=.venv/bin/python
  local words
  words=$(printf '%q ' "${command[@]}")
  on all "cd code && JAX_DISTRIBUTED=auto launch/supervise.sh ${words% }"
}

running="kill -0 \$(cat code/run.pid 2>/dev/null) 2>/dev/null"

if [[ -n $stop ]]; then
  on all "kill -TERM -- -\$(cat code/run.pid)"
  exit
fi
take
if ! on 0 "$running" || [[ -n $dry ]]; then
  copy
  install
  check_shared
  start
fi
on 0 "tail -n +1 --pid=\$(cat code/run.pid) -F code/run.log" || {
  echo 'error: the connection was lost; the same command follows the run again' >&2
  exit 1
}
code=$(on 0 'cat code/exit-code')
if [[ -n $fetch ]]; then
  run mkdir -p "$fetch"
  tpu scp --recurse "$name:$workdir" "$fetch" --worker=0
fi
[[ -z $delete ]] || give_back
exit "${code:-0}"
