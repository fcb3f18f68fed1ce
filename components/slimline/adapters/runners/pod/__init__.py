"""Run a job as a Kubernetes pod that lives on when its worker dies.

How it works: a job has one pod, named after its identity. Creating it is what decides: of two
workers one makes it, the other finds it there and attaches. So after `kill -9` of a worker the
retry, on whatever machine, follows the same pod: its log from the start, its exit code. The pod
is built by Airflow's KubernetesPodOperator; results travel in the store.

A pod that ended well is kept until the one who asked for it has read the result; one that failed
is kept for people to look at, until the next try takes its name.

    runner.py     start, attach, wait, stop, discard
    spec.py       what a pod is given: image, limits, security, environment, volumes
    settings.py   what SLIMLINE_POD_* say, and what of the worker's environment a pod may see
    state.py      what a pod's status says, with the cure
    log.py        its log, each line once, also across a broken connection
    api.py        the calls to the Kubernetes API, and its failures
    sweep.py      removes what nobody came back for

What it does not do: give a job that starts containers an engine, or mount the worker's files. A
pod that a node lost is told as killed: if its job had ended well, the next try finds the result.
"""

from slimline.adapters.runners.pod.runner import PodHandle, PodRunner

__all__ = ["PodHandle", "PodRunner"]
