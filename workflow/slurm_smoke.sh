#!/usr/bin/env bash
# Whether the pipeline runs on a real Slurm: one of one node is started, used, and stopped.
#
#     apt-get install slurm-wlm munge
#     .venv/bin/pip install -c requirements.lock -e '.[cluster]'
#     workflow/slurm_smoke.sh [PYTHON]
#
# As root, on Debian or Ubuntu. Two configurations with two seeds each are trained for a few steps, as
# a job array; one job is killed by SIGKILL, and Snakemake submits it again. Then `train.sbatch` meets
# its time limit, goes back into the queue, goes on, and records. Another one is cancelled. Slurm's
# settings are in /etc/slurm meanwhile. All other files are in a scratch folder, the checkout that is
# trained in too.
# `results/slurm_smoke.log` is what one run of this script printed.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(realpath -s "${1:-.venv/bin/python}")
work=$(mktemp -d)
chmod 755 "$work"
export PYTHONPATH=$work/checkout OMP_NUM_THREADS=1
# In the usual place: within a job Snakemake drops the variables of Slurm, SLURM_CONF among them.
settings=/etc/slurm
if [ -e $settings/slurm.conf ] || [ -e $settings/gres.conf ] || [ -e $settings/cgroup.conf ]; then
  echo "there is a Slurm here already: see $settings" >&2
  exit 1
fi
daemons=(slurmd slurmctld munged)

stop() {
  [ -z "${pipeline:-}" ] || kill -KILL "$pipeline" 2>/dev/null || true
  if scancel --me 2>/dev/null; then sleep 5; fi # until the jobs have ended
  for daemon in "${daemons[@]}"; do
    process=$(cat "$work/$daemon.pid" 2>/dev/null) || continue
    kill "$process" 2>/dev/null || true
    for _ in $(seq 50); do # it writes until it ends
      kill -0 "$process" 2>/dev/null || break
      sleep 0.2
    done
  done
  if [ "${finished:-no}" = no ]; then
    tail -n 20 "$work"/*.log "$work"/slurm-*.out >&2 || true
  fi
  rm -rf "$work" $settings/{slurm,gres,cgroup}.conf
}
trap stop EXIT
trap 'exit 1' INT TERM

say() { printf '\n== %s\n' "$*"; }
until_true() { # for at most five minutes
  for _ in $(seq 300); do
    if "$@" >"$work/until.log" 2>&1; then return; fi
    sleep 1
  done
  echo "in vain: $*" >&2
  return 1
}

mkdir -p $settings "$work/checkout/data" "$work/state" "$work/spool"
cp -r nvp configs examples workflow results pyproject.toml "$work/checkout"
rm -rf "$work/checkout/results/runs"
cp -r data/fashion-mnist-small* "$work/checkout/data"

mungekey --create --keyfile="$work/munge.key"
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" \
  --pid-file="$work/munged.pid" --log-file="$work/munged.log" --seed-file="$work/munge.seed"

cat >$settings/slurm.conf <<CONF
ClusterName=smoke
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$work/jobs
GresTypes=gpu
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
# Two devices stand in for GPUs, so that the request for one is tested.
printf 'NodeName=%s Name=gpu File=%s\n' "$(hostname -s)" /dev/null "$(hostname -s)" /dev/zero \
  >$settings/gres.conf
echo "CgroupPlugin=disabled" >$settings/cgroup.conf

slurmctld
slurmd
node_is_idle() { sinfo --noheader --format=%T | grep -q idle; }
until_true node_is_idle
say "$(sinfo --version), on one node"
sinfo --format='%P %D %c cpus, %m MB, %G, %T'

cd "$work/checkout"
say "two configurations, two seeds each, as a job array"
runs=(build/seeds/{quickstart,fashion-small-pixelcnn}/{0,1})
short='set=["training.steps=12","training.minutes=null","training.log_every=1","training.checkpoint_minutes=0.02","training.validate_minutes=.inf"]'
"$python" -m snakemake --snakefile workflow/Snakefile --workflow-profile workflow/profiles/slurm \
  --slurm-array-jobs=seed --retries=1 --slurm-init-seconds-before-status-checks=5 \
  --slurm-status-command=squeue `# there is no accounting database` \
  --set-threads seed=1 --set-resources seed:mem_mb=1500 seed:gres=gpu:1 --config "$short" \
  -- "${runs[@]/%//finished}" >"$work/snakemake.log" 2>&1 &
pipeline=$!

killed=${runs[0]}
until_true test -s "$killed/checkpoint.safetensors"
process=$(sed 's/process \([0-9]*\) on.*/\1/' "$killed/.lock")
task() { tr '\0' '\n' <"/proc/$process/environ" | sed -n "s/^SLURM_ARRAY_$1_ID=//p"; }
scancel --signal=KILL --full "$(task JOB)_$(task TASK)"
say "killed $killed by SIGKILL, after step $(tail -n 1 "$killed/log.csv" | cut -d, -f1) of 12"
wait "$pipeline"
for run in "${runs[@]}"; do
  echo "$run: $(tail -n +2 "$run/log.csv" | cut -d, -f1 | sort -un | wc -l) steps logged, the last" \
    "is $(tail -n 1 "$run/log.csv" | cut -d, -f1); $(grep seed "$run/config.yaml" | xargs)"
done

say "train.sbatch meets its time limit of three minutes, and goes on"
job=$(REPLACE=1 NVP=$(dirname "$python")/nvp sbatch --parsable --time=3 --cpus-per-task=1 --mem=1500 \
  --output="$work/slurm-%j.out" workflow/train.sbatch configs/fashion-small-vae.yaml \
  --set training.minutes=2.5)
ended() {
  # Otherwise a job that went back into the queue waits there for two minutes.
  scontrol update jobid="$job" starttime=now || true
  ! squeue --noheader --jobs="$job" | grep -q .
}
until_true ended || until_true ended
sed "s|$PWD/||; s|-$(hostname -s):|:|; s| ON $(hostname -s)||" "$work/slurm-$job.out"
test -s results/runs/fashion-small-vae/run.json

say "scancel ends a job whose step is saved"
job=$(NVP=$(dirname "$python")/nvp sbatch --parsable --time=5 --cpus-per-task=1 --mem=1500 \
  --output="$work/slurm-%j.out" workflow/train.sbatch configs/fashion-small-gan.yaml \
  --set training.minutes=4 --set training.checkpoint_minutes=0.05)
until_true test -s build/runs/fashion-small-gan/checkpoint.safetensors
scancel "$job"
gone() { ! squeue --noheader --jobs="$job" 2>/dev/null | grep -q .; }
until_true gone
grep "which is saved" "$work/slurm-$job.out"

say "sacct"
# It complains of the fields of job arrays, which it does not know in a text file.
sacct --completion --format='JobID%-8,JobName%-8,State%-12' 2>"$work/sacct.log"
finished=yes
