"""Airflow's own code reads the provider's metadata and renders the connection form from it."""

import json
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.util import find_spec

import airflow
import jsonschema
import pytest

from airflow_provider_polar.get_provider_info import get_provider_info
from airflow_provider_polar.hooks import connection_form


def test_the_entry_point_leads_to_the_metadata():
    [found] = [
        e for e in entry_points(group="apache_airflow_provider") if e.module.startswith("airflow_provider_polar")
    ]
    assert found.name == "provider_info"
    assert found.load()() == get_provider_info()


def test_the_metadata_keeps_to_airflow_s_schema():
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_module_of_the_metadata_can_be_imported():
    from importlib import import_module

    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info.get(kind, []):
            for module in entry["python-modules"]:
                import_module(module)


def test_each_field_takes_its_default_and_nothing():
    for name, described in connection_form.CONN_FIELDS.items():
        validator = jsonschema.Draft202012Validator(described["schema"])
        assert "null" in described["schema"]["type"], name
        validator.validate(described["schema"].get("default"))


def test_airflow_s_form_shows_polar():
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:
        pytest.skip("this Airflow has no form metadata service")
    [polar] = [m for m in HookMetaService.hook_meta_data() if m.connection_type == "polar"]
    assert polar.hook_name == "Polar"
    if polar.extra_fields is None and airflow.__version__.startswith("3.0.") and not find_spec("flask_appbuilder"):
        pytest.skip("Airflow 3.0 shows no provider's own fields unless Flask AppBuilder is installed")
    assert set(polar.extra_fields) == set(connection_form.CONN_FIELDS)
    assert polar.standard_fields.password.title == "Access Token"
    assert polar.standard_fields.host.title == "Base URL"
    assert polar.standard_fields.url_schema.hidden


def test_the_methods_of_older_airflows_say_the_same():
    from airflow_provider_polar.hooks.polar import PolarHook

    [described] = get_provider_info()["connection-types"]
    behaviour = PolarHook.get_ui_field_behaviour()
    assert {k.replace("_", "-"): v for k, v in behaviour.items()} == described["ui-field-behaviour"]


def test_the_widgets_of_older_airflows(monkeypatch):
    """Rendered by Airflow's own stand-ins for wtforms, as its API server did before 3.2 and still can."""
    from unittest.mock import MagicMock

    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as Forms
    except ImportError:
        pytest.skip("this Airflow has no form metadata service")
    wtforms = MagicMock(StringField=Forms.MockStringField, IntegerField=Forms.MockIntegerField)
    wtforms.BooleanField = Forms.MockBooleanField
    checks = MagicMock(Optional=Forms.MockOptional, any_of=Forms.MockEnum)
    monkeypatch.setitem(sys.modules, "wtforms", wtforms)
    monkeypatch.setitem(sys.modules, "wtforms.validators", checks)
    monkeypatch.setitem(sys.modules, "flask_appbuilder", MagicMock())
    monkeypatch.setitem(sys.modules, "flask_appbuilder.fieldwidgets", MagicMock())
    rendered = {name: field.param.dump() for name, field in connection_form.widgets().items()}
    assert set(rendered) == set(connection_form.CONN_FIELDS)
    assert rendered["environment"]["schema"]["enum"] == ["production", "sandbox"]
    assert rendered["environment"]["value"] == "production"
    assert rendered["allow_http"]["schema"]["type"] == ["boolean", "null"]
    assert rendered["requests_per_minute"]["schema"]["type"] == ["integer", "null"]


def test_the_link_in_airflow_s_list_of_providers():
    """The page takes each word with an address in it for a link, after it has taken the marks of the markup away."""
    from airflow.cli.commands.provider_command import _remove_rst_syntax

    words = _remove_rst_syntax(get_provider_info()["description"]).split(" ")
    assert [word for word in words if "://" in word] == ["https://polar.sh/"]
