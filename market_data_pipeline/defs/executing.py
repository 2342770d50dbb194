"""Where the steps of a run are executed: in the run's own process, or on Kubernetes each in a pod of its own."""

from typing import Any

import dagster as dg

from market_data_pipeline.model.datasets import Dataset
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.pods import StepPods

AT_ONCE = 4
"""Pods of one run that work at once: assets that do not follow from one another."""


def executor(pods: StepPods) -> dg.ExecutorDefinition:
    """What executes the steps of a run that Dagster launches; `make` and the command line always stay in one process.

    Raises:
        SettingError: pods are asked for, and dagster-k8s is not installed.
    """
    if not pods:
        # steps that start a process each cost more than a small day's work; parallel work goes to threads in a step
        return dg.in_process_executor
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError:
        raise SettingError(
            "MARKET_DATA_STEP_PODS needs dagster-k8s, which deploy/Dockerfile installs; elsewhere leave it empty"
        ) from None
    made: dg.ExecutorDefinition = k8s_job_executor.configured({"max_concurrent": AT_ONCE}, name="pods")
    return made


def op_tags(pods: StepPods, dataset: Dataset) -> dict[str, Any]:
    """The tags by which dagster-k8s gives an asset's pod its size; none where assets have no pods of their own."""
    size = pods.size(dataset)
    if size is None:
        return {}
    # no limit of CPU: what is idle on the node may be used
    resources = {"requests": {"cpu": size.cpu, "memory": size.memory}, "limits": {"memory": size.memory}}
    return {"dagster-k8s/config": {"container_config": {"resources": resources}}}
