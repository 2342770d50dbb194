"""Renders Dagster's Helm chart with the values in `deploy/helm`, and tells what in it is not as it should be.

Usage: python -m benchmarks.chart --chart FOLDER [--kubernetes 1.33]

FOLDER is the unpacked chart, from `helm pull dagster/dagster --version … --untar`. Needs Python 3.12 or later with the
packages of `deploy/`, and `pip install helm-python-sdk kubernetes-validate`: Helm itself as a library, and Kubernetes'
own schemas. Asks neither the network nor a cluster.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from market_data_pipeline_tests.deployed import ENVIRONMENT, configured, instance, job_of, launcher

DEPLOY = Path(__file__).parents[1] / "deploy"
RELEASE, NAMESPACE = "dagster", "market-data"
KINDS = {"ConfigMap": 2, "Deployment": 3, "Role": 2, "RoleBinding": 2, "Service": 2, "ServiceAccount": 1}
"""What Kubernetes is given, without ConfigMaps of environments: no database, no broker, no Secret, no way in."""
SECRETS = {"market-data-postgresql", "market-data-keys"}
"""Those that docs/deploy.md makes beforehand."""
Values = dict[str, Any]
Manifest = dict[str, Any]


def main() -> int:
    """Renders and checks; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chart", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--kubernetes", default="", help="whose schemas; the newest that there are by default")
    asked = parser.parse_args()
    if not (asked.chart / "Chart.yaml").is_file():
        parser.error(f"{asked.chart} is no unpacked chart: it has no Chart.yaml")
    os.environ.update(ENVIRONMENT)
    values, settings = (
        yaml.safe_load((DEPLOY / "helm" / name).read_text()) for name in ("values.yaml", "settings.yaml")
    )
    with tempfile.TemporaryDirectory(prefix="chart-") as name:
        chart = Chart(asked.chart, Path(name))
        manifests = chart.render(values)
        print(f"{chart.title}: the values fit its schema, {len(manifests)} manifests")
        checks: dict[str, Callable[[], Iterator[str]]] = {
            "every value of ours changes something": lambda: without_effect(chart, values),
            "Kubernetes' schemas, strictly": lambda: against_kubernetes([*manifests, settings], asked.kubernetes),
            "what is there, and what it refers to": lambda: whole(manifests, settings),
            "image, account, rights": lambda: containers(manifests, values),
            "code server and web server can be reached": lambda: reached(manifests),
            "the instance is deploy/dagster.yaml's": lambda: same_instance(manifests, Path(name)),
            "a run's job is deploy/dagster.yaml's": lambda: same_job(manifests, Path(name)),
        }
        wrong = {title: list(check()) for title, check in checks.items()}
    for title, found in wrong.items():
        print(f"{'no ' if found else 'yes'} {title}", *found, sep="\n      ")
    return 1 if any(wrong.values()) else 0


class Chart:
    """A chart that Helm renders here, with the definitions at hand for those that its schema takes from the net."""

    def __init__(self, source: Path, folder: Path) -> None:
        import kubernetes_validate
        from helm_python import Chart as Loaded

        version = f"v{kubernetes_validate.latest_version()}-local"
        schemas = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / version
        self._folder = Path(shutil.copytree(source, folder / "chart"))
        for schema in self._folder.rglob("values.schema.json"):
            at_hand = f'"file://{schemas}/_definitions.json#/$defs/'
            schema.write_text(re.sub(r'"https?://[^"#]*/_definitions\.json#/definitions/', at_hand, schema.read_text()))
        loaded = Loaded.load(self._folder)
        self.title = f"{loaded.name} {loaded.version}"

    def render(self, values: Values) -> list[Manifest]:
        """The manifests for Kubernetes; Helm checks the values against the chart's schema first.

        Raises:
            helm_python.HelmError: the schema or a template does not take the values.
        """
        from helm_python import Chart as Loaded

        # loaded anew: rendering takes the parts that the values turn off out of what is loaded
        rendered = Loaded.load(self._folder).render(values, name=RELEASE, namespace=NAMESPACE)
        texts = [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
        return [each for text in texts for each in yaml.safe_load_all(text) if each]


def without_effect(chart: Chart, values: Values) -> Iterator[str]:
    """Values that may say anything: the chart renders the same, so it knows no such key, or not there."""
    from helm_python import HelmError

    before = chart.render(values)
    for path in leaves(values):
        changed = deepcopy(values)
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = other(holder[path[-1]])
        try:
            after = chart.render(changed)
        except HelmError:  # the chart reads it, and wants it as it is
            continue
        if after == before:
            yield ".".join(str(key) for key in path)


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all that is neither a map nor a list."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    if inner is None:
        yield path
        return
    for key, value in inner:
        yield from leaves(value, (*path, key))


def other(value: Any) -> Any:
    """Another value of the same type."""
    return (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value}x"


def against_kubernetes(manifests: list[Manifest], version: str) -> Iterator[str]:
    """What Kubernetes' own schemas do not take."""
    import kubernetes_validate

    for each in manifests:
        try:
            kubernetes_validate.validate(each, version or kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{each['kind']} {each['metadata']['name']}: {'.'.join(map(str, error.path))}: {error.message}"


def whole(manifests: list[Manifest], settings: Manifest) -> Iterator[str]:
    """Kinds that are too many or missing, and names that nothing has."""
    environments = [each for each in manifests if each["metadata"]["name"].endswith("-env")]
    found = [each["kind"] for each in manifests if each not in environments]
    number = {kind: found.count(kind) for kind in found}
    if number != KINDS:
        yield f"{number} instead of {KINDS}"
    names = {each["metadata"]["name"] for each in [*manifests, settings]}
    for name, _, pod in pods(manifests):
        for container in pod["containers"] + pod.get("initContainers", []):
            for given in container.get("envFrom") or []:
                (kind, reference), *_ = given.items()
                known = SECRETS if kind == "secretRef" else names
                if reference["name"] not in known and not reference.get("optional"):
                    yield f"{name} takes its environment from {reference['name']}, which nobody makes"


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """The deployments: name, labels of the pod, and what the pod is."""
    for each in manifests:
        if each["kind"] == "Deployment":
            template = each["spec"]["template"]
            yield each["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def containers(manifests: list[Manifest], values: Values) -> Iterator[str]:
    """Containers of another image, another account, or with rights that they do not need."""
    (server,) = values["dagster-user-deployments"]["deployments"]
    image = f"{server['image']['repository']}:{server['image']['tag']}"
    for name, _, pod in pods(manifests):
        if pod["serviceAccountName"] != values["global"]["serviceAccountName"]:
            yield f"{name}: account {pod['serviceAccountName']}"
        if not pod["securityContext"].get("runAsNonRoot"):
            yield f"{name} may be root"
        yield from (f"{name}: image {each['image']}" for each in pod["containers"] if each["image"] != image)
        for each in pod["containers"] + pod.get("initContainers", []):
            if each["securityContext"] != server["securityContext"]:
                yield f"{name}: {each['name']} has the rights {each['securityContext']}"
    (account,) = [each for each in manifests if each["kind"] == "ServiceAccount"]
    if account["metadata"].get("annotations") != values["serviceAccount"]["annotations"]:
        yield "the account lacks what Google knows it by"
    bound = [each["subjects"] for each in manifests if each["kind"] == "RoleBinding"]
    yield from (f"a role is bound to {each}" for each in bound if each[0]["name"] != account["metadata"]["name"])


def reached(manifests: list[Manifest]) -> Iterator[str]:
    """Services without a pod behind them, ports at which nobody listens, and a workspace that is not ours."""
    services = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "Service"}
    listening: dict[str, tuple[Any, ...]] = {}
    for service, spec in services.items():
        behind = [pod for _, labels, pod in pods(manifests) if spec["selector"].items() <= labels.items()]
        if len(behind) != 1:
            yield f"{service}: {len(behind)} deployments behind it"
            continue
        (container,) = behind[0]["containers"]
        said = " ".join(container.get("args", []) + container.get("command", []))
        (port,) = [each["port"] for each in spec["ports"]]
        probe = json.dumps(container.get("readinessProbe"))
        if f"-p {port}" not in said or str(port) not in probe:
            yield f"{service} is at {port}; the container runs {said!r} and is asked by {probe}"
        listening[service] = ("market_data_pipeline.definitions" in said, port)
    own = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    workspace = yaml.safe_load(data(manifests, "workspace.yaml"))
    if workspace != own:
        yield f"the workspace is {workspace} instead of {own}"
    where = workspace["load_from"][0]["grpc_server"]
    if listening.get(where["host"]) != (True, where["port"]):
        yield f"no code server at {where}"


def data(manifests: list[Manifest], file: str) -> str:
    """A file out of the one ConfigMap that has it."""
    (text,) = [each["data"][file] for each in manifests if file in (each.get("data") or {})]
    return str(text)


def same_instance(manifests: list[Manifest], folder: Path) -> Iterator[str]:
    """What the instance does not say as deploy/dagster.yaml does; Dagster's check and classes take both."""
    chart, own = both_instances(manifests, folder)
    for name in ("run_launcher_data", "run_coordinator_data", "compute_logs_data"):
        ours, theirs = configured(getattr(own, name)), configured(getattr(chart, name))
        if ours[0] is not theirs[0]:
            yield f"{name}: {theirs[0]} instead of {ours[0]}"
    for part in ("run_storage_data", "event_storage_data", "schedule_storage_data"):
        storage = configured(getattr(chart, part))[1]["postgres_db"]
        if storage["password"] != ENVIRONMENT["DAGSTER_PG_PASSWORD"] or storage["scheme"] != "postgresql+psycopg2":
            yield f"{part}: the password is not the Secret's, or the driver another"
    for key, said in own.settings.items():
        theirs = chart.settings.get(key, {"enabled": False})
        if not within(said, theirs):
            yield f"{key}: {theirs} instead of {said}"


def both_instances(manifests: list[Manifest], folder: Path) -> tuple[Any, Any]:
    """The chart's instance, and deploy/dagster.yaml."""
    made = []
    (folder / "rendered.yaml").write_text(data(manifests, "dagster.yaml"))
    for name, file in (("theirs", folder / "rendered.yaml"), ("ours", DEPLOY / "dagster.yaml")):
        (folder / name).mkdir(exist_ok=True)
        made.append(instance(file, folder / name))
    return made[0], made[1]


def within(said: Any, whole: Any) -> bool:
    """True where all that is said stands in the other, too, which may say more."""
    if isinstance(said, dict):
        return isinstance(whole, dict) and all(within(each, whole.get(key)) for key, each in said.items())
    return bool(said == whole)


def same_job(manifests: list[Manifest], folder: Path) -> Iterator[str]:
    """How a run's job differs from that of deploy/dagster.yaml; an asset's, too, which has a size of its own."""
    chart, own = (launcher(each, folder) for each in both_instances(manifests, folder))
    (server,) = [
        pod["containers"][0] for _, labels, pod in pods(manifests) if labels["component"] == "user-deployments"
    ]
    told = {each["name"]: each.get("value") for each in server["env"]}
    handed_on = json.loads(told.get("DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT") or "null")
    sized = {"dagster-k8s/config": json.dumps({"container_config": {"resources": {"limits": {"memory": "8Gi"}}}})}
    for title, tags in (("a run", {}), ("an asset", sized)):
        theirs = as_manifest(job_of(chart, tags, told["DAGSTER_CURRENT_IMAGE"], handed_on))
        ours = essence(as_manifest(job_of(own, tags, told["DAGSTER_CURRENT_IMAGE"])))
        yield from (f"{title}: {each}" for each in against_kubernetes([theirs], ""))
        for key, of in essence(theirs).items():
            if of != ours[key]:
                yield f"{title}: {key} is {of} instead of {ours[key]}"
        mounted = {each["configMap"]["name"] for each in theirs["spec"]["template"]["spec"]["volumes"]}
        if missing := mounted - {each["metadata"]["name"] for each in manifests}:
            yield f"{title} mounts {missing}, which nobody makes"


def as_manifest(job: Any) -> Manifest:
    """A job of Kubernetes' client as it goes to the cluster."""
    from kubernetes.client import ApiClient

    sent: Manifest = ApiClient().sanitize_for_serialization(job)
    return sent


def essence(job: Manifest) -> dict[str, Any]:
    """What of a job must be the same, whoever wrote the instance."""
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    of_container = ("image", "imagePullPolicy", "resources", "securityContext", "envFrom")
    of_pod = ("serviceAccountName", "automountServiceAccountToken", "securityContext", "restartPolicy")
    return {
        **{f"container.{key}": container.get(key) for key in of_container},
        **{f"pod.{key}": pod.get(key) for key in of_pod},
        "ttlSecondsAfterFinished": job["spec"].get("ttlSecondsAfterFinished"),
    }


if __name__ == "__main__":
    sys.exit(main())
