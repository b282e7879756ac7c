#!/bin/sh
# Run one process of a dist_sync job that a cluster has started: cluster_role.sh RANK COMMAND...
# Rank 0 is the scheduler, the next DMLC_NUM_SERVER ranks are servers, the rest run COMMAND.
# Set DMLC_NUM_WORKER, DMLC_NUM_SERVER and DMLC_PS_ROOT_URI, the host of rank 0.
: "${DMLC_NUM_WORKER:?}" "${DMLC_NUM_SERVER:?}" "${DMLC_PS_ROOT_URI:?}" "${2:?no COMMAND}"
export DMLC_PS_ROOT_PORT="${DMLC_PS_ROOT_PORT:-9091}" PYTHONUNBUFFERED=1
worker=$(($1 - 1 - DMLC_NUM_SERVER))
if [ "$worker" -ge "$DMLC_NUM_WORKER" ]; then
    echo "rank $1 of a job of $((1 + DMLC_NUM_SERVER + DMLC_NUM_WORKER)) processes" >&2
    exit 2
fi
shift
if [ "$worker" -ge 0 ]; then
    export DMLC_ROLE=worker DMR_WORKER="$worker"
    exec "$@"
fi
if [ "$worker" -eq $((-1 - DMLC_NUM_SERVER)) ]; then
    export DMLC_ROLE=scheduler DMLC_USE_KUBERNETES=1  # listen on all interfaces
else
    export DMLC_ROLE=server
fi
trap '' TERM  # workers take a last step and save, which needs the servers
OMP_NUM_THREADS=1 exec python -c 'import dmr_gluon.runtime'
