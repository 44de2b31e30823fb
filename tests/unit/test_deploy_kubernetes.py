"""deploy/kubernetes: the manifests are valid for the API of Kubernetes, and fit together and with what they run.

Asked of the files as they are, so that it is asked wherever tests run; only what Kustomize makes of them needs kubectl.
"""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from server.settings import ServerSettings
from server.streams.topology.address import parse_address

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE, COMPONENT = FOLDER / "base", FOLDER / "components" / "scale-on-connections"
HAPROXY = FOLDER.parent / "haproxy" / "haproxy.cfg"
#: The oldest one whose HorizontalPodAutoscaler and probes these files use, and the newest whose schemas there are.
VERSIONS = ("1.29.0", "1.37.0")
#: Of a server and of a worker, beyond its drain: see docs/settings.md.
LEAVE_SECONDS = 8
DEPLOYMENTS = ("reprise-server", "reprise-worker", "reprise-haproxy")
validate: Any = import_module("kubernetes_validate").validate
ValidationError: Any = import_module("kubernetes_validate").ValidationError

#: Debian has only one that is too old to render components.
needs_kubectl = pytest.mark.skipif(which("kubectl") is None, reason="there is no kubectl here to render them")


def documents(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(text) if found]


def manifests(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*.yaml") if each.name != "kustomization.yaml")


def rendered(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return documents(done.stdout)


def kustomization(folder: Path) -> dict[str, Any]:
    (found,) = documents((folder / "kustomization.yaml").read_text())
    return found


@pytest.fixture
def base() -> list[dict[str, Any]]:
    return [each for path in manifests(BASE) for each in documents(path.read_text())]


@pytest.fixture(scope="module")
def example() -> list[dict[str, Any]]:
    return rendered(FOLDER / "overlays" / "example")


def generated(folder: Path, generator: str, name: str) -> dict[str, str]:
    """What a ConfigMap or Secret that Kustomize generates has in it."""
    (literals,) = [each["literals"] for each in kustomization(folder)[generator] if each["name"] == name]
    return dict(each.split("=", 1) for each in literals)


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (only,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == name]
    return only


def pod_of(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return named(found, "Deployment", name)["spec"]["template"]["spec"]


def container_of(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (only,) = pod_of(found, name)["containers"]
    return only


def environment_of(found: list[dict[str, Any]], name: str) -> dict[str, str | None]:
    return {each["name"]: each.get("value") for each in container_of(found, name)["env"]}


def pre_stop_seconds(container: dict[str, Any]) -> int:
    return int(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])[1])


def patched(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest as the component changes it (JSON patches on members of objects, which is all it has)."""
    for patch in kustomization(COMPONENT)["patches"]:
        if (patch["target"]["kind"], patch["target"]["name"]) == (manifest["kind"], manifest["metadata"]["name"]):
            for step in yaml.safe_load(patch["patch"]):
                assert step["op"] in {"add", "replace"}
                *way, last = step["path"].split("/")[1:]
                place = manifest
                for member in way:
                    place = place[member]
                assert (last in place) == (step["op"] == "replace"), step["path"]
                place[last] = step["value"]
    return manifest


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", manifests(FOLDER), ids=lambda path: path.name)
def test_every_manifest_is_valid(path: Path, version: str):
    found = documents(path.read_text())
    assert found
    for each in found:
        validate(each, version, strict=True)


def test_a_misspelt_member_would_be_noticed(base: list[dict[str, Any]]):
    wrong = named(base, "Deployment", "reprise-server")
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(ValidationError):
        validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("folder", [BASE, COMPONENT, FOLDER / "overlays" / "example"], ids=lambda path: path.name)
def test_no_manifest_is_forgotten(folder: Path):
    listed = {each for each in kustomization(folder)["resources"] if each.endswith(".yaml")}
    assert listed == {each.name for each in manifests(folder)}


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_renders_to_valid_manifests(example: list[dict[str, Any]], version: str):
    assert {each["kind"] for each in example} == {
        *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Namespace", "NetworkPolicy"),
        *("PodDisruptionBudget", "Secret", "Service"),
    }
    for each in example:
        validate(each, version, strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "reprise"


@needs_kubectl
def test_what_the_example_changes_of_haproxy_leaves_the_rest_of_it(
    example: list[dict[str, Any]], base: list[dict[str, Any]]
):
    assert environment_of(example, "reprise-haproxy").keys() == environment_of(base, "reprise-haproxy").keys()


@needs_kubectl
def test_the_component_renders_to_what_the_other_tests_take_it_for(tmp_path: Path, base: list[dict[str, Any]]):
    # Kustomize takes no absolute paths, and no folder outside of the one it was given but as a base.
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (tmp_path / "deploy").symlink_to(FOLDER.parent)
    names = "../deploy/kubernetes/base", "../deploy/kubernetes/components/scale-on-connections"
    (overlay / "kustomization.yaml").write_text(f"resources: [{names[0]}]\ncomponents: [{names[1]}]\n")
    found = rendered(overlay)
    scaler = patched(named(base, "HorizontalPodAutoscaler", "reprise-server"))
    assert named(found, "HorizontalPodAutoscaler", "reprise-server")["spec"] == scaler["spec"]
    server = patched(named(base, "Deployment", "reprise-server"))["spec"]["template"]["metadata"]
    assert named(found, "Deployment", "reprise-server")["spec"]["template"]["metadata"] == server
    assert named(found, "NetworkPolicy", "reprise-server-metrics")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_autoscaler_can_be_told_to_count_readers(base: list[dict[str, Any]], version: str):
    scaler = patched(named(base, "HorizontalPodAutoscaler", "reprise-server"))
    validate(scaler, version, strict=True)
    (metric,) = scaler["spec"]["metrics"]
    assert metric["type"] == "Pods"
    assert int(metric["pods"]["target"]["averageValue"]) <= ServerSettings.model_fields["max_connections"].default / 2


def test_prometheus_is_told_where_a_server_has_its_metrics(base: list[dict[str, Any]]):
    server = patched(named(base, "Deployment", "reprise-server"))
    validate(server, VERSIONS[-1], strict=True)
    (port,) = container_of(base, "reprise-server")["ports"]
    assert server["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port["containerPort"]),
        "prometheus.io/path": "/metrics",
    }


def test_haproxy_has_a_place_for_every_server_that_the_autoscaler_may_start(base: list[dict[str, Any]]):
    places = {int(each) for each in re.findall(r"server-template \S+ (\d+) ", HAPROXY.read_text())}
    most = named(base, "HorizontalPodAutoscaler", "reprise-server")["spec"]["maxReplicas"]
    surge = named(base, "Deployment", "reprise-server")["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    assert min(places) >= most + surge


def test_whether_haproxy_is_ready_does_not_depend_on_a_server(base: list[dict[str, Any]]):
    (own,) = re.findall(r"^ *monitor-uri (\S+)$", HAPROXY.read_text(), re.MULTILINE)
    container = container_of(base, "reprise-haproxy")
    for probe in ("readinessProbe", "livenessProbe"):
        assert "exec" not in container[probe]
        assert container[probe].get("httpGet", {"path": own})["path"] == own


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_whatever_selects_pods_selects_those_of_its_deployment(base: list[dict[str, Any]], name: str):
    deployment = named(base, "Deployment", name)["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    assert deployment["selector"]["matchLabels"].items() <= labels
    assert named(base, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"].items() <= labels
    assert named(base, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"].items() <= labels
    for service in ("reprise-server", "reprise"):
        selector = named(base, "Service", service)["spec"]["selector"]
        wanted = {"reprise-server": "reprise-server", "reprise": "reprise-haproxy"}[service]
        assert (selector.items() <= labels) == (name == wanted)


def test_only_haproxy_may_connect_to_a_server_and_nobody_to_a_worker(base: list[dict[str, Any]]):
    (rule,) = named(base, "NetworkPolicy", "reprise-server")["spec"]["ingress"]
    (peer,) = rule["from"]
    haproxy = named(base, "Deployment", "reprise-haproxy")["spec"]["template"]["metadata"]["labels"]
    assert peer == {"podSelector": {"matchLabels": haproxy}}
    assert named(base, "NetworkPolicy", "reprise-worker")["spec"]["ingress"] == []


@pytest.mark.parametrize("name", ["reprise-server", "reprise-worker"])
def test_a_pod_has_more_time_to_end_than_its_process_takes(base: list[dict[str, Any]], name: str):
    drain_seconds = float(generated(BASE, "configMapGenerator", "reprise-settings")["REPRISE_DRAIN_SECONDS"])
    needed = pre_stop_seconds(container_of(base, name)) + drain_seconds + LEAVE_SECONDS
    assert pod_of(base, name)["terminationGracePeriodSeconds"] >= needed


def test_the_readers_of_a_haproxy_that_goes_leave_as_their_streams_end(base: list[dict[str, Any]]):
    seconds = int((environment_of(base, "reprise-haproxy")["PROXY_SOFT_STOP"] or "").removesuffix("s"))
    assert seconds >= ServerSettings.model_fields["max_stream_seconds"].default
    needed = pre_stop_seconds(container_of(base, "reprise-haproxy")) + seconds
    assert pod_of(base, "reprise-haproxy")["terminationGracePeriodSeconds"] >= needed


def test_every_setting_in_the_manifests_is_one(base: list[dict[str, Any]]):
    names = {f"REPRISE_{each.upper()}" for each in [*ServerSettings.model_fields, *ServerSettings.sibling_names]}
    given = set(generated(BASE, "configMapGenerator", "reprise-settings"))
    for name in ("reprise-server", "reprise-worker"):
        given |= environment_of(base, name).keys()
    assert given <= names


def test_haproxy_reads_every_variable_that_it_is_given(base: list[dict[str, Any]]):
    read = set(re.findall(r"\$\{(\w+)-", HAPROXY.read_text()))
    assert environment_of(base, "reprise-haproxy").keys() <= read


@pytest.mark.parametrize("name", ["reprise-server", "reprise-worker"])
def test_the_password_of_redis_is_a_file_that_the_url_names(base: list[dict[str, Any]], name: str):
    secret = generated(FOLDER / "overlays" / "example", "secretGenerator", "reprise-redis")
    (volume,) = [each for each in pod_of(base, name)["volumes"] if "secret" in each]
    (mount,) = [each for each in container_of(base, name)["volumeMounts"] if each["name"] == volume["name"]]
    # With a `subPath` it would never be renewed.
    assert "subPath" not in mount
    (item,) = volume["secret"]["items"]
    assert item["key"] in secret
    assert parse_address(secret["url"]).password_file == f"{mount['mountPath']}/{item['path']}"
    assert [each for each in container_of(base, name)["env"] if each.get("valueFrom", {}).get("secretKeyRef")] == [
        {"name": "REPRISE_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "reprise-redis", "key": "url"}}}
    ]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_pod_runs_as_root_or_can_become_it(base: list[dict[str, Any]], name: str):
    assert {each["metadata"]["name"] for each in base if each["kind"] == "Deployment"} == set(DEPLOYMENTS)
    pod, container = pod_of(base, name), container_of(base, name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
