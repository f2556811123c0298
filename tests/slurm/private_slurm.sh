#!/usr/bin/env bash
# Run a command on a SLURM of its own: two nodes of two cores on this machine, without accounting.
#
#     tests/slurm/private_slurm.sh COMMAND [ARGUMENTS]
#
# Needs root and the packages slurm-wlm and munge (Debian, Ubuntu). Network, mounts and processes are in namespaces of
# their own: the ports are free, and everything that was started ends with the command. Exits with 77, and one line
# that says why, where there can be no such SLURM.
set -eu
skip() { echo "no private SLURM: $1" >&2; exit 77; }

if [ "${FER_SLURM_INSIDE-}" = "" ]; then
  [ "$(id -u)" = 0 ] || skip "needs root"
  for tool in slurmctld slurmd munged unshare; do
    command -v "$tool" >/dev/null || skip "$tool is missing: apt-get install slurm-wlm munge"
  done
  unshare --net --mount --pid --fork true 2>/dev/null || skip "this machine allows no namespaces"
  FER_SLURM_INSIDE=$(mktemp -d) || exit 1
  export FER_SLURM_INSIDE
  trap 'rm -rf "$FER_SLURM_INSIDE"' EXIT
  code=0
  unshare --net --mount --pid --fork --kill-child --mount-proc bash "$0" "$@" || code=$?
  exit "$code"
fi

folder=$FER_SLURM_INSIDE
chmod 755 "$folder"
mkdir "$folder/state" "$folder/spool-node1" "$folder/spool-node2"
ip link set lo up
ip addr add 10.77.0.1/32 dev lo # with loopback addresses alone, SLURM resolves no name
printf '127.0.0.1 localhost node1 node2 %s\n' "$(hostname)" > "$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts

head -c 128 /dev/urandom > "$folder/munge.key"
chmod 600 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" 2> "$folder/munged.err"

export SLURM_CONF=$folder/slurm.conf
cat > "$SLURM_CONF" <<CONF
ClusterName=private
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=5
OverTimeLimit=0
SlurmdTimeout=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[27001-27002] CPUs=2 State=UNKNOWN
PartitionName=cpu Nodes=node[1-2] Default=YES PriorityTier=1
PartitionName=urgent Nodes=node[1-2] PriorityTier=10 PreemptMode=OFF
CONF
slurmctld -c
slurmd -N node1
slurmd -N node2
for _ in $(seq 100); do
  [ "$(sinfo --noheader --format=%D --states=idle --partition=cpu)" = 2 ] && break
  sleep 0.1
done
code=0
"$@" || code=$? # this shell stays the first process of its namespace, and reaps those that others left
exit "$code"
