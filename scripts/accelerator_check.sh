#!/usr/bin/env bash
# Checks facejax on a machine with an accelerator, in under a quarter of an hour.
#
#   OUT=results bash scripts/accelerator_check.sh
#   OUT=results bash scripts/accelerator_check.sh --only head,trunk --budget 300
#   OUT=results bash scripts/accelerator_check.sh --tiny       (any CPU, 2 minutes)
#
# Needs bash, and Python with jax for the accelerator, flax, optax, numpy; PyTorch
# and pytest for what is compared with them. facejax itself need not be installed:
# run it from a copy of the tree. No network. WHEELS=FOLDER takes further packages
# from the wheels in a folder, PYTHON=... another Python, COMMIT=... names the
# version where there is no git.
#
# Steps, each with a time limit of its own, the most valuable first:
#   smoke    training of the embedded default, losses beside a CPU's
#   head     the head by implementation and number of classes, and what limits it
#   rivals   beside PyTorch's Partial FC and others, in turns
#   trunk    nets in bfloat16 beside PyTorch
#   profile  where the time of a training step goes
#   blocks   the head by its block size
#   tests    the tests marked `accelerator`
# Each writes OUT/STEP.json after every result; what it prints is in OUT/logs. A
# step that fails or hangs stops no other. The end is OUT/summary.json and .txt.
#
# Exit codes: 0 all that was asked for ran; 1 a step failed or hit its limit;
# 2 bad arguments.
set -uo pipefail

steps=(smoke head rivals trunk profile blocks tests)
limits=(110 210 100 170 70 50 70) # seconds, 780 in all

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

refuse() {
  echo "accelerator_check.sh: $1" >&2
  exit 2
}

tiny=() only="" budget=""
while [ $# -gt 0 ]; do
  case "$1" in
    --tiny) tiny=(--tiny) ;;
    --only | --budget)
      [ $# -gt 1 ] || refuse "$1 needs a value"
      [ "$1" = --only ] && only=$2 || budget=$2
      shift
      ;;
    -h | --help) usage && exit 0 ;;
    *) refuse "$1 is unknown: see --help" ;;
  esac
  shift
done
chosen=() sum=0
for index in "${!steps[@]}"; do
  if [ -z "$only" ] || [[ ",$only," == *",${steps[index]},"* ]]; then
    chosen+=("$index") sum=$((sum + limits[index]))
  fi
done
for name in ${only//,/ }; do
  [[ " ${steps[*]} " == *" $name "* ]] ||
    refuse "--only $name: choose from ${steps[*]}"
done
# A busy machine may take its time over what is only to be seen working.
budget=${budget:-$((${#tiny[@]} ? 3 * sum : sum))}
[[ "$budget" =~ ^[1-9][0-9]*$ ]] ||
  refuse "--budget $budget: seconds, a whole number above 0"
[ -n "${OUT:-}" ] || refuse "set OUT to the folder for the results"

root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$OUT/logs" || refuse "OUT=$OUT: no such folder can be made"
OUT=$(cd "$OUT" && pwd)
python=${PYTHON:-$(command -v python3 || command -v python)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
if [ -n "${WHEELS:-}" ]; then
  # Beside what is installed, which stays as it is.
  "$python" -m pip install --quiet --no-index --no-deps --find-links "$WHEELS" \
    --target "$work/site" "$WHEELS"/*.whl >"$OUT/logs/wheels.txt" 2>&1 ||
    refuse "WHEELS=$WHEELS: not installed, see $OUT/logs/wheels.txt"
  export PYTHONPATH="$PYTHONPATH:$work/site"
fi
if [ ${#tiny[@]} -gt 0 ]; then
  # Nothing is measured: the compiler may take short cuts, and nothing twice.
  export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}" JAX_DISABLE_MOST_OPTIMIZATIONS=1
  export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$work/cache}"
  export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 OMP_WAIT_POLICY=PASSIVE
elif [[ -n "${JAX_PLATFORMS:-}" && ",$JAX_PLATFORMS," != *,cpu,* ]]; then
  export JAX_PLATFORMS="$JAX_PLATFORMS,cpu" # to compare with
fi

summary() {
  "$python" "$root/scripts/accelerator_summary.py" --out "$OUT" "$@"
}

summary --begin
for index in "${chosen[@]}"; do
  step=${steps[index]}
  limit=$((limits[index] * budget / sum))
  # JAX takes all memory for itself, or shares it with PyTorch.
  memory=(XLA_PYTHON_CLIENT_MEM_FRACTION=0.95)
  case $step in
    rivals | trunk) memory=(XLA_PYTHON_CLIENT_PREALLOCATE=false) ;;
  esac
  started=$SECONDS
  # The rest of the limit is for what has begun by then.
  env "${memory[@]}" timeout --kill-after=5 "$limit" \
    "$python" "$root/scripts/accelerator_$step.py" --out "$OUT" \
    --seconds $((limit * 4 / 5)) "${tiny[@]}" >"$OUT/logs/$step.txt" 2>&1 \
    </dev/null
  summary --step "$step" --code $? --seconds $((SECONDS - started)) \
    --limit "$limit"
done
summary --finish
