#!/bin/bash
# A SLURM of one node, this machine, from Debian's packages: to try `--on slurm` without a cluster. As root:
#
#   export SLURM_CONF=$PWD/slurm_test/slurm.conf
#   scripts/slurm_one_node.sh start slurm_test
#   stylealign study study.yaml --data faces --out study --on slurm --cluster.cpus 1
#   scripts/slurm_one_node.sh stop slurm_test
#
# `restart` ends the controller and starts it again, as an administrator would; jobs go on meanwhile. All files lie in
# the folder, but for the key of munge (/etc/munge), which is made where there is none. It needs no cgroups: the number
# of cores is all that it shares out.
set -euo pipefail
what=${1:?start, stop or restart, and a folder}
folder=${2:?a folder for its files}
mkdir -p "$folder"/{state,spool}
folder=$(cd "$folder" && pwd)
export SLURM_CONF=$folder/slurm.conf

end() { # NAME: end what start has started under this name, and wait for it
  [ -e "$folder/$1.pid" ] || return 0
  pid=$(cat "$folder/$1.pid")
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
}

idle() { # wait until the node takes jobs
  for _ in $(seq 60); do sinfo -h -o %T 2>/dev/null | grep -Eq 'idle|mixed|allocated' && return 0; sleep 1; done
  echo "no node after 60 s; see $folder/*.log" >&2
  return 1
}

case $what in
stop)
  scancel --user root 2>/dev/null || true
  for name in slurmd slurmctld munged; do end $name; done
  ;;
restart)
  end slurmctld
  sleep 3
  slurmctld
  idle
  ;;
start)
  command -v slurmctld slurmd munged >/dev/null || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
  }
  host=$(hostname -s)
  getent hosts "$host" >/dev/null || echo "127.0.0.1 $host" >>/etc/hosts
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
NodeName=$host CPUs=$(getconf _NPROCESSORS_ONLN) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  if ! munge -n >/dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge:munge /run/munge
    if [ ! -e /etc/munge/munge.key ]; then
      (umask 077 && head -c 1024 /dev/urandom >/etc/munge/munge.key)
      chown munge:munge /etc/munge/munge.key
    fi
    su munge -s /bin/bash -c /usr/sbin/munged
    cp /run/munge/munged.pid "$folder/munged.pid"
  fi
  slurmctld
  for _ in $(seq 20); do scontrol ping 2>/dev/null | grep -q UP && break; sleep 0.5; done
  slurmd
  idle
  sinfo
  ;;
*)
  echo "found $what, expected start, stop or restart" >&2
  exit 2
  ;;
esac
