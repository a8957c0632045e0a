# What the scripts beside it share. Each of them sets `toy`, the overrides of --smoke, and calls
# `experiment` for every run and `report` at the end; or it calls `methods`. Those of another command
# than lottery set `command` before they source this.
#
# Every script takes
#   --smoke       run at toy scale, in seconds, without files: does it work?
#   --dry-run     print the commands, execute none
#   --runs=DIR    where the runs go (runs/reproduce)
#   -- FLAGS      for every run alike: -- --config.data.source=idx --config.data.dir=FOLDER
# shellcheck shell=bash
set -euo pipefail

: "${command:=lottery}" # the package whose main and report are called
runs=runs/reproduce smoke='' dry='' flags=() folders=()
while (($#)); do
  case $1 in
    --smoke) smoke=yes ;;
    --dry-run) dry=yes ;;
    --runs=*) runs=${1#*=} ;;
    --help | -h)
      sed -n '2,/^[^#]/{/^[^#]/d;/^# shellcheck/d;s/^# \{0,1\}//;p;}' "$0" && exit
      ;;
    --) shift && flags=("$@") && break ;;
    *) echo "error: unknown flag $1; --help has the story, common.sh the flags" >&2 && exit 2 ;;
  esac
  shift
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ -z $smoke ]] || runs=$runs/smoke

run() {
  local printed
  printed=$(printf '%q ' "$@")
  if [[ -n $dry ]]; then
    echo "${printed% }"
  else
    echo "+ ${printed% }"
    "$@"
  fi
}

experiment() { # NAME CONFIG OVERRIDES…: a run in the folder NAME; under --smoke also with `toy`
  local name=$1 config=$2
  shift 2
  # shellcheck disable=SC2154 # each script sets `toy`
  [[ -z $smoke ]] || set -- "$@" "${toy[@]}"
  folders+=("$runs/$name")
  run "${PYTHON:-python}" -m "$command.main" "--config=$config" "--workdir=$runs/$name" \
    "$@" ${flags[@]+"${flags[@]}"}
}

report() { # one report of all runs
  run "${PYTHON:-python}" -m "$command.report" "${folders[@]}"
}

methods() { # CONFIG: tickets, a sweep of the methods of pruning.main, and a table of all of them
  local config=$1
  toy=(--config.data.name=digits --config.data.source=digits --config.data.validation_examples=0
    --config.model.name=lenet_300_100 --config.model.width=0.1 --config.replicates=2
    --config.train.steps=5 --config.optimizer.schedule=constant --config.eval_every=5)
  local -a whole=("${toy[@]}")
  toy+=(--config.levels=3)
  experiment tickets "configs/lottery/$config.py"
  toy=("${whole[@]}")
  [[ -z $smoke ]] || flags+=("${toy[@]}" --config.fine_tune.steps=5)
  run "${PYTHON:-python}" -m launch.sweep --module=pruning.main "--config=configs/pruning/$config.py" \
    "--workdir=$runs/sweep" --points=launch/reproduce/methods.txt -- ${flags[@]+"${flags[@]}"}
  run "${PYTHON:-python}" -m launch.methods "--to=$runs/methods" "$runs/tickets" "$runs"/sweep/prune.*
}
