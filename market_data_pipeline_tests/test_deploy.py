"""What lies in deploy/: the libraries that read it accept it, its files agree with one another, and hold no secrets."""

import importlib
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.ref import InstanceRef
from sqlalchemy import create_engine

import market_data_pipeline
from market_data_pipeline.defs.build import build_definitions
from market_data_pipeline.defs.celery_runs import AskingCeleryRunLauncher
from market_data_pipeline.model.errors import SettingError
from market_data_pipeline.model.instruments import Instrument
from market_data_pipeline.pods import StepPods
from market_data_pipeline.settings import VARIABLES, Settings
from market_data_pipeline_tests import deployed
from market_data_pipeline_tests.defs.running import SmallSource, pipeline
from market_data_pipeline_tests.deployed import ENVIRONMENT, configured, job_of

PROJECT = Path(market_data_pipeline.__file__).parents[1]
DEPLOY = PROJECT / "deploy"
LIBRARIES = {
    "dagster.yaml": ["dagster_postgres", "dagster_k8s"],
    "celery/dagster.yaml": ["dagster_postgres", "dagster_celery"],
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def instance(name: str, home: Path) -> InstanceRef:
    """The instance that a file describes; Dagster checks all that is its own."""
    for library in LIBRARIES[name]:
        pytest.importorskip(library)
    return deployed.instance(DEPLOY / name, home)


@pytest.mark.parametrize("name", LIBRARIES)
def test_dagster_and_the_classes_that_it_names_accept_the_instance(name: str, tmp_path: Path) -> None:
    ref = instance(name, tmp_path)
    _, storage = configured(ref.storage_data)
    assert storage["postgres_db"]["password"] == "from-the-secret"
    from dagster_postgres.utils import pg_url_from_config

    # finds the driver that the address names; connects to nothing
    assert create_engine(pg_url_from_config(storage)).url.host == "db.example"
    assert configured(ref.run_coordinator_data)[0].__name__ == "QueuedRunCoordinator"
    # a run whose process is gone is taken up again, one way or the other
    monitoring, retries = ref.settings["run_monitoring"], ref.settings["run_retries"]
    assert monitoring["enabled"]
    assert (monitoring["max_resume_run_attempts"] > 0) != retries["enabled"]
    assert configured(ref.run_launcher_data)[0].__name__.endswith("RunLauncher")
    assert ref.custom_instance_class_data is None, "WaitingInstance is for SQLite"


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_limit_on_a_pool_holds_runs_in_the_queue_and_none_that_has_begun(name: str, tmp_path: Path) -> None:
    pools = instance(name, tmp_path).settings["concurrency"]["pools"]
    assert pools == {"granularity": "run"}, "no limit: who sets one thinks of the vendor"


def test_a_key_that_the_launcher_does_not_know_would_be_found(tmp_path: Path) -> None:
    data = instance("dagster.yaml", tmp_path).run_launcher_data
    assert data is not None
    made = getattr(importlib.import_module(data.module_name), data.class_name)
    result = process_config(made.config_type(), {**yaml.safe_load(data.config_yaml), "job_imagee": "x"})
    assert [error.message for error in result.errors or ()] != []


@pytest.fixture
def launcher(tmp_path: Path) -> Any:
    """Dagster's launcher as the instance configures it, for a cluster that does not answer."""
    return deployed.launcher(instance("dagster.yaml", tmp_path), tmp_path)


def pod_of(launcher: Any, tags: dict[str, str]) -> Any:
    """The pod that is made for a run or a step with these tags."""
    return job_of(launcher, tags).spec.template.spec


def test_the_pod_of_a_run_has_image_settings_keys_and_account_and_is_not_root(launcher: Any) -> None:
    pod = pod_of(launcher, {})
    assert pod.service_account_name == read("helm/values.yaml")["global"]["serviceAccountName"]
    assert pod.security_context.run_as_non_root
    (container,) = pod.containers
    assert container.image == ENVIRONMENT["MARKET_DATA_IMAGE"]
    assert container.security_context.allow_privilege_escalation is False
    assert container.resources.limits["memory"] == "4Gi"
    maps = [each.config_map_ref.name for each in container.env_from if each.config_map_ref]
    keys = [each.secret_ref.name for each in container.env_from if each.secret_ref]
    assert (maps, keys) == ([read("helm/settings.yaml")["metadata"]["name"]], ["market-data-keys"])
    given = {each.name: each.value for each in container.env}
    # all that the instance reads from the environment reaches the run
    named = set(re.findall(r"\{env: (\w+)\}", (DEPLOY / "dagster.yaml").read_text()))
    assert named <= given.keys()
    assert given["DAGSTER_PG_HOST"] == "db.example"
    assert given["DAGSTER_PG_PASSWORD"] is None, "it comes from the Secret, and stands in no manifest"


def test_a_run_has_the_image_of_the_code_server_and_with_its_config_would_have_its_size(launcher: Any) -> None:
    image, small = "registry.example/market-data-pipeline:0.2.0", {"memory": "1Gi"}
    (container,) = job_of(launcher, {}, image).spec.template.spec.containers
    assert (container.image, container.resources.limits["memory"]) == (image, "4Gi")
    # so the values do not include the code server's config in runs
    (container,) = job_of(launcher, {}, image, {"k8s": {"resources": {"limits": small}}}).spec.template.spec.containers
    assert container.resources.limits["memory"] == "1Gi"


def test_an_assets_pod_has_its_size(launcher: Any, tmp_path: Path) -> None:
    settings = Settings.load({"MARKET_DATA_STEP_PODS": "500m:1Gi,ticks=2:4Gi"}, tmp_path)
    defs = build_definitions(settings)
    assert defs.executor is not None
    assert defs.executor.name == "pods"  # type: ignore[union-attr]
    graph = {asset.key.path[-1]: asset.op for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)}
    sizes = {name: pod_of(launcher, dict(op.tags)).containers[0].resources for name, op in graph.items()}
    assert {"cpu": "2", "memory": "4Gi"}.items() <= sizes["trades"].requests.items()
    assert {"cpu": "500m", "memory": "1Gi"}.items() <= sizes["ohlcv_1m"].requests.items()
    assert [sizes[name].limits["memory"] for name in ("trades", "ohlcv_1m")] == ["4Gi", "1Gi"]
    assert sizes["trades"].requests["ephemeral-storage"] == "20Gi", "what is not said is as a run's"


def test_the_command_line_stays_in_one_process_where_assets_have_pods(tmp_path: Path) -> None:
    pytest.importorskip("dagster_k8s")
    settings = Settings(lake=str(tmp_path / "lake"), step_pods=StepPods.parse("1:2Gi"))
    with pipeline(settings, SmallSource([Instrument.parse("binance:SPOT_PAIR:BTC-USDT")])) as running:
        assert running.run("2024-08-08").clean


def test_without_the_setting_nothing_is_of_kubernetes() -> None:
    defs = build_definitions(Settings())
    assert defs.executor is dg.in_process_executor
    tags = [asset.op.tags for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
    assert [each for each in tags if "dagster-k8s/config" in each] == []


def test_pods_without_the_library_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dagster_k8s", None)
    with pytest.raises(
        SettingError, match=r"MARKET_DATA_STEP_PODS needs dagster-k8s, which deploy/Dockerfile installs"
    ):
        build_definitions(Settings(step_pods=StepPods.parse("1:2Gi")))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2Gi", "'2Gi' is not understood; write cores and memory as 1:2Gi"),
        ("1:2GB", "'1:2GB' is not understood"),
        ("0:2Gi", "'0:2Gi' is not understood"),
        ("1:2Gi,bars=1:1Gi", "'bars' is no asset and no kind; kinds are ticks, candles"),
        ("ticks=1:2Gi", "no size for all the other assets; begin with one, as 1:2Gi"),
        ("1:2Gi,=1:2Gi", "'' is no asset and no kind"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(SettingError, match=f"MARKET_DATA_STEP_PODS: {re.escape(why)}"):
        Settings.load({"MARKET_DATA_STEP_PODS": text}, tmp_path)


def snake_case(given: Any) -> Any:
    """The same with keys as `dagster.yaml` spells them."""
    if isinstance(given, list):
        return [snake_case(each) for each in given]
    if not isinstance(given, dict):
        return given
    return {re.sub("[A-Z]", lambda at: f"_{at[0].lower()}", key): snake_case(each) for key, each in given.items()}


def test_the_charts_values_say_what_the_instance_says() -> None:
    values, own = read("helm/values.yaml"), read("dagster.yaml")
    launcher = own["run_launcher"]["config"]
    assert snake_case(values["concurrency"]) == {"enabled": True, **own["concurrency"]}
    assert snake_case(values["dagsterDaemon"]["runMonitoring"]) == own["run_monitoring"]
    chart = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert snake_case(chart["runK8sConfig"]) == launcher["run_k8s_config"]
    for given in ("env_config_maps", "env_secrets"):
        assert [each["name"] for each in snake_case(chart)[given]] == launcher[given]
    assert values["global"]["serviceAccountName"] == launcher["service_account_name"]
    assert values["global"]["postgresqlSecretName"] == launcher["postgres_password_secret"]
    assert values["postgresql"]["postgresqlScheme"] == own["storage"]["postgres"]["postgres_db"]["scheme"]
    assert values["global"]["dagsterHome"] == launcher["dagster_home"]
    assert values["retention"]["sensor"]["purgeAfterDays"] == own["retention"]["sensor"]["purge_after_days"]
    assert values["pythonLogs"]["managedPythonLoggers"] == own["python_logs"]["managed_python_loggers"]


def test_the_chart_runs_one_image_without_root_and_its_code_is_this_project() -> None:
    values = read("helm/values.yaml")
    (code,) = values["dagster-user-deployments"]["deployments"]
    parts = [code, values["dagsterWebserver"], values["dagsterDaemon"]]
    assert len({yaml.safe_dump(part["image"]) for part in parts}) == 1
    assert code["image"]["tag"] == importlib.metadata.version("market-data-pipeline")
    assert all(part["podSecurityContext"]["runAsNonRoot"] for part in parts)
    # below 1024 only root may listen
    assert min(code["port"], values["dagsterWebserver"]["service"]["port"]) >= 1024
    assert (
        values["dagsterWebserver"]["readinessProbe"]["httpGet"]["port"] == values["dagsterWebserver"]["service"]["port"]
    )
    assert importlib.import_module(code["dagsterApiGrpcArgs"][-1]).defs
    assert read("workspace.yaml")["load_from"] == [
        {"grpc_server": {"host": code["name"], "port": code["port"], "location_name": code["name"]}}
    ]
    assert code["envConfigMaps"] == [{"name": read("helm/settings.yaml")["metadata"]["name"]}]
    # runs have settings and keys of the launcher; with the code server's they would have its size, too
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    assert not code["includeConfigInLaunchedRuns"]["enabled"]
    assert [launcher[given] for given in ("envConfigMaps", "envSecrets")] == [code["envConfigMaps"], code["envSecrets"]]
    assert "iam.gke.io/gcp-service-account" in values["serviceAccount"]["annotations"]


def test_the_settings_on_kubernetes_are_settings(tmp_path: Path) -> None:
    given = read("helm/settings.yaml")["data"]
    assert given.keys() <= {variable.name for variable in VARIABLES}
    settings = Settings.load(given, tmp_path)
    assert settings.days_per_run == 7
    assert settings.lake.startswith("gs://")


def test_the_image_takes_the_pinned_versions_no_root_and_only_what_is_let_through() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == [
        "FROM python:3.12-slim AS build",
        "FROM python:3.12-slim",
    ]
    assert any("pip install" in line and "-c constraints.txt" in line for line in lines)
    user = read("helm/values.yaml")["dagsterDaemon"]["podSecurityContext"]["runAsUser"]
    assert [line for line in lines if line.startswith("USER")] == [f"USER {user}:{user}"]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    copied = {name for line in lines if re.match(r"COPY (?!--from)", line) for name in line.split()[1:-1]}
    assert copied == let_through
    assert all((PROJECT / name).exists() for name in copied)


def test_no_password_and_no_key_stands_in_the_folder() -> None:
    known = r"(?!market-data|\{env: |(?:false|true)$)"
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            said = re.findall(rf"(?im)(?:password|token|api_key)\w*: *{known}\S.*$", path.read_text())
            assert said == [], path


def test_celerys_workers_take_one_run_for_each_process_and_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_celery")
    monkeypatch.syspath_prepend(DEPLOY / "celery")
    monkeypatch.delitem(sys.modules, "dagster_celery_config", raising=False)
    from dagster_celery.make_app import make_app

    conf = make_app().conf
    monkeypatch.delitem(sys.modules, "dagster_celery_config")
    assert conf.broker_url == ENVIRONMENT["DAGSTER_CELERY_BROKER"]
    assert conf.result_backend == ENVIRONMENT["DAGSTER_CELERY_BACKEND"]
    assert (conf.worker_max_tasks_per_child, conf.worker_disable_prefetch) == (1, True)
    longest = read("celery/dagster.yaml")["run_monitoring"]["max_runtime_seconds"]
    assert min(conf.result_expires, conf.broker_transport_options["visibility_timeout"]) > longest


def test_dagster_sends_runs_to_the_broker_that_the_workers_listen_to(tmp_path: Path) -> None:
    made, config = configured(instance("celery/dagster.yaml", tmp_path).run_launcher_data)
    launcher: Any = made.from_config_value(None, config)  # type: ignore[attr-defined]
    assert launcher.celery.conf.broker_url == ENVIRONMENT["DAGSTER_CELERY_BROKER"]
    assert launcher.celery.conf.result_backend == ENVIRONMENT["DAGSTER_CELERY_BACKEND"]
    assert isinstance(launcher, AskingCeleryRunLauncher)


def test_the_page_installs_the_versions_that_are_pinned() -> None:
    page = (PROJECT / "docs" / "deploy.md").read_text()
    pins = dict(line.split("==") for line in (PROJECT / "constraints.txt").read_text().split())
    assert set(re.findall(r"--version (\S+)", page)) == {pins["dagster"]}
    tag = read("helm/values.yaml")["dagster-user-deployments"]["deployments"][0]["image"]["tag"]
    assert set(re.findall(r"market-data-pipeline:([\w.]+)", page)) == {tag}
    named = set(re.findall(r"(?:deploy/)[\w./]+\w", page))
    assert named
    assert [name for name in named if not (PROJECT / name).exists()] == []
