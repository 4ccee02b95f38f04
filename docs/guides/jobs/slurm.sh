#!/usr/bin/env bash
# The papers' tables on one node of eight GPUs: DATA=/data OUT=/results sbatch docs/guides/jobs/slurm.sh
# Submit it again to continue (--requeue does so after a preemption): finished stages are kept, others are resumed.
#SBATCH --job-name=vreid-tables
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --mem=800G
#SBATCH --time=4-00:00:00
#SBATCH --requeue
#SBATCH --output=vreid-%j.log
set -euo pipefail
: "${DATA:?set DATA to the folder that holds AIC21_Track2_ReID and AIC21_Track2_ReID_Simulation}"
: "${OUT:?set OUT to the output folder, on a disk with 100 GB}"
export OMP_NUM_THREADS=4

srun torchrun --standalone --nproc-per-node 8 -m vreid table dmt.1 dmt.2 dmt.3 dmt.4 dmt.5 dmt.6 --scale paper \
    --data "$DATA/AIC21_Track2_ReID" --data "$DATA/AIC21_Track2_ReID_Simulation" --out "$OUT" --device cuda
