"""Dagster's instances in deploy/ as Dagster understands them, and the jobs that they would send to a cluster."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

ENVIRONMENT = {
    "DAGSTER_PG_HOST": "db.example",
    "DAGSTER_PG_USERNAME": "dagster",
    "DAGSTER_PG_PASSWORD": "from-the-secret",
    "DAGSTER_PG_DB": "dagster",
    "DAGSTER_K8S_NAMESPACE": "market-data",
    "DAGSTER_LOGS_BUCKET": "logs",
    "MARKET_DATA_IMAGE": "registry.example/market-data-pipeline:0.1.0",
    "DAGSTER_CELERY_BROKER": "redis://broker.example:6379/0",
    "DAGSTER_CELERY_BACKEND": "redis://broker.example:6379/1",
}
"""What the instances read from the environment."""


def instance(file: Path, home: Path) -> InstanceRef:
    """The instance that a file describes; Dagster checks all that is its own.

    Raises:
        dagster.DagsterInvalidConfigError: a key or a value that Dagster does not know.
    """
    shutil.copy(file, home / "dagster.yaml")
    return InstanceRef.from_dir(str(home))


def configured(data: Any) -> tuple[type, Any]:
    """The class that a part of an instance names, and its configuration as that class understands it."""
    made = getattr(importlib.import_module(data.module_name), data.class_name)
    result = process_config(made.config_type(), yaml.safe_load(data.config_yaml))
    assert result.success, [error.message for error in result.errors or ()]
    return made, result.value


def launcher(ref: InstanceRef, folder: Path) -> Any:
    """Dagster's launcher as the instance configures it, for a cluster that does not answer."""
    made, config = configured(ref.run_launcher_data)
    cluster, user = {"server": "http://127.0.0.1:1"}, {"name": "none", "user": {}}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "none", "cluster": cluster}],
        "users": [user],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "current-context": "none",
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    apart = {"load_incluster_config": False, "kubeconfig_file": str(folder / "kubeconfig")}
    return made.from_config_value(None, {**config, **apart})  # type: ignore[attr-defined]


def job_of(launcher: Any, tags: dict[str, str], image: str | None = None, server: Any = None) -> Any:
    """The job that is sent for a run or a step with these tags.

    `image` is the code server's, without which it is the launcher's; `server` what the code server hands on to runs:
    the container context of its environment.
    """
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import construct_dagster_k8s_job

    code = ModuleCodePointer("market_data_pipeline.definitions", "defs", None)
    origin = JobPythonOrigin("daily", RepositoryPythonOrigin("python", code, image, container_context=server))
    run = dg.DagsterRun("daily", tags=tags, job_code_origin=origin)
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=True)
    config = context.get_k8s_job_config(image, launcher)
    return construct_dagster_k8s_job(config, ["dagster"], "run", user_defined_k8s_config=context.run_k8s_config)
