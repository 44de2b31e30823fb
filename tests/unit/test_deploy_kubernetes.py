"""deploy/kubernetes: what Kustomize makes of it is valid for the API of Kubernetes, and fits together."""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml

from server.settings import ServerSettings

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
#: The oldest one whose HorizontalPodAutoscaler and probes these files use, and the newest whose schemas there are.
VERSIONS = ("1.29.0", "1.37.0")
#: Of a server and of a worker, beyond its drain: see docs/settings.md.
LEAVE_SECONDS = 8
validate: Any = import_module("kubernetes_validate").validate
ValidationError: Any = import_module("kubernetes_validate").ValidationError

#: Debian has only one that is too old to render components; where there is none, the files are validated as they are.
needs_kubectl = pytest.mark.skipif(which("kubectl") is None, reason="there is no kubectl here to render them")


def documents(text: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(text) if found]


def rendered(folder: Path) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return documents(done.stdout)


def manifests() -> list[Path]:
    return sorted(each for each in FOLDER.rglob("*.yaml") if each.name != "kustomization.yaml")


@pytest.fixture(scope="module")
def example() -> list[dict[str, Any]]:
    return rendered(FOLDER / "overlays" / "example")


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (only,) = [each for each in found if each["kind"] == kind and each["metadata"]["name"] == name]
    return only


def pod_of(found: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return named(found, "Deployment", name)["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.name)
def test_every_manifest_is_valid(path: Path, version: str):
    found = documents(path.read_text())
    assert found
    for each in found:
        validate(each, version, strict=True)


def test_a_misspelt_member_would_be_noticed():
    wrong = documents((FOLDER / "base" / "server.yaml").read_text())[0]
    wrong["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(ValidationError):
        validate(wrong, VERSIONS[-1], strict=True)


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_renders_to_valid_manifests(example: list[dict[str, Any]], version: str):
    assert {each["kind"] for each in example} == {
        *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Namespace", "PodDisruptionBudget"),
        *("Secret", "Service"),
    }
    for each in example:
        validate(each, version, strict=True)
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == "reprise"


@needs_kubectl
def test_the_autoscaler_can_be_told_to_count_readers(tmp_path: Path):
    # Kustomize takes no absolute paths, and no folder outside of the one it was given but as a base.
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (tmp_path / "deploy").symlink_to(FOLDER.parent)
    base, component = "../deploy/kubernetes/base", "../deploy/kubernetes/components/scale-on-connections"
    (overlay / "kustomization.yaml").write_text(f"resources: [{base}]\ncomponents: [{component}]\n")
    scaler = named(rendered(overlay), "HorizontalPodAutoscaler", "reprise-server")
    for version in VERSIONS:
        validate(scaler, version, strict=True)
    assert [each["type"] for each in scaler["spec"]["metrics"]] == ["Pods"]


@needs_kubectl
@pytest.mark.parametrize("name", ["reprise-server", "reprise-worker", "reprise-haproxy"])
def test_whatever_selects_pods_selects_those_of_its_deployment(example: list[dict[str, Any]], name: str):
    deployment = named(example, "Deployment", name)["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    assert deployment["selector"]["matchLabels"].items() <= labels
    assert named(example, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"].items() <= labels
    for service in ("reprise-server", "reprise"):
        selector = named(example, "Service", service)["spec"]["selector"]
        wanted = {"reprise-server": "reprise-server", "reprise": "reprise-haproxy"}[service]
        assert (selector.items() <= labels) == (name == wanted)


@needs_kubectl
@pytest.mark.parametrize("name", ["reprise-server", "reprise-worker"])
def test_a_pod_has_more_time_to_end_than_its_process_takes(example: list[dict[str, Any]], name: str):
    pod = pod_of(example, name)
    (container,) = pod["containers"]
    settings = next(each["data"] for each in example if "reprise-settings" in each["metadata"]["name"])
    before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    needed = int(before[1]) + float(settings["REPRISE_DRAIN_SECONDS"]) + LEAVE_SECONDS
    assert pod["terminationGracePeriodSeconds"] > needed - 1, f"{name} needs {needed} s"


@needs_kubectl
def test_every_setting_in_the_manifests_is_one(example: list[dict[str, Any]]):
    names = {f"REPRISE_{each.upper()}" for each in [*ServerSettings.model_fields, *ServerSettings.sibling_names]}
    given = {name for each in example if each["kind"] == "ConfigMap" for name in each["data"]}
    for name in ("reprise-server", "reprise-worker"):
        given |= {each["name"] for each in pod_of(example, name)["containers"][0]["env"]}
    assert {each for each in given if each.startswith("REPRISE_")} <= names


@needs_kubectl
def test_no_pod_runs_as_root_or_can_become_it(example: list[dict[str, Any]]):
    for each in example:
        if each["kind"] == "Deployment":
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["enableServiceLinks"] is False
            (container,) = pod["containers"]
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
