# A TPU slice and its request in the queue: asked about, asked for, waited for, given back.
#
# tpu_pod.sh sources this once its flags are read. A function that cannot go on leaves the reason
# with `trouble`, and fails; the caller decides whether to try again.
# shellcheck shell=bash
# shellcheck disable=SC2154 # tpu_pod.sh sets the variables that are used here

pause_seconds=30

trouble() { # REASON
  echo "$*" >"$scratch/trouble"
  return 1
}

pause() { [[ -n $dry ]] || sleep "$pause_seconds"; }

software() { # of the hosts: each generation of chips has its own
  case $type in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    tpu* | v7*) fail "--type=$type: GKE alone has these chips: use python -m launch.jobset" ;;
    *) fail "--type=$type is none of v2 to v4, v5litepod, v5p, v6e: give its --version, too" ;;
  esac
}

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

tpu() { # VERB ARGUMENTS…
  local verb=$1
  shift
  run gcloud compute tpus tpu-vm "$verb" "$@" "${where[@]}"
}

describe() { # tpu-vm|queued-resources FIELD: prints it; nothing if there is no such thing
  local said=$scratch/said
  run gcloud compute tpus "$1" describe "$name" "--format=value($2)" "${where[@]}" 2>"$said" ||
    grep -qiE 'NOT_FOUND|was not found' "$said" ||
    trouble "gcloud cannot tell whether $name is there: $(tr -s '\n' ' ' <"$said")"
}

taken_away="$name was taken away"
anew() { # may a slice be made? Once the command runs, with --keep alone
  [[ -z $begun || -n $keep ]] || trouble "$taken_away"
}

create() {
  anew || return
  tpu create "$name" "${flags[@]}" "--version=$version" ||
    trouble "$name was not created; gcloud says why above"
}

request() {
  anew || return
  run gcloud compute tpus queued-resources create "$name" "--node-id=$name" "${flags[@]}" \
    "--runtime-version=$version" "${where[@]}" ||
    trouble "the request for $name was not taken; gcloud says why above"
}

give_back() {
  if [[ -n $queued ]]; then # a queued slice goes with its place in the queue
    run gcloud compute tpus queued-resources delete "$name" --force --quiet "${where[@]}"
  else
    tpu delete "$name" --quiet
  fi || trouble "$name was not given back, and costs; gcloud says why above"
}

queue() { # returns once the request has its slice; one that was left from earlier is taken up
  local place before=none asked=''
  while true; do
    place=$(describe queued-resources state.state) || return
    [[ -n $dry || $place == "$before" ]] || echo "in the queue: ${place:-no request yet}" >&2
    before=$place
    case $place in
      ACTIVE) return ;;
      '')
        [[ -z $dry || -z $asked ]] || return 0
        request || return
        asked=yes
        ;;
      FAILED | SUSPENDED) # it holds the name, and will have no slice any more
        [[ $place == SUSPENDED && -n $keep || -z $asked ]] ||
          trouble "the request for $name is $place: gcloud compute tpus queued-resources" \
            "describe $name ${where[*]}" || return
        anew && give_back || return
        continue
        ;;
    esac
    pause
  done
}

take() { # the slice that is there, or a new one
  local now
  while true; do
    [[ -z $queued ]] || queue || return
    now=$(describe tpu-vm state) || return
    case $now in
      READY) echo "taking $name as it is" >&2 && return ;;
      '')
        if [[ -z $queued ]]; then
          create
          return
        fi
        [[ -z $dry ]] || return 0
        anew && give_back || return # a request whose slice was deleted
        ;;
      PREEMPTED | TERMINATED) anew && give_back || return ;;
      CREATING | STARTING | RESTARTING | REIMAGING | REPAIRING | STOPPING | DELETING)
        echo "$name is $now: waiting" >&2
        pause
        ;;
      *) trouble "$name is $now: gcloud compute tpus tpu-vm describe $name ${where[*]}" || return ;;
    esac
  done
}
