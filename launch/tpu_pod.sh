#!/usr/bin/env bash
# A command on every host of a Cloud TPU slice.
#
#   launch/tpu_pod.sh --name=NAME --zone=ZONE --type=v4-32 [FLAGS] -- \
#       python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=/mnt/runs/mnist1d_full
#
# Creates the slice or takes the one that is there, copies the committed code, installs it, starts
# the command on all hosts so that it outlives the connection, follows host 0, and brings the run's
# folder and the log of every host (NAME-logs) back. The same command follows a run that still goes
# on, and continues an interrupted one. With --keep it does so by itself until the run has ended,
# and makes a slice that was taken away anew.
#
# The hosts of a slice share no disk. So --workdir must be in a bucket (gs://BUCKET/FOLDER), to which
# the slice's service account may write, or on a file system that --mount puts at the same place on
# each host (Filestore or another NFS; a bucket mounted by gcsfuse lacks the locks that guard a run).
# The launcher checks that all hosts see it.
#
# The Cloud TPU API, which this uses, ends with v6e, and gets fixes only. Newer chips (TPU7x) are
# to be had through GKE: python -m launch.jobset.
#
#   --name=NAME --zone=ZONE   the slice
#   --type=TYPE               such as v4-32, v5litepod-16, v5p-32, v6e-64
#   --version=VERSION         software of its hosts (by default the one for the chips of --type)
#   --project=PROJECT         (gcloud's own)
#   --spot                    cheap, and taken away at any time
#   --reserved                from the project's reservation
#   --queued                  wait in the queue for a free slice, or go on waiting
#   --network=NETWORK --service-account=ACCOUNT --labels=KEY=VALUE,…    as gcloud has them
#   --mount=COMMAND           run on every host; must do nothing if the disk is mounted already
#   --python=PROGRAM          3.11 or newer, installed by apt if it is missing (python3.11)
#   --fetch=FOLDER            where to bring folder and logs (runs); --fetch= for nowhere
#   --keep                    go on until the run has ended, over lost connections and lost slices
#   --stop                    tell the command to save and end, instead of starting it
#   --delete                  give the slice back at the end, also after a failure; a lost connection
#                             is not the end. Otherwise it costs until you do
#   --dry-run                 print every command that would be executed, and execute none
#   --help                    this text
set -euo pipefail

name='' zone='' type='' version='' project='' mount='' python=python3.11 fetch=runs
queued='' keep='' stop='' delete='' dry='' taken='' over=''
flags=() command=()

fail() {
  over=yes
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
    --spot | --reserved | --network=?* | --service-account=?* | --labels=?*) flags+=("$1") ;;
    --queued) queued=yes ;;
    --keep) keep=yes ;;
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
[[ $name =~ ^[a-z]([-a-z0-9]*[a-z0-9])?$ ]] ||
  fail "--name=$name must be lower-case letters, digits and - in between"
[[ " ${flags[*]} " != *' --spot '* || " ${flags[*]} " != *' --reserved '* ]] ||
  fail 'give --spot or --reserved, not both'
((${#command[@]})) || fail 'no command: give it after --, as in -- python -m lottery.main …'
workdir=''
for word in "${command[@]}"; do
  [[ $word == --workdir=* ]] && workdir=${word#*=}
done
while [[ $workdir == */ ]]; do workdir=${workdir%/}; done
[[ $workdir == /* || $workdir == gs://?* ]] ||
  fail 'the command needs --workdir=/PATH, on a disk that all hosts share, or --workdir=gs://BUCKET/PATH'
cd "$(dirname "${BASH_SOURCE[0]}")/.."

exec 3>&1 # what --dry-run prints, also where output is captured
# shellcheck source=launch/tpu_slice.sh
source launch/tpu_slice.sh

if [[ -z $version ]]; then
  version=$(software)
  [[ -z $dry ]] || echo "# $type has the software $version, unless you give --version"
fi
flags=("--accelerator-type=$type" "${flags[@]}")
where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")

on() { # WORKER COMMAND: in a login shell of host WORKER, or of all
  tpu ssh "$name" "--worker=$1" "--command=$2"
}

copy() {
  [[ -z $(git status --porcelain) ]] || echo 'warning: what is not committed is not copied' >&2
  local archive
  archive=${TMPDIR:-/tmp}/$name-code.tar.gz
  run git archive --format=tar.gz "--output=$archive" HEAD &&
    tpu scp "$archive" "$name:code.tar.gz" --worker=all &&
    on all 'mkdir -p code && tar -xzf code.tar.gz -C code'
}

install() { # a fresh host updates itself: apt-get update gives up at its lock, and install waits for it
  local jax pins=requirements.txt
  jax=$(sed -n 's/^jax==//p' requirements.txt)
  [[ $workdir != gs://* ]] || pins=requirements-buckets.txt
  on all "$python -c 'import ensurepip' 2>/dev/null || { for _ in {1..60}; do sudo apt-get -qq update && break; sleep 10; done; sudo apt-get -qq -o DPkg::Lock::Timeout=600 install -y $python-venv; }" &&
    on all "cd code && $python -m venv .venv && .venv/bin/pip install -q -r $pins 'jax[tpu]==$jax'"
}

check_shared() { # host 0 writes, all must read
  [[ -z $mount ]] || on all "$mount" || return
  [[ $workdir != gs://* ]] || return 0
  local parent=${workdir%/*} mark
  mark=$(printf '%q' "${parent:-/}/.seen-by-all-of-$name")
  on 0 "mkdir -p $(printf '%q' "${parent:-/}") && touch $mark" &&
    on all "test -e $mark || { echo 'error: '\$(hostname)' does not see $mark: --mount a shared disk' >&2; exit 1; }" &&
    on 0 "rm $mark"
}

start() {
  local words
  [[ ${command[0]} != python && ${command[0]} != python3 ]] || command[0]=.venv/bin/python
  words=$(printf '%q ' "${command[@]}")
  on all "cd code && JAX_DISTRIBUTED=auto launch/supervise.sh ${words% }"
}

prepare() { copy && install && check_shared && start; }

pid="\$(cat code/run.pid 2>/dev/null)"
runs="grep -qs supervise.sh /proc/$pid/cmdline" # a number alone may be another's after a restart
status="if $runs; then echo running; else cat code/exit-code 2>/dev/null || echo idle; fi"
begun='' ended='' failures=0

begin() { # the command, unless it runs, or has ended since this launcher began it
  local at
  at=$(on 0 "$status") || trouble "host 0 of $name does not answer; gcloud says why above" || return
  if [[ $at == [0-9]* && -n $begun ]]; then
    ended=$at
  elif [[ $at != running ]]; then
    prepare || {
      ((failures += 1))
      trouble "the command was not started; the reason is above"
      return
    }
  fi
  begun=yes failures=0
}

follow() {
  if [[ -z $ended ]]; then
    on 0 "tail -n +1 --pid=$pid -F code/run.log" && ended=$(on 0 'cat code/exit-code') ||
      trouble "the connection to $name was lost" || return
  fi
  [[ -z $dry && ${ended:-0} != 0 ]] || return 0
  # Hosts that go down fail like commands: a failure is the command's own if the slice is still there.
  [[ -z $keep ]] || pause
  local now
  now=$(describe tpu-vm state) || return
  if [[ $now != READY ]]; then
    ended='' && trouble "$name is ${now:-gone}"
  elif [[ -n $keep && $ended == 75 ]] && ! on 0 'test -e code/stopped'; then
    ended='' && trouble "the hosts of $name were shut down"
  fi
}

collect() { # the logs, and the run's folder
  local logs=$fetch/$name-logs
  [[ -n $fetch ]] || return 0
  run mkdir -p "$logs" || return
  tpu ssh "$name" --worker=all '--command=cat code/run.log' "--output-directory=$logs" || return
  [[ ${ended:-0} == 0 ]] || echo "the log of every host is in $logs" >&2
  if [[ $workdir == gs://* ]]; then
    run gcloud storage cp --recursive "$workdir" "$fetch"
  else
    tpu scp --recurse "$name:$workdir" "$fetch" --worker=0
  fi
}

scratch=$(mktemp -d)
# shellcheck disable=SC2329 # the trap calls it
leave() { # gives the slice back; if the launcher was interrupted, the run goes on, and so does the slice
  local code=$?
  trap '' INT TERM HUP
  if [[ -z $over ]]; then
    echo "$name stays as it is, and costs: the same command goes on with it; this gives it back:" >&2
    dry=yes give_back 3>&2
  elif [[ -n $delete && -n $taken ]] && ! give_back; then
    echo "error: $(cat "$scratch/trouble")" >&2
    code=2
  fi
  rm -rf "$scratch"
  exit "$code"
}
trap leave EXIT

if [[ -n $stop ]]; then
  delete='' over=yes
  on all "touch code/stopped && $runs && kill -TERM -- -$pid" || fail "$name was not told; gcloud says why above"
  exit
fi
# At the end, hours later, it would be too late to say so.
[[ -z $fetch || -n $dry ]] || mkdir -p "$fetch/$name-logs" 2>/dev/null ||
  fail "--fetch=$fetch: no folder can be made there; give another"
until take && taken=yes && begin && follow; do
  reason=$(cat "$scratch/trouble")
  [[ -n $begun ]] || fail "$reason"
  [[ $reason != "$taken_away" ]] || fail "$reason: the same command takes a new one and continues; --keep does so by itself"
  [[ -n $keep || -n $delete ]] || fail "$reason: the same command goes on with the run; --keep does so by itself"
  ((failures < 5)) || fail "$reason, five times now"
  echo "$reason: trying again in $pause_seconds s" >&2
  pause
done
collect || fail "the run has ended with code ${ended:-0}, but not all of it was brought here"
over=yes
exit "${ended:-0}"
