"""The chart says nothing that the code says otherwise: names, versions, CRDs, files."""

import re
from pathlib import Path

import pytest
import yaml

from reconciler.sandbox.install import COLLECTIONS, documents
from reconciler.sandbox.shipped import shipped
from schema import names
from schema.version import __version__

ROOT = Path(__file__).parents[2]
CHART = shipped("chart")


def test_the_checkout_is_used_and_its_version_is_ours():
    assert CHART == ROOT / "charts" / "ttfleet"
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_crds_are_the_schemas_own_not_a_copy():
    assert (CHART / "crds").resolve() == ROOT / "schema" / "crds"
    assert list((CHART / "crds").glob("*.yaml"))


def test_the_templates_load_every_file_that_the_sandbox_installs():
    template = (CHART / "templates" / "access.yaml").read_text()
    loaded = set(re.findall(r'"(\w+)"', template.split("tuple")[1].split("}}")[0]))
    assert loaded == {path.stem for path in (CHART / "files").iterdir()}


def test_files_hold_no_template_and_one_substitution():
    for path in (CHART / "files").iterdir():
        assert "{{" not in path.read_text(), path


def test_documents_name_only_the_given_namespace():
    found = list(documents("fleet-system"))
    assert {document["kind"] for document in found} <= set(COLLECTIONS)
    accounts = {d["metadata"]["name"] for d in found if d["kind"] == "ServiceAccount"}
    assert accounts == {
        names.SERVICE_ACCOUNT_OPERATOR,
        names.SERVICE_ACCOUNT_RECONCILER,
        names.SERVICE_ACCOUNT_BUILDER,
    }
    namespaces = {d["metadata"].get("namespace", "fleet-system") for d in found}
    subjects = {s["namespace"] for d in found for s in d.get("subjects", ())}
    assert namespaces == subjects == {"fleet-system"}
    assert "NAMESPACE" not in str(found)


@pytest.fixture(scope="module")
def fence():
    return next(d for d in documents("fleet-system") if d["kind"] == "ValidatingAdmissionPolicy")["spec"]


def test_the_fence_knows_the_builders_names(fence):
    condition = fence["matchConditions"][0]["expression"]
    assert f"'system:serviceaccount:fleet-system:{names.SERVICE_ACCOUNT_BUILDER}'" in condition
    variables = {v["name"]: re.findall(r"'([^']+)'", v["expression"]) for v in fence["variables"]}
    assert variables["L"] == [names.LABEL_INSTALL_MODE, names.LABEL_KMD_VERSION]
    assert variables["A"] == [names.ANNOTATION_HOST_FACTS, names.ANNOTATION_CLAIM]
    assert f"'{names.MANAGER_BUILDER}'" in fence["validations"][0]["expression"]


def test_the_fence_fails_closed_and_answers_403(fence):
    assert fence["failurePolicy"] == "Fail"
    assert {validation["reason"] for validation in fence["validations"]} == {"Forbidden"}
    binding = next(d for d in documents("x") if d["kind"] == "ValidatingAdmissionPolicyBinding")
    assert binding["spec"]["validationActions"] == ["Deny"]


def test_deployments_avoid_nodes_with_cards():
    assert names.LABEL_PRESENT in (CHART / "templates" / "_pod.tpl").read_text()


def test_every_value_is_used_and_every_used_value_exists():
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    whole = {"releases", "imagePullSecrets", "tolerations", "nodeSelector"}
    known = {
        f"{section}.{key}" for section, keys in values.items() if section not in whole for key in keys
    } | whole
    assert used == known
