#!/usr/bin/env bash
# Train on several machines of a SLURM cluster: sbatch scripts/slurm.sh fruits --output_dir runs/x
#
# Two minutes before the time is up SLURM sends SIGTERM here, and when the job is preempted, if the
# cluster has PreemptParameters=send_user_signal. The run saves a checkpoint, and the job goes into
# the queue again: --resume_from_checkpoint auto begins the first time, and resumes the next times.
#SBATCH --job-name=hffruits
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u

: "${SLURM_JOB_ID:?run it with sbatch}"
MAIN_HOST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MAIN_HOST

export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds to save; PyTorch's own default is 30

signalled=
trap 'signalled=yes; scancel --signal=TERM "$SLURM_JOB_ID"' TERM # the step's; srun would kill at once

# shellcheck disable=SC2016 # each machine reads its own SLURM_PROCID
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
    exec accelerate launch --config_file scripts/accelerate/nodes.yaml --max_restarts 3 \
        --num_machines "$SLURM_NNODES" \
        --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" \
        --machine_rank "$SLURM_PROCID" --main_process_ip "$MAIN_HOST" \
        scripts/train.py "$@" --resume_from_checkpoint auto' train "$@" &
step=$!
wait "$step"
code=$?
if [ -n "$signalled" ]; then
    wait "$step" # the signal ended the first one
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
