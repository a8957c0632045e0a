#!/usr/bin/env bash
# launch/supervise.sh COMMAND: start it so that it outlives this connection.
#
# Where it exits with 75 it was told to stop and has saved: it is started again, unless it was this
# supervisor that was told. Leaves run.pid, run.log and, at the end, exit-code. Used by tpu_pod.sh.
set -euo pipefail

if [[ $1 != --loop ]]; then
  if [[ -f run.pid ]] && kill -0 "$(cat run.pid)" 2>/dev/null; then
    echo "error: $(hostname) still runs the command of before; --stop it first" >&2
    exit 2
  fi
  rm -f exit-code
  nohup setsid "$0" --loop "$@" >run.log 2>&1 </dev/null &
  echo $! >run.pid
  exit
fi

shift
stopped=''
trap 'stopped=yes' TERM # answered once the command has saved and ended
code=75
while ((code == 75)) && [[ -z $stopped ]]; do
  code=0
  "$@" || code=$?
done
echo "$code" >exit-code
