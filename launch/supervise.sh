#!/usr/bin/env bash
# launch/supervise.sh COMMAND: start a command that outlives this connection.
#
# If the command exits with 75, it was told to stop and has saved: it is started again, unless this
# supervisor was told to stop too. So it is, three times, if it hung and ended itself with 76. Leaves
# run.pid, run.log and, at the end, exit-code. tpu_pod.sh uses it.
set -euo pipefail

if (($# == 0)); then
  echo "error: no command: launch/supervise.sh COMMAND" >&2
  exit 2
fi
if [[ $1 != --loop ]]; then
  # After a restart of the host, another process may have the number.
  if [[ -f run.pid ]] && grep -qs supervise.sh "/proc/$(cat run.pid)/cmdline"; then
    echo "error: $(hostname) still runs an earlier command; --stop it first" >&2
    exit 2
  fi
  rm -f exit-code stopped
  nohup setsid "$0" --loop "$@" >run.log 2>&1 </dev/null &
  echo $! >run.pid
  exit
fi

shift
stopped=''
trap 'stopped=yes' TERM # bash runs this once the command has saved and ended
code=75
hangs=0
while ((code == 75 || (code == 76 && ++hangs <= 3))) && [[ -z $stopped ]]; do
  code=0
  "$@" || code=$?
done
echo "$code" >exit-code
